package collect

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/session"
	"crosstap/internal/flow"
)

// portion is what one decoder gets of a batch. The batch is released when all its portions are done.
type portion struct {
	datagrams []listen.Datagram
	shared    *sharedBatch
}

type sharedBatch struct {
	batch listen.Batch
	left  atomic.Int32
}

func (p *portion) done() {
	if p.shared.left.Add(-1) == 0 {
		p.shared.batch.Release()
	}
}

func closeAll(queues []chan portion) {
	for _, q := range queues {
		close(q)
	}
}

// queueWait is how long dispatch waits for a decoder that is behind, before it drops.
const queueWait = 100 * time.Millisecond

// runDispatch spreads datagrams over the decoders, those of one session always to the same, until in closes.
func (c *Collector) runDispatch(ctx context.Context, in <-chan listen.Batch, queues []chan portion) error {
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			c.spread(ctx, b, queues)
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Collector) spread(ctx context.Context, b listen.Batch, queues []chan portion) {
	c.dispatch.In(len(b.Datagrams))
	s := &sharedBatch{batch: b}
	s.left.Store(1) // ours
	defer func() { p := portion{shared: s}; p.done() }()
	if len(queues) == 1 {
		s.left.Add(1)
		c.enqueue(ctx, queues[0], portion{b.Datagrams, s})
		return
	}
	parts := make([][]listen.Datagram, len(queues))
	for i := range b.Datagrams {
		d := &b.Datagrams[i]
		w := decoderOf(d, len(queues))
		parts[w] = append(parts[w], *d)
	}
	for i, part := range parts {
		if len(part) > 0 {
			s.left.Add(1)
			c.enqueue(ctx, queues[i], portion{part, s})
		}
	}
}

// decoderOf chooses the decoder of a datagram's session.
func decoderOf(d *listen.Datagram, n int) int {
	var b [40]byte
	from, local := d.From.Addr().As16(), d.Local.Addr().As16()
	copy(b[:], from[:])
	copy(b[16:], local[:])
	binary.BigEndian.PutUint16(b[32:], d.From.Port())
	binary.BigEndian.PutUint16(b[34:], d.Local.Port())
	return int(xxh3.Hash(b[:]) % uint64(n))
}

// enqueue hands a portion to a decoder. When the decoder stays behind it is dropped and counted; an import waits.
func (c *Collector) enqueue(ctx context.Context, q chan<- portion, p portion) {
	n := len(p.datagrams)
	select {
	case q <- p:
		c.dispatch.Out(n)
		return
	default:
	}
	var late <-chan time.Time
	if !c.cfg.Import {
		t := time.NewTimer(queueWait)
		defer t.Stop()
		late = t.C
	}
	select {
	case q <- p:
		c.dispatch.Out(n)
		return
	case <-late:
	case <-ctx.Done():
	}
	c.dispatch.Drop(dropQueueFull, n)
	c.shed.add(p.datagrams[0].TimeNS, p.datagrams[n-1].TimeNS)
	p.done()
}

// runDecoders decodes until every queue is closed.
func (c *Collector) runDecoders(ctx context.Context, queues []chan portion, out chan<- []flow.Record) error {
	var wg sync.WaitGroup
	for _, q := range queues {
		wg.Go(func() { c.runDecoder(ctx, q, out) })
	}
	wg.Wait()
	return nil
}

func (c *Collector) runDecoder(ctx context.Context, in <-chan portion, out chan<- []flow.Record) {
	for {
		select {
		case p, ok := <-in:
			if !ok {
				return
			}
			c.decodePortion(ctx, &p, out)
		case <-ctx.Done():
			return
		}
	}
}

// decodePortion decodes a portion and passes its records on in batches of a good size.
func (c *Collector) decodePortion(ctx context.Context, p *portion, out chan<- []flow.Record) {
	defer p.done()
	var recs []flow.Record
	have := false
	for i := range p.datagrams {
		if !have {
			select {
			case recs = <-c.spare:
				recs, have = recs[:0], true
			case <-ctx.Done():
				return
			}
		}
		d := &p.datagrams[i]
		recs = c.sessions.Decode(session.Key{Exporter: d.From, Local: d.Local}, d.TimeNS, d.Data, recs)
		if len(recs) >= goodBatch {
			c.pass(ctx, recs, out)
			have = false
		}
	}
	switch {
	case have && len(recs) > 0:
		c.pass(ctx, recs, out)
	case have:
		c.giveBack(recs)
	}
}

func (c *Collector) pass(ctx context.Context, recs []flow.Record, out chan<- []flow.Record) {
	c.decode.In(len(recs))
	select {
	case out <- recs:
		c.decode.Out(len(recs))
	case <-ctx.Done():
		c.decode.Drop(dropInterrupted, len(recs))
	}
}

// giveBack returns a slice for the next batch. One that a strange datagram has made large is left to the
// collector of garbage.
func (c *Collector) giveBack(recs []flow.Record) {
	if cap(recs) > largestSpare {
		recs = nil
	}
	clear(recs) // no strings are kept alive
	select {
	case c.spare <- recs[:0]:
	default:
	}
}

// shedding is the stretch of time in which datagrams were dropped by us since it was last told.
type shedding struct {
	mu           sync.Mutex
	fromNS, toNS int64
	kernel       []kernelDrops // for each listener
}

func (s *shedding) add(fromNS, toNS int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fromNS == 0 || fromNS < s.fromNS {
		s.fromNS = fromNS
	}
	s.toNS = max(s.toNS, toNS)
}

// take returns the stretch and begins anew; ok is false when nothing was dropped.
func (s *shedding) take() (fromNS, toNS int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fromNS, toNS, ok = s.fromNS, s.toNS, s.fromNS != 0
	s.fromNS, s.toNS = 0, 0
	return fromNS, toNS, ok
}
