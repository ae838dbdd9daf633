//go:build linux

package linux

import (
	"context"
	"fmt"
	"time"

	"crosstap/internal/control/platform"
)

// arrivalFor is how long an interface counts as one that has just come: a tap that somebody makes later has missed nothing.
const arrivalFor = time.Minute

// arrival notes that an interface has come.
func (p *Platform) arrival(index int) {
	p.fresh.Store(index, time.Now())
}

// OnGap implements platform.Gapper.
func (p *Platform) OnGap(f func(platform.Gap)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onGap = f
}

// traffic is what has passed an interface since it exists, by direction.
type traffic map[platform.Direction]int64

// passed returns what has passed the interface of a step.
func (p *Platform) passed(s *portStep) (traffic, error) {
	l, err := p.link(s.Port)
	switch {
	case err != nil:
		return nil, err
	case l == nil || l.Attrs().Index != s.Index:
		return nil, fmt.Errorf("port %s: %w", s.Port, platform.ErrGone)
	case l.Attrs().Statistics == nil:
		return nil, fmt.Errorf("the kernel does not count what passes %s", s.Port)
	}
	return traffic{platform.Ingress: int64(l.Attrs().Statistics.RxPackets), platform.Egress: int64(l.Attrs().Statistics.TxPackets)}, nil
}

// coming is a port that has just come and gets its first copies.
type coming struct {
	step          *portStep
	gap           platform.Gap
	before, after traffic
	err           error // of counting
}

// comes returns the port of a step when it has just come; nil when it has not, or when nothing is to be copied.
func (p *Platform) comes(s *portStep, now *portNow, policy string) *coming {
	at, fresh := p.fresh.Load(s.Index)
	if !fresh || len(s.Set) == 0 || time.Since(at.(time.Time)) > arrivalFor {
		return nil
	}
	for _, f := range s.Set {
		if now.at(f.Dir, f.Handle) != nil {
			return nil // it has been copied before
		}
	}
	c := &coming{step: s, gap: platform.Gap{Platform: p.cfg.Name, Policy: policy, VM: s.VM, Port: s.Port}}
	c.before, c.err = p.passed(s)
	return c
}

// copied notes that copies of a port have begun.
func (c *coming) copied(p *Platform) {
	if c == nil {
		return
	}
	if at, fresh := p.fresh.LoadAndDelete(c.step.Index); fresh {
		c.gap.After = time.Since(at.(time.Time))
	}
	c.gap.At = time.Now()
	if c.err == nil {
		c.after, c.err = p.passed(c.step)
	}
}

// tell counts what a port has missed, and tells it. Nobody waits for it.
func (p *Platform) tell(c *coming) {
	if c == nil {
		return
	}
	go func() {
		c.missed(p.life, p)
		g := &c.gap
		p.log.Info("copies follow an interface that came", "platform", p.cfg.Name, "port", g.Port, "missed_packets_at_most", g.Packets, "at_least", g.Least, "after", g.After, "why", g.Why)
		p.mu.Lock()
		tell := p.onGap
		p.mu.Unlock()
		if tell != nil {
			tell(*g)
		}
	}()
}

// missed fills in what has passed a port before its copies began, each direction by itself.
func (c *coming) missed(ctx context.Context, p *Platform) {
	if c.err != nil {
		c.gap.Packets, c.gap.Why = -1, c.err.Error()
		return
	}
	for i := range c.step.Set {
		f := &c.step.Set[i]
		least, most := min(c.before[f.Dir], c.after[f.Dir]), c.after[f.Dir]
		switch {
		case c.step.Whole&f.Dir == 0:
			if least = 0; most > 0 {
				c.gap.Why = "how many of them the filter would have let through is not known"
			}
		case most > 0:
			var why string
			if least, most, why = c.narrow(ctx, p, f, least, most); why != "" {
				c.gap.Why = why
			}
		}
		c.gap.Least, c.gap.Packets = c.gap.Least+least, c.gap.Packets+most
	}
	if c.gap.Exact() {
		c.gap.Why = ""
	}
}

// narrow compares what passes a port with what the kernel says that the filter has copied, which is everything.
func (c *coming) narrow(ctx context.Context, p *Platform, f *filterSpec, least, most int64) (int64, int64, string) {
	low, top, err := platform.Missed(ctx, func(context.Context) (passed, copied int64, err error) {
		err = p.with(func() error {
			now, err := p.passed(c.step)
			if err != nil {
				return err
			}
			passed = now[f.Dir]
			copied, err = p.copies(c.step, f)
			return err
		})
		return passed, copied, err
	})
	switch {
	case err != nil:
		return least, most, err.Error()
	case low == top && (low < least || low > most): // such as frames on their way when the copies began
		return min(least, low), max(most, low), "the counters of the port and of the copies contradict each other"
	case low == top:
		return low, top, ""
	}
	if low, top = max(low, least), min(top, most); low > top {
		low, top = least, most
	}
	return low, top, "packets followed each other without a pause that would have told how many of them were copied"
}

// copies returns how many packets a filter has copied.
func (p *Platform) copies(s *portStep, f *filterSpec) (int64, error) {
	list, err := p.socket.filters(s.Index, f.Dir)
	if err != nil {
		return 0, err
	}
	now := portNow{filters: list}
	if have := now.at(f.Dir, f.Handle); have != nil && have.same(f.Cookie) {
		return int64(have.mirrors[0].packets), nil
	}
	return 0, fmt.Errorf("the filter %s of %s: %w", f.Dir, s.Port, platform.ErrGone)
}
