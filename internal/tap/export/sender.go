package export

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/ledger"
)

const (
	retryAfter   = time.Second // between attempts to get a socket, and between templates after errors
	maxFailures  = 8           // errors in a row after which the name is resolved anew
	maxSlices    = 4096        // batches in a queue, whatever their size
	writeTimeout = time.Second // the longest a message waits for room in the socket
)

// Status is the state of one collector.
type Status struct {
	Target     string // URL
	Local      string // address of the socket, "" when there is none
	MaxMessage int    // bytes of the largest message sent
	Messages   uint64
	Bytes      uint64 // of messages, without UDP and IP header
	Templates  uint64 // times that all templates were sent
	Refused    uint64 // messages after which the collector's host said that nobody listens
	TooBig     uint64 // times the path turned out narrower than thought
	Failed     uint64 // messages that the system did not take
	Omitted    uint64 // records whose VTEPs the profile could not tell
	LastError  string
	LastErrAt  time.Time
}

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

	enc      *ipfix.Encoder
	conn     *net.UDPConn
	path     pathMTU
	inflight []*flow.Record // added to the encoder, not yet sent
	dialAt   time.Time      // no attempt before
	failures int            // in a row
	untold   bool           // the collector may not know the templates
	toldAt   time.Time
	tooBig   bool // the last message was too long for the path

	mu sync.Mutex
	st Status
}

func newSender(t Target, c Config) *sender {
	return &sender{
		target: t, cfg: c, log: c.Logger.With("collector", t.String()),
		book:  ledger.New(Stage, ledger.Records, dropReasons...),
		queue: make(chan []flow.Record, min(c.Queue, maxSlices)),
		enc:   ipfix.NewEncoder(ipfix.EncoderConfig{Profile: t.Profile, Domain: t.Domain, MaxLen: maxMessage(t.MTU, false)}),
		st:    Status{Target: t.String()},
	}
}

func (s *sender) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st
}

// offer puts a batch into the queue. Without room it is dropped, or waits where that is wanted.
func (s *sender) offer(ctx context.Context, batch []flow.Record) {
	n := len(batch)
	if n == 0 {
		return
	}
	s.book.In(n)
	if s.cfg.Wait {
		s.book.Hold(n)
		select {
		case s.queue <- batch:
		case <-ctx.Done():
			s.drop(DropStopped, batch)
		}
		return
	}
	s.book.Hold(n)
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

// dropInflight is drop for the first n records that the encoder has taken.
func (s *sender) dropInflight(reason, n int) {
	s.book.Hold(-n)
	s.book.Drop(reason, n)
	for _, r := range s.inflight[:n] {
		s.notSent(r)
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
			s.stop()
			return nil
		}
	}
}

// finish sends what is left at the end of the line.
func (s *sender) finish(ctx context.Context) {
	s.flush(ctx)
	if ctx.Err() != nil {
		s.stop()
	}
}

// stop counts everything that will not leave any more.
func (s *sender) stop() {
	s.dropInflight(DropStopped, len(s.inflight))
	s.inflight = nil
	for batch := range s.queue {
		s.drop(DropStopped, batch)
	}
}

// refresh sends the templates, so that a collector that came late, or lost a datagram, can decode, and knows a
// silent exporter from a dead one. It returns the time until the next time.
func (s *sender) refresh(ctx context.Context, now time.Time) time.Duration {
	if !s.ready(ctx, now) {
		return retryAfter
	}
	s.flush(ctx)
	s.enc.SetMaxLen(s.path.message(s.conn))
	s.tell(ctx, now)
	return s.target.Refresh
}

// tell sends every template, and what was not sent so far.
func (s *sender) tell(ctx context.Context, now time.Time) {
	s.untold, s.toldAt = false, now
	_ = s.enc.Templates(now, s.emit(ctx)) // emit keeps its errors itself
	for s.tooBig {
		s.narrow(ctx)
		_ = s.enc.Templates(now, s.emit(ctx))
	}
	lost := ipfix.NotSent{Flows: s.flows.Load(), Packets: s.packets.Load(), Octets: s.octets.Load()}
	_ = s.enc.Report(uint32(os.Getpid()), lost, now, s.emit(ctx))
	s.count(func(st *Status) { st.Templates++ })
}

