package tap

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/net/bpf"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/tap/sift"
)

// kernelFilter is the part of the filter that the kernel does for interfaces.
type kernelFilter struct {
	expr     string // "" when the kernel does nothing
	residual string // what it leaves to the sieve
	refused  string // why it does nothing
	guard    string // the expression that keeps our own copies out, "" for none; the kernel always does that

	mu    sync.Mutex
	sizes map[frame.LinkType]int // instructions
}

// makeFilter divides the expression between the kernel and a sieve. For a capture file the sieve does all of it.
func (t *Tap) makeFilter() error {
	s := &t.spec
	if s.Filter == "" {
		return nil
	}
	sieve, err := sift.New(sift.Config{Expr: s.Filter, SnapLen: s.SnapLen, Options: s.filterOptions()})
	if err != nil {
		return err
	}
	if !s.local() {
		t.sieve = sieve
		return nil
	}
	if err := t.kernel.prepare(s); err != nil {
		return err
	}
	if t.kernel.residual != "" || t.kernel.refused != "" {
		t.sieve = sieve
	}
	return nil
}

// prepare finds out what the kernel can do of the expression.
func (k *kernelFilter) prepare(s *Spec) error {
	fits := false
	var first error
	for _, link := range []frame.LinkType{frame.LinkEthernet, frame.LinkRaw} {
		p, err := sift.Compile(s.Filter, link, s.filterOptions())
		var mistake *filter.Error
		switch {
		case err == nil:
			fits = true
			k.residual = p.Residual
		case !errors.As(err, &mistake): // it is too long, say
			k.refused = err.Error()
			return nil
		case first == nil:
			first = err
		}
		if k.residual != "" {
			break
		}
	}
	if !fits {
		return first
	}
	k.expr = s.Filter
	return nil
}

// program returns what capture asks for the program of each link type; nil when the kernel does nothing.
func (k *kernelFilter) program(s *Spec) func(frame.LinkType) ([]bpf.RawInstruction, error) {
	if k.refused != "" && s.Log != nil {
		s.Log.Warn("the kernel cannot filter: every frame is copied first", "reason", k.refused)
	}
	return func(link frame.LinkType) ([]bpf.RawInstruction, error) {
		if k.expr == "" && k.guard == "" {
			return nil, nil
		}
		p, err := k.compile(link, s)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.sizes == nil {
			k.sizes = map[frame.LinkType]int{}
		}
		k.sizes[link] = len(p.Program)
		if s.Log != nil {
			attached(s.Log, link, p)
		}
		return p.Program, nil
	}
}

// compile compiles the expression together with what keeps our own copies out. That has to be in the kernel: when both are too
// long for it, the expression is left to the sieve.
func (k *kernelFilter) compile(link frame.LinkType, s *Spec) (sift.Kernel, error) {
	expr := k.expr
	switch {
	case k.guard == "":
	case expr == "":
		expr = k.guard
	default:
		expr = "(" + expr + ") and " + k.guard
	}
	p, err := sift.Compile(expr, link, s.filterOptions())
	if k.guard == "" || err != nil || len(p.Program) > 1 {
		return p, err
	}
	if k.residual == "" && k.expr != "" {
		return p, fmt.Errorf("filter: together with the exclusion of our own copies it is too long for the kernel: %s; shorten it", p.Residual)
	}
	return sift.Compile(k.guard, link, s.filterOptions())
}

func attached(log *slog.Logger, link frame.LinkType, p sift.Kernel) {
	residual := p.Residual
	if residual == "" {
		residual = "none"
	}
	log.Debug("filter in the kernel", "link_type", link, "instructions", len(p.Program), "residual", residual)
}

// text says who filters.
func (k *kernelFilter) text() string {
	if k.expr == "" {
		return "in the tap"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, size := range k.sizes {
		n = max(n, size)
	}
	if k.residual == "" {
		return fmt.Sprintf("in the kernel (%d instructions), which decides alone", n)
	}
	return fmt.Sprintf("in the kernel (%d instructions), residual in the tap: %s", n, k.residual)
}
