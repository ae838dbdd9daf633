package tap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"crosstap/internal/kernel"
	"crosstap/internal/ledger"
)

// pair is the inline pair whose frames a tap copies; nil for none. The kernel passes the frames on from the moment when the tap captures.
type pair struct {
	*kernel.Inline
	t *Tap

	mu      sync.Mutex
	opened  bool
	err     error // of joining
	running sync.WaitGroup
	cancel  context.CancelFunc
	ctx     context.Context
}

// makePair makes the pair, and has it joined when the tap captures.
func (t *Tap) makePair() error {
	s := &t.spec
	if s.Inline == nil {
		return nil
	}
	x, err := kernel.NewInline(kernel.InlineConfig{
		A: s.Inline.A, B: s.Inline.B, NetNS: s.NetNS, Closed: s.Inline.Closed(), Lease: time.Duration(s.Inline.Lease), Apart: s.Inline.Apart(), Keeper: s.Keeper, Log: s.Log,
	})
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	t.pair = &pair{Inline: x, t: t}
	ready := s.Ready
	s.Ready = func() {
		if t.pair.join() && ready != nil {
			ready()
		}
	}
	return nil
}

// check looks at the interfaces before anything is begun.
func (p *pair) check() error {
	if p == nil {
		return nil
	}
	return p.known(p.Check())
}

func (p *pair) known(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tap: %w", fromKernel(err))
}

// watch returns the context to run in, and what to call at the end: the pair is left to itself, or taken apart, as it was declared.
func (p *pair) watch(stop context.Context) (context.Context, func() error) {
	if p == nil {
		return stop, func() error { return nil }
	}
	p.ctx, p.cancel = context.WithCancel(stop)
	return p.ctx, func() error {
		p.cancel()
		p.running.Wait()
		p.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	}
}

// join joins the interfaces. When they cannot be joined, the tap ends.
func (p *pair) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened {
		return false
	}
	p.opened = true
	if err := p.Open(); err != nil {
		p.err = p.known(err)
		p.cancel()
		return false
	}
	p.running.Go(func() { p.Run(p.ctx) })
	return true
}

// statement returns the account of what was passed on.
func (p *pair) statements() []ledger.Statement {
	if p == nil {
		return nil
	}
	return []ledger.Statement{p.Book().Read()}
}

// Inline returns how the inline pair is, false without one.
func (t *Tap) Inline() (kernel.PairState, bool) {
	if t.pair == nil {
		return kernel.PairState{}, false
	}
	return t.pair.State(), true
}

// InlineLines says what an inline pair passed on, and what becomes of it without the tap; none without a pair.
func (t *Tap) InlineLines() []string {
	if t.pair == nil {
		return nil
	}
	s := t.pair.State()
	lines := []string{t.pair.Summary()}
	if s.Fail == kernel.FailOpen {
		lines = append(lines, fmt.Sprintf("%s and %s stay joined, and nothing is copied: \"crosstap inline remove %s,%s\" parts them", s.A, s.B, s.A, s.B))
	} else {
		lines = append(lines, fmt.Sprintf("%s and %s are parted, and their links are down", s.A, s.B))
	}
	return lines
}

// RefusedPair reports whether an error says that two interfaces must not be joined.
func RefusedPair(err error) bool {
	var no *kernel.Refused
	return errors.As(err, &no)
}