// add gives a batch to the encoder, which sends each message as it is full.
func (s *sender) add(ctx context.Context, batch []flow.Record) {
	now := time.Now()
	if !s.ready(ctx, now) {
		s.drop(DropNoPath, batch)
		return
	}
	if s.untold && now.Sub(s.toldAt) >= retryAfter {
		s.flush(ctx)
		s.tell(ctx, now)
	}
	for i := range batch {
		s.inflight = append(s.inflight, &batch[i])
		_ = s.enc.Add(&batch[i], now, s.emit(ctx))
		if s.tooBig {
			s.narrow(ctx)
		}
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

// narrow makes messages shorter after one was too long for the path, and encodes anew what did not leave.
func (s *sender) narrow(ctx context.Context) {
	again := s.inflight
	for s.tooBig {
		s.tooBig = false
		n := s.path.narrower(s.conn, s.enc.MaxLen())
		s.enc.Retract(len(again) - s.enc.Records())
		s.enc.SetMaxLen(n)
		s.count(func(st *Status) { st.TooBig++; st.MaxMessage = s.enc.MaxLen() })
		s.log.Warn("path is narrower than thought", "max_message_bytes", s.enc.MaxLen())
		s.inflight = nil
		for i, r := range again {
			s.inflight = append(s.inflight, r)
			_ = s.enc.Add(r, time.Now(), s.emit(ctx))
			if s.tooBig {
				again = append(s.inflight, again[i+1:]...)
				break
			}
		}
	}
}

// emit returns the function that sends a finished message of n records.
func (s *sender) emit(ctx context.Context) func(msg []byte, n int) error {
	return func(msg []byte, n int) error {
		err := s.write(ctx, msg)
		if errors.Is(err, syscall.EMSGSIZE) && s.path.canNarrow(len(msg)) {
			s.tooBig = true
			return err
		}
		if err != nil {
			s.dropInflight(DropSend, n)
		} else {
			s.book.Hold(-n)
			s.book.Out(n)
		}
		s.inflight = s.inflight[:copy(s.inflight, s.inflight[n:])]
		if err != nil {
			s.failed(err)
			return err
		}
		s.failures = 0
		s.count(func(st *Status) { st.Messages++; st.Bytes += uint64(len(msg)) })
		return nil
	}
}

// write sends one datagram. "Connection refused" is what the collector's host said of an earlier one; then
// this one has not been sent yet and is sent again.
func (s *sender) write(ctx context.Context, msg []byte) error {
	if s.conn == nil {
		return net.ErrClosed
	}
	var err error
	for range 2 {
		if ctx.Err() == nil {
			_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		_, err = s.conn.Write(msg)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		s.untold = true
		s.count(func(st *Status) { st.Refused++ })
		s.note(err)
	}
	return err
}

// failed takes note of a message that the system did not take, and gives the socket up after many.
func (s *sender) failed(err error) {
	s.untold = true
	s.failures++
	s.count(func(st *Status) { st.Failed++ })
	s.note(err)
	if s.failures >= maxFailures && !errors.Is(err, syscall.ECONNREFUSED) {
		s.close()
	}
}

// note keeps the last error for the status; the log hears of the first in a row only.
func (s *sender) note(err error) {
	s.mu.Lock()
	fresh := s.st.LastError != err.Error() || time.Since(s.st.LastErrAt) > time.Minute
	s.st.LastError, s.st.LastErrAt = err.Error(), time.Now()
	s.mu.Unlock()
	if fresh && !errors.Is(err, os.ErrClosed) {
		s.log.Warn("cannot send flows", "error", err)
	}
}

func (s *sender) count(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.st)
}
