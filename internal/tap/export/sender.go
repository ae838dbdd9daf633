package export

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/choose"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/ledger"
)

const (
	retryAfter   = time.Second // between attempts to get a socket, and between templates after errors
	maxFailures  = 8           // errors in a row after which the name is resolved anew
	maxSlices    = 4096        // batches in a queue, whatever their size
	writeTimeout = time.Second // the longest a datagram waits for room in the socket
)

// sender delivers records to one collector. Everything but the queue, the books and the status belongs to run's
// goroutine.
type sender struct {
	target Target
	cfg    Config
	book   *ledger.Book
	log    *slog.Logger

	queue   chan []flow.Record
	queued  atomic.Int64
	flows   atomic.Uint64 // not sent
	packets atomic.Uint64 // not sent
	octets  atomic.Uint64 // not sent

	filter   *choose.Filter
	sample   *choose.Sampler
	enc      encoder
	sequence func(msg []byte) uint32
	stream   *stream // nil over UDP
	conn     *net.UDPConn
	path     pathMTU
	marked   []flow.Record // as they are told, where flows are sampled
	inflight []item        // added to the encoder, not yet sent
	dialAt   time.Time     // no attempt before
	failures int           // in a row
	well     int           // messages since the last error
	untold   bool          // the collector may not know the templates
	toldAt   time.Time
	since    uint64   // datagrams since the templates were sent
	told     interval // what the last options said of the stages
	tooBig   bool     // the last message was too long for the path
	rewind   uint32   // sequence number of the first message that was too long

	mu sync.Mutex
	st Status
}

// item is a record in the encoder, with the other half of a biflow.
type item struct{ r, back *flow.Record }

func (i item) records() int {
	if i.back != nil {
		return 2
	}
	return 1
}

func newSender(t Target, c Config) (*sender, error) {
	s := &sender{
		target: t, cfg: c, log: c.Logger.With("collector", t.String()),
		book:   ledger.New(Stage, ledger.Records, dropReasons...),
		queue:  make(chan []flow.Record, min(c.Queue, maxSlices)),
		sample: choose.NewSampler(t.Sample),
		st:     Status{Target: t.String()},
	}
	s.enc, s.sequence = newEncoder(&t, c.Wait)
	var err error
	if s.filter, err = choose.NewFilter(t.Filter); err == nil && t.stream() {
		s.stream, err = newStream(s)
	}
	return s, err
}

func (s *sender) status() Status {
	s.mu.Lock()
	st := s.st
	s.mu.Unlock()
	if s.stream != nil {
		s.stream.status(&st)
	}
	return st
}

// offer puts a batch into the queue. Without room it is dropped, or waits where that is wanted.
func (s *sender) offer(ctx context.Context, batch []flow.Record) {
	n := len(batch)
	if n == 0 {
		return
	}
	s.book.In(n)
	s.book.Hold(n)
	if s.cfg.Wait {
		select {
		case s.queue <- batch:
		case <-ctx.Done():
			s.drop(DropStopped, batch)
		}
		return
	}
	if queued := s.queued.Load(); queued > 0 && queued+int64(n) > int64(s.cfg.Queue) {
		s.drop(DropQueue, batch)
		return
	}
	s.queued.Add(int64(n))
	select {
	case s.queue <- batch:
	default:
		s.queued.Add(int64(-n))
		s.drop(DropQueue, batch)
	}
}

// drop takes held records out of the books and counts what the collector will be told.
func (s *sender) drop(reason int, batch []flow.Record) {
	s.book.Hold(-len(batch))
	s.book.Drop(reason, len(batch))
	for i := range batch {
		s.notSent(&batch[i])
	}
}

// pass takes one record out of the books that the target does not want or cannot be told.
func (s *sender) pass(reason int) {
	s.book.Hold(-1)
	s.book.Drop(reason, 1)
}

// dropItems is drop for items that the encoder has taken.
func (s *sender) dropItems(reason int, items []item) {
	for _, i := range items {
		s.book.Hold(-i.records())
		s.book.Drop(reason, i.records())
		s.notSent(i.r)
		if i.back != nil {
			s.notSent(i.back)
		}
	}
}

func (s *sender) notSent(r *flow.Record) {
	s.flows.Add(1)
	s.packets.Add(r.Packets)
	s.octets.Add(r.Octets)
}

// run sends until the queue is closed and empty, or ctx ends.
func (s *sender) run(ctx context.Context) error {
	defer s.close()
	defer context.AfterFunc(ctx, s.interrupt)()
	if s.stream != nil {
		stop := s.stream.start(ctx)
		defer stop()
	}
	if e, ok := s.enc.(v5); ok { // its first header tells how packets are chosen
		x := s.about()
		_ = e.About(&x, time.Now(), s.emit(ctx))
	}
	flush, refresh := time.NewTimer(time.Hour), time.NewTimer(0)
	defer flush.Stop()
	defer refresh.Stop()
	for {
		select {
		case batch, ok := <-s.queue:
			if !ok {
				s.finish(ctx)
				return nil
			}
			if !s.cfg.Wait {
				s.queued.Add(int64(-len(batch)))
			}
			idle := s.enc.Records() == 0
			s.add(ctx, batch)
			if idle && s.enc.Records() > 0 {
				flush.Reset(s.cfg.FlushInterval)
			}
		case <-flush.C:
			s.flush(ctx)
		case now := <-refresh.C:
			refresh.Reset(s.refresh(ctx, now))
		case <-ctx.Done():
			s.halt()
			return nil
		}
	}
}

