package collect

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/zeebo/xxh3"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/session"
	"crosstap/internal/flow"
)

// runDispatch spreads datagrams over the decoders, those of one session always to the same, until in closes.
func (c *Collector) runDispatch(ctx context.Context, in <-chan listen.Batch) error {
	parts := make([][]waiting, len(c.queues))
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			c.spread(ctx, b, parts)
		case <-ctx.Done():
			return nil
		}
	}
}

// spread puts the datagrams of a batch into the queues. parts is for its use.
func (c *Collector) spread(ctx context.Context, b listen.Batch, parts [][]waiting) {
	s := &sharedBatch{batch: b, out: &c.underWay}
	s.left.Store(int32(len(b.Datagrams)) + 1) // one is ours
	defer s.done()
	tight := c.underWay.Add(1) > c.tight && !c.cfg.Import
	for i := range b.Datagrams {
		d := &b.Datagrams[i]
		if !d.End {
			c.dispatch.In(1)
			c.dispatch.Hold(1)
			c.replicate(d)
		}
		w := decoderOf(d, len(parts))
		parts[w] = append(parts[w], waiting{*d, s})
	}
	for i, part := range parts {
		if len(part) == 0 {
			continue
		}
		if c.cfg.Import {
			c.queues[i].wait(ctx)
		}
		c.queues[i].push(part, tight)
		clear(part)
		parts[i] = part[:0]
	}
}

// decoderOf chooses the decoder of a datagram's session.
func decoderOf(d *listen.Datagram, n int) int {
	if n == 1 {
		return 0
	}
	var b [40]byte
	from, local := d.From.Addr().As16(), d.Local.Addr().As16()
	copy(b[:], from[:])
	copy(b[16:], local[:])
	binary.BigEndian.PutUint16(b[32:], d.From.Port())
	binary.BigEndian.PutUint16(b[34:], d.Local.Port())
	return int(xxh3.Hash(b[:]) % uint64(n))
}

// drop counts datagrams that were shed, at their exporters too.
func (c *Collector) drop(shed []waiting) {
	for i := range shed {
		w := &shed[i]
		c.dispatch.Hold(-1)
		c.dispatch.Drop(dropQueueFull, 1)
		c.shed.add(w.TimeNS, w.TimeNS)
		c.sessions.Shed(keyOf(&w.Datagram))
		w.shared.done()
	}
}

func keyOf(d *listen.Datagram) session.Key {
	return session.Key{Exporter: d.From, Local: d.Local, Conn: d.Conn}
}

// runDecoders decodes until every queue is closed and empty.
func (c *Collector) runDecoders(ctx context.Context, out chan<- []flow.Record) error {
	var wg sync.WaitGroup
	for _, q := range c.queues {
		wg.Go(func() { c.runDecoder(ctx, q, out) })
	}
	wg.Wait()
	return nil
}

// decodeAtOnce is how many datagrams a decoder takes from its queue at once.
const decodeAtOnce = 64

func (c *Collector) runDecoder(ctx context.Context, q *fairQueue, out chan<- []flow.Record) {
	room := make([]waiting, 0, decodeAtOnce)
	var recs []flow.Record
	have := false
	for {
		items, empty := q.pop(ctx, room)
		if len(items) == 0 {
			if have && len(recs) > 0 {
				c.pass(ctx, recs, out)
			}
			return
		}
		for i := range items {
			if !have {
				select {
				case recs = <-c.spare:
					recs, have = recs[:0], true
				case <-ctx.Done():
					return
				}
			}
			if recs = c.decodeOne(&items[i], recs); len(recs) >= goodBatch {
				c.pass(ctx, recs, out)
				have = false
			}
		}
		clear(items)
		if have && empty && len(recs) > 0 && !c.cfg.Import { // of an import batches are what they are whoever has time when
			c.pass(ctx, recs, out)
			have = false
		}
	}
}

// decodeOne decodes a datagram and gives it back.
func (c *Collector) decodeOne(w *waiting, recs []flow.Record) []flow.Record {
	defer w.shared.done()
	if w.End {
		c.sessions.Close(keyOf(&w.Datagram))
		return recs
	}
	c.dispatch.Hold(-1)
	c.dispatch.Out(1)
	return c.sessions.Decode(keyOf(&w.Datagram), w.TimeNS, w.Data, recs)
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
// collector of garbage. The strings in others live until they are overwritten: they are few.
func (c *Collector) giveBack(recs []flow.Record) {
	if cap(recs) > largestSpare {
		recs = nil
	}
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
