//go:build linux

package linux

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// portNow is a port with its filters.
type portNow struct {
	index   int
	qdisc   string
	made    bool // the qdisc says by itself that it is ours
	filters []tcFilter
}

// port reads a port that a step was planned on.
func (p *Platform) port(s *portStep) (*portNow, error) {
	l, err := p.link(s.Port)
	switch {
	case err != nil:
		return nil, err
	case l == nil:
		return nil, fmt.Errorf("port %s: %w", s.Port, platform.ErrGone)
	case l.Attrs().Index != s.Index:
		return nil, fmt.Errorf("port %s: %w: another interface has the name", s.Port, platform.ErrChanged)
	}
	qdiscs, made, err := p.socket.qdiscs() // the kernel tells of a single one to all who listen
	if err != nil {
		return nil, err
	}
	now := &portNow{index: s.Index, qdisc: qdiscs[s.Index], made: made[s.Index]}
	if now.qdisc != "" {
		now.filters, err = p.portFilters(now.index, now.qdisc)
	}
	return now, err
}

// at returns the filter at our preference with a handle, nil when there is none.
func (n *portNow) at(dir platform.Direction, handle uint32) *tcFilter {
	for i := range n.filters {
		if f := &n.filters[i]; f.dir == dir && f.handle == handle && f.preference == preference {
			return f
		}
	}
	return nil
}

// same reports whether two cookies name one session.
func (f *tcFilter) same(text string) bool {
	if f.kind != "bpf" || len(f.mirrors) == 0 {
		return false
	}
	have, ours := parseCookie(fmt.Sprintf("%x", f.mirrors[0].cookie))
	want, _ := parseCookie(text)
	return ours && have.owner == want.owner && have.session == want.session
}

// applyPort changes the filters of a port: all of them or none.
func (p *Platform) applyPort(s *portStep, policy string) error {
	return raced(func() error { return p.changePort(s, policy) })
}

func (p *Platform) changePort(s *portStep, policy string) error {
	defer p.space.Lock(patience)()
	now, err := p.port(s)
	if err != nil {
		if errors.Is(err, platform.ErrGone) && len(s.Set) == 0 {
			return nil // its filters went with it
		}
		return err
	}
	all, err := p.requests(s, now)
	if err != nil || len(all) == 0 {
		return err
	}
	came := p.comes(s, now, policy)
	if err = p.socket.do(all...); err != nil {
		return p.restore(s, now, err)
	}
	came.copied(p)
	if err := p.check(s); err != nil {
		return err
	}
	p.tell(came)
	return nil
}

// requests are what brings a port to what it shall be.
func (p *Platform) requests(s *portStep, now *portNow) (all []*request, err error) {
	if now.qdisc == "" && len(s.Set) > 0 {
		all = append(all, addQdisc(now.index, "make a clsact qdisc"))
	}
	ours := now.qdisc == "" || now.claimed()
	for i := range s.Set {
		r, err := p.setRequest(now, &s.Set[i], ours)
		if err != nil {
			return nil, err
		}
		if r != nil {
			all = append(all, r)
		}
	}
	if len(all) > 0 {
		all = append(all, now.unkeep()...)
	}
	return append(all, p.removal(now, s.Remove, len(s.Set))...), nil
}

// setRequest makes one filter as it shall be, at a qdisc that is ours or not; nil when it is so already.
func (p *Platform) setRequest(now *portNow, f *filterSpec, ours bool) (*request, error) {
	targets, err := p.targets(f.To)
	if err != nil {
		return nil, err
	}
	if have := now.at(f.Dir, f.Handle); have != nil {
		if !have.same(f.Cookie) {
			return nil, fmt.Errorf("%w: somebody else has filter %#x at preference %d", platform.ErrChanged, f.Handle, preference)
		}
		if have.is(f, targets) {
			return nil, nil
		}
	}
	spec := *f
	c, _ := parseCookie(f.Cookie)
	c.qdisc = ours
	spec.Cookie = c.String()
	return setFilter(now.index, &spec, targets, fmt.Sprintf("set filter %s", f.Dir))
}

// is reports whether a filter is as it shall be.
func (f *tcFilter) is(want *filterSpec, targets []int) bool {
	if f.code != want.Code || len(f.mirrors) != len(targets) || len(f.actions) != len(targets) {
		return false
	}
	for i, m := range f.mirrors {
		if m.target != targets[i] || m.redirect {
			return false
		}
	}
	return f.mirrors[len(targets)-1].last
}

func (p *Platform) targets(names []string) (out []int, err error) {
	for _, name := range names {
		l, err := p.link(name)
		if err != nil {
			return nil, err
		}
		if l == nil {
			return nil, fmt.Errorf("destination %s: %w", name, platform.ErrGone)
		}
		out = append(out, l.Attrs().Index)
	}
	return out, nil
}