// finish sends what is left at the end of the line, and tells the last figures.
func (s *sender) finish(ctx context.Context) {
	s.flush(ctx)
	if s.conn != nil || s.stream != nil {
		s.tellAbout(ctx, time.Now())
	}
	if ctx.Err() != nil {
		s.halt()
	}
}

// halt counts everything that will not leave any more.
func (s *sender) halt() {
	s.dropItems(DropStopped, s.inflight)
	s.inflight = nil
	for batch := range s.queue {
		s.drop(DropStopped, batch)
	}
}

// refresh sends the templates, so that a collector that came late, or lost a datagram, can decode, and knows a
// silent exporter from a dead one. Over a connection templates are sent once, and only the options again. It returns the
// time until the next time.
func (s *sender) refresh(ctx context.Context, now time.Time) time.Duration {
	if s.stream == nil {
		if !s.ready(ctx, now) {
			return retryAfter
		}
		s.flush(ctx)
		s.enc.SetMaxLen(s.path.message(s.conn))
		s.tell(ctx, now)
	} else {
		s.flush(ctx)
	}
	s.tellAbout(ctx, now)
	return s.target.Refresh
}

// tell sends every template.
func (s *sender) tell(ctx context.Context, now time.Time) {
	s.untold, s.toldAt, s.since = false, now, 0
	_ = s.enc.Templates(now, s.emit(ctx)) // emit keeps its errors itself
	for s.tooBig {
		s.narrow(ctx)
		_ = s.enc.Templates(now, s.emit(ctx))
	}
	s.count(func(st *Status) { st.Templates++ })
}

// tellAbout sends the options, unless the collector is away: a spool full of old figures helps nobody.
func (s *sender) tellAbout(ctx context.Context, now time.Time) {
	if s.stream != nil && s.stream.isAway() {
		return
	}
	x := s.about()
	s.told.fill(&x, now)
	_ = s.enc.About(&x, now, s.emit(ctx))
	if s.tooBig {
		s.narrow(ctx) // what was too long is told at the next time
	}
}

// about returns what is to be told of the exporter now, but for the interval.
func (s *sender) about() about.Exporter {
	x := about.Exporter{Process: uint32(os.Getpid()), Flows: s.target.Sample}
	x.NotSent = about.Counts{Flows: s.flows.Load(), Packets: s.packets.Load(), Octets: s.octets.Load()}
	st := s.status()
	x.Sent = about.Sent{Messages: st.Messages, Octets: st.Bytes, Flows: s.book.Read().Out}
	if s.cfg.About != nil {
		s.cfg.About(&x)
	}
	return x
}

// add gives a batch to the encoder, which sends each message as it is full.
func (s *sender) add(ctx context.Context, batch []flow.Record) {
	now := time.Now()
	if s.stream == nil && !s.ready(ctx, now) {
		s.drop(DropNoPath, batch)
		return
	}
	if s.stream == nil && (s.untold && now.Sub(s.toldAt) >= retryAfter || s.target.RefreshPackets > 0 && s.since >= s.target.RefreshPackets) {
		s.flush(ctx)
		s.tell(ctx, now)
	}
	for i := 0; i < len(batch); i++ {
		it := item{r: s.choose(&batch[i])}
		if it.r == nil {
			continue
		}
		if s.target.Biflow && i+1 < len(batch) && ipfix.Paired(&batch[i], &batch[i+1]) {
			i++
			it.back = s.choose(&batch[i])
		}
		s.put(ctx, it, now)
		for s.tooBig {
			s.narrow(ctx)
		}
	}
}

// choose returns the record as it is told, nil when the target does not want it.
func (s *sender) choose(r *flow.Record) *flow.Record {
	switch {
	case !s.filter.Passes(r):
		s.pass(DropFiltered)
		return nil
	case !s.sample.Takes(r):
		s.pass(DropSampled)
		return nil
	case s.sample != nil:
		if len(s.marked) == cap(s.marked) { // the old ones may still be on their way
			s.marked = make([]flow.Record, 0, 256)
		}
		s.marked = append(s.marked, s.sample.Mark(*r))
		return &s.marked[len(s.marked)-1]
	}
	return r
}

// put gives one item to the encoder.
func (s *sender) put(ctx context.Context, it item, now time.Time) {
	s.inflight = append(s.inflight, it)
	var err error
	if p, ok := s.enc.(pairEncoder); ok && it.back != nil {
		err = p.AddPair(it.r, it.back, now, s.emit(ctx))
	} else {
		err = s.enc.Add(it.r, now, s.emit(ctx))
	}
	if errors.Is(err, errNoPlace) {
		s.inflight = s.inflight[:len(s.inflight)-1]
		s.dropItems(DropFormat, []item{it})
	}
}

// flush sends the message in the making.
func (s *sender) flush(ctx context.Context) {
	_ = s.enc.Flush(time.Now(), s.emit(ctx))
	for s.tooBig {
		s.narrow(ctx)
		_ = s.enc.Flush(time.Now(), s.emit(ctx))
	}
	s.count(func(st *Status) { st.Omitted = s.enc.Omitted() })
}
