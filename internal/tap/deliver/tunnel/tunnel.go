// Package tunnel delivers copies of frames to tools: wrapped in VXLAN, GRE, ERSPAN, Geneve or UDP, or as they are through an
// interface of the host.
//
// A Sink is made by New, which opens nothing. Open looks at the way to the tool before the first copy (route, path MTU, listener,
// loops) and may refuse; Run sends.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Config is what a sink is made from.
type Config struct {
	Target Target
	// Tapped are the interfaces that frames are captured from, in the network namespace of the file TappedNetNS ("" for the
	// process's own); none for a capture file.
	Tapped      []string
	TappedNetNS string
	IngressOnly bool // what leaves through them is not captured
	// Patient says that frames come from a file: the sink waits for the kernel's queues, where it drops frames of a live tap.
	Patient bool
	Log     *slog.Logger // nil for none
}

// Reasons under which a sink drops frames.
const (
	DropTooBig  = iota // longer than the path or the interface takes
	DropRoute          // no way to the tool
	DropRefused        // the tool has no listener, and copies pause
	DropBuffers        // the kernel's queues are full
	DropRate           // above the rate that was given
	DropLink           // not an Ethernet frame, nor one that can be made of it
	DropLoop           // the breaker has tripped
	DropSend           // the kernel refused for another reason
	DropStopped        // the run was broken off
)

var reasonsOf = [...]string{"too_big", "no_route", "refused", "no_buffers", "over_rate", "other_link_type", "loop", "send_failed", "stopped"}

// Sink sends frames to one tool. Its methods but Open and Run are safe for concurrent use.
type Sink struct {
	cfg     Config
	log     *slog.Logger
	book    *ledger.Book
	encap   encap
	d       *dissect.Dissector
	p       dissect.Packet
	way     way
	lanes   []*lane
	rate    bucket
	guard   breaker
	absent  absence
	failure failure
	limit   int // most bytes of a frame that fit into one packet of the path; 0 for no limit

	warnedAt [len(reasonsOf)]time.Time

	sliced, split, refusals atomic.Uint64 // frames cut to the path, sent in fragments, answered by ICMP

	mu     sync.Mutex
	report Report
}

// New returns a sink. All mistakes of the target are found here.
func New(c Config) (*Sink, error) {
	if err := c.Target.validate(); err != nil {
		return nil, err
	}
	s := &Sink{cfg: c, log: c.Log, book: ledger.New("deliver", ledger.Frames, reasonsOf[:]...)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.encap = newEncap(&c.Target)
	s.d = c.Target.dissector()
	s.rate = bucket{bits: c.Target.Rate}
	s.absent.pause = c.Target.Absent == Pause
	return s, nil
}

// Book returns the sink's account. Out counts the copies that the kernel took.
func (s *Sink) Book() *ledger.Book { return s.book }

// Where returns the destination as a URL.
func (s *Sink) Where() string { return s.cfg.Target.String() }

// Note is a count of something that is no loss, or not surely one.
type Note struct {
	What string
	N    uint64
}

// Notes returns what happened to copies besides being sent or dropped, the counters that are zero left out.
func (s *Sink) Notes() (all []Note) {
	for _, n := range []Note{
		{"frames cut to fit the path", s.sliced.Load()}, {"frames sent in fragments", s.split.Load()},
		{"ICMP errors for copies: nothing listens at the tool", s.refusals.Load()}, {"copies of our own copies seen", s.guard.seen.Load()},
	} {
		if n.N > 0 {
			all = append(all, n)
		}
	}
	return all
}

// Report is what was found out about the way to the tool.
type Report struct {
	Source    string // our address
	Tool      string // its address and port, or the interface
	Interface string // that the route leaves through
	PathMTU   int    // as far as the kernel knows
	Overhead  int    // bytes that the encapsulation adds, outer IP header included
	Fits      int    // most bytes of a frame that fit into one packet
	Largest   int    // frame that the tapped interfaces can have; 0 when not known
	Decision  string // what happens to frames that do not fit
	Exclusion string // the filter expression for our own copies; "" when none can be written
	Refused   bool   // the tool answered the probe: nothing listens
}

// Report returns what Open found out.
func (s *Sink) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// Exclusion returns the filter expression that matches our own copies on their way; "" when there is none.
func (s *Sink) Exclusion() string { return s.Report().Exclusion }

// Open finds the way to the tool and makes the sockets. Its error says why nothing must be sent. When it fails, or when Run is not called
// after it, Close gives the sockets back.
func (s *Sink) Open(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		s.Close()
		return fmt.Errorf("deliver: %s: %w", s.Where(), err)
	}
	return nil
}

