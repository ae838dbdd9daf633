// Package sift is the filter stage of the tap line: frames that a packet filter does not match end here. For live
// interfaces the kernel sifts first, before it copies a frame; this stage then decides only what no kernel program can.
package sift

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/net/bpf"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Stage is the name of the stage in the ledger.
const Stage = "filter"

// DropFiltered is the reason under which the stage drops frames.
const DropFiltered = 0

// Config says which frames go on.
type Config struct {
	Expr    string         // in the language of internal/filter
	SnapLen int            // what goes on keeps at most so many bytes of each frame; 0 for all
	Options filter.Options // of the compilation; a resolver must be safe for concurrent use
}

// Sieve is the filter stage. Its methods but Run are safe for concurrent use.
type Sieve struct {
	cfg  Config
	book *ledger.Book

	mu     sync.Mutex
	byLink map[frame.LinkType]*filter.Filter
	points []Tally
}

// Tally counts the frames of one observation point.
type Tally struct{ In, Out uint64 }

// maxPoints bounds the tallies; frames of points beyond share the last one.
const maxPoints = 1 << 16

// usual are the link types that an expression is tried for before the first frame tells its own.
var usual = []frame.LinkType{frame.LinkEthernet, frame.LinkSLL2, frame.LinkSLL, frame.LinkRaw, frame.LinkNull}

// New returns a stage. An expression that fits no link type is refused, with a *filter.Error.
func New(c Config) (*Sieve, error) {
	s := &Sieve{cfg: c, book: ledger.New(Stage, ledger.Frames, "filtered"), byLink: map[frame.LinkType]*filter.Filter{}}
	var first error
	for _, link := range usual {
		_, err := s.filter(link)
		if err == nil {
			return s, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// Book returns the stage's account.
func (s *Sieve) Book() *ledger.Book { return s.book }

// Tally returns what was counted of an observation point.
func (s *Sieve) Tally(point uint32) Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(point) >= len(s.points) {
		return Tally{}
	}
	return s.points[point]
}

// filter returns the expression compiled for a link type.
func (s *Sieve) filter(link frame.LinkType) (*filter.Filter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.byLink[link]; ok {
		return f, nil
	}
	f, err := filter.Compile(s.cfg.Expr, link, s.cfg.Options)
	if err != nil {
		return nil, err
	}
	s.byLink[link] = f
	return f, nil
}

// Kernel is what a socket's program makes of an expression.
type Kernel struct {
	Program  []bpf.RawInstruction
	Residual string // the tests that the program cannot do: the stage must look again; "" when it decides alone
}

// Compile compiles an expression for the sockets of interfaces of that link type.
func Compile(expr string, link frame.LinkType, opt filter.Options) (Kernel, error) {
	opt.KernelVLAN = link == frame.LinkEthernet
	f, err := filter.Compile(expr, link, opt)
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	prog, residual, err := f.BPF()
	if err != nil { // too long for a socket: every frame is copied, and the stage decides
		prog, k.Residual = []bpf.Instruction{bpf.RetConstant{Val: everything}}, err.Error()
	}
	if k.Program, err = bpf.Assemble(prog); err != nil {
		return Kernel{}, fmt.Errorf("filter: classic BPF: %w", err)
	}
	if residual && k.Residual == "" {
		x, _ := f.Explain() // what another back end refuses does not matter here
		k.Residual = x.Deep
	}
	return k, nil
}

// everything is more bytes than any frame has.
const everything = 262144

// Each returns what sifts batches one after the other where they are made: it leaves in a batch the frames that match. It fails when the
// expression does not fit the link type of a frame.
func (s *Sieve) Each() func(*frame.Batch) error {
	m := &matcher{sieve: s}
	return m.sift
}

// Run sifts every batch from in and passes on what remains, until in is closed. It does not close out. It returns
// early when ctx ends, and when the expression does not fit the link type of a frame.
func (s *Sieve) Run(ctx context.Context, in <-chan frame.Batch, out chan<- frame.Batch) error {
	m := matcher{sieve: s}
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			if err := m.sift(&b); err != nil {
				b.Release()
				return err
			}
			if len(b.Frames) == 0 {
				b.Release()
				continue
			}
			select {
			case out <- b:
			case <-ctx.Done():
				b.Release()
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// matcher is the state of Run.
type matcher struct {
	sieve *Sieve
	f     *filter.Filter // for link
	link  frame.LinkType
}

// sift leaves in b the frames that match.
func (m *matcher) sift(b *frame.Batch) error {
	s, n, all := m.sieve, 0, len(b.Frames)
	s.book.In(all)
	run := tally{sieve: s}
	for i := range b.Frames {
		f := &b.Frames[i]
		if m.f == nil || f.Link != m.link {
			var err error
			if m.f, err = s.filter(f.Link); err != nil {
				s.book.Out(n) // what was sifted of a batch that goes nowhere
				s.book.Hold(all - i)
				s.book.Drop(DropFiltered, i-n)
				return err
			}
			m.link = f.Link
		}
		ok := m.f.MatchFrame(f)
		run.count(f.Point, ok)
		if !ok {
			continue
		}
		if n != i {
			b.Frames[n] = *f
		}
		if d := b.Frames[n].Data; s.cfg.SnapLen > 0 && len(d) > s.cfg.SnapLen {
			b.Frames[n].Data, b.Intact = d[:s.cfg.SnapLen:s.cfg.SnapLen], 0
		}
		n++
	}
	run.settle()
	b.Frames = b.Frames[:n]
	s.book.Out(n)
	s.book.Drop(DropFiltered, all-n)
	return nil
}

// tally gathers the counts of frames of one point that follow each other.
type tally struct {
	sieve *Sieve
	point uint32
	now   Tally
}

func (t *tally) count(point uint32, ok bool) {
	if point != t.point {
		t.settle()
		t.point = point
	}
	t.now.In++
	if ok {
		t.now.Out++
	}
}

func (t *tally) settle() {
	if t.now.In == 0 {
		return
	}
	s, point := t.sieve, min(t.point, maxPoints-1)
	s.mu.Lock()
	for int(point) >= len(s.points) {
		s.points = append(s.points, Tally{})
	}
	s.points[point].In += t.now.In
	s.points[point].Out += t.now.Out
	s.mu.Unlock()
	t.now = Tally{}
}