// removal ends filters of ours beside which a step sets others. Where they are the last ones of a qdisc of ours, one that keeps it takes their place.
func (p *Platform) removal(n *portNow, specs []filterSpec, set int) (out []*request) {
	for _, f := range specs {
		if have := n.at(f.Dir, f.Handle); have != nil && have.same(f.Cookie) {
			out = append(out, deleteFilter(n.index, f.Dir, f.Handle, fmt.Sprintf("delete filter %s", f.Dir)))
		}
	}
	if len(out) > 0 && len(out) == len(n.filters) && set == 0 && n.claimed() && n.qdisc == "clsact" {
		out = append([]*request{p.keep(n.index)}, out...)
	}
	return out
}

// restore brings a port back to what it was before a step that failed half-way, and returns why it did.
func (p *Platform) restore(s *portStep, was *portNow, why error) error {
	now, err := p.port(s)
	switch {
	case err != nil:
		return why // it is gone, and so is what we did
	case errors.Is(why, unix.EEXIST) && was.qdisc == "": // somebody else's qdisc has come; these filters say that it is ours
		return fmt.Errorf("%w: %w", errRaced, errors.Join(why, p.socket.do(p.removal(now, s.Set, 1)...)))
	case was.qdisc != "" && now.qdisc == "":
		return fmt.Errorf("%w: %w", errRaced, why)
	}
	var all []*request
	var added []filterSpec
	for i := range s.Set {
		f := &s.Set[i]
		have, had := now.at(f.Dir, f.Handle), was.at(f.Dir, f.Handle)
		switch {
		case had != nil:
			if r, err := had.again(now.index); err == nil {
				all = append(all, r)
			}
		case have != nil:
			added = append(added, *f)
		}
	}
	for i := range s.Remove {
		if had := was.at(s.Remove[i].Dir, s.Remove[i].Handle); had != nil && had.same(s.Remove[i].Cookie) {
			if r, err := had.again(now.index); err == nil {
				all = append(all, r)
			}
		}
	}
	all = append(all, p.removal(now, added, len(all))...)
	if len(all) == 0 && len(now.filters) == 0 && (was.qdisc == "" || was.claimed()) {
		all = append(all, p.keep(now.index))
	}
	if len(all) == 0 {
		return why
	}
	return errors.Join(why, p.socket.do(all...))
}

// again makes a filter as it was.
func (f *tcFilter) again(index int) (*request, error) {
	var targets []int
	for _, m := range f.mirrors {
		targets = append(targets, m.target)
	}
	spec := filterSpec{Dir: f.dir, Handle: f.handle, Code: f.code}
	if len(f.mirrors) > 0 {
		spec.Cookie = fmt.Sprintf("%x", f.mirrors[0].cookie)
	}
	return setFilter(index, &spec, targets, "restore filter")
}

// check reads back what a step did.
func (p *Platform) check(s *portStep) error {
	now, err := p.port(s)
	if errors.Is(err, platform.ErrGone) {
		return err
	}
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	for i := range s.Set {
		f := &s.Set[i]
		targets, err := p.targets(f.To)
		if err != nil {
			return err
		}
		if have := now.at(f.Dir, f.Handle); have == nil || !have.is(f, targets) {
			return fmt.Errorf("%w: the filter %s is not as it was set", platform.ErrChanged, f.Dir)
		}
	}
	return nil
}

// undoPort brings the filters of a port back to what they were.
func (p *Platform) undoPort(s *portStep, was []filterSpec) error {
	back := &portStep{Port: s.Port, Index: s.Index, Set: was}
	for _, f := range s.Set {
		if !slices.ContainsFunc(was, func(w filterSpec) bool { return w.Dir == f.Dir && w.Handle == f.Handle }) {
			back.Remove = append(back.Remove, f)
		}
	}
	for i, f := range back.Set { // a device that is gone cannot be copied to again
		back.Set[i].To = slices.DeleteFunc(slices.Clone(f.To), func(name string) bool { return name == "gone" })
	}
	back.Set = slices.DeleteFunc(back.Set, func(f filterSpec) bool { return len(f.To) == 0 })
	err := p.applyPort(back, "")
	if errors.Is(err, platform.ErrGone) || errors.Is(err, platform.ErrChanged) && s.Index != 0 && p.replaced(s) {
		return nil // the interface went, and its filters with it
	}
	return err
}

// replaced reports whether another interface has the port's name by now.
func (p *Platform) replaced(s *portStep) bool {
	l, err := p.link(s.Port)
	return err == nil && l != nil && l.Attrs().Index != s.Index
}