// Close closes the sockets.
func (s *Sink) Close() {
	for _, l := range s.lanes {
		l.close()
	}
	s.lanes = nil
}

var errNotOpen = errors.New("not opened")

const lookInterval = 200 * time.Millisecond // at the sockets' error queues, and at absent tools

// Run sends the frames of every batch from in, which it releases, until in is closed or ctx ends.
func (s *Sink) Run(ctx context.Context, in <-chan frame.Batch) error {
	if s.lanes == nil {
		return fmt.Errorf("deliver: %s: %w", s.Where(), errNotOpen)
	}
	defer s.Close()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				s.look(time.Now())
				return nil
			}
			s.batch(ctx, b.Frames)
			b.Release()
		case now := <-tick.C:
			s.look(now)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// batch sends frames.
func (s *Sink) batch(ctx context.Context, frames []frame.Frame) {
	s.book.In(len(frames))
	s.book.Hold(len(frames))
	now := time.Now()
	if drop := s.paused(now); drop >= 0 {
		s.drop(drop, len(frames))
		return
	}
	s.rate.refill(now)
	for i := range frames {
		s.frame(ctx, &frames[i])
	}
	for _, l := range s.lanes {
		s.flush(ctx, l)
	}
}

// paused returns the reason for which nothing is sent now, -1 for none.
func (s *Sink) paused(now time.Time) int {
	switch {
	case s.guard.tripped.Load():
		return DropLoop
	case s.absent.pause && s.absent.pausing(now):
		return s.absent.reason
	}
	return -1
}

// frame puts one frame into the lane of its conversation.
func (s *Sink) frame(ctx context.Context, f *frame.Frame) {
	head, ok := linkHeader(f)
	if !ok {
		s.drop(DropLink, 1)
		return
	}
	hash := s.inspect(f)
	if s.guard.tripped.Load() {
		s.drop(DropLoop, 1)
		return
	}
	data, cut := f.Data, f.Truncated()
	if n := len(head) + len(data); s.limit > 0 && n > s.limit {
		switch how := s.cfg.Target.MTU; {
		case how == Slice:
			data, cut = data[:s.limit-len(head)], true
			s.sliced.Add(1)
		case how == Refuse, n+s.way.overhead > maxPath:
			s.drop(DropTooBig, 1)
			return
		default:
			s.split.Add(1)
		}
	}
	if !s.allowed(ctx, len(head)+len(data)+s.way.overhead) {
		s.drop(DropRate, 1)
		return
	}
	l := s.lanes[hash&uint64(len(s.lanes)-1)]
	if l.add(&s.encap, f, head, data, cut) {
		s.flush(ctx, l)
	}
}

// allowed reports whether the rate leaves room for n bytes. Frames of a file wait for it.
func (s *Sink) allowed(ctx context.Context, n int) bool {
	for !s.rate.take(n) {
		if !s.cfg.Patient || ctx.Err() != nil {
			return false
		}
		for _, l := range s.lanes {
			s.flush(ctx, l)
		}
		time.Sleep(s.rate.wait(n))
		s.rate.refill(time.Now())
	}
	return true
}

func (s *Sink) drop(reason, n int) {
	s.book.Hold(-n)
	s.book.Drop(reason, n)
}

func (s *Sink) sent(n int) {
	if s.failure.now {
		s.failure.end()
	}
	s.book.Hold(-n)
	s.book.Out(n)
}
