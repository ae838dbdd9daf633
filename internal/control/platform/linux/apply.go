//go:build linux

package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// Apply implements platform.Platform.
func (p *Platform) Apply(ctx context.Context, s platform.Step) error {
	var do doing
	if err := json.Unmarshal(s.Do, &do); err != nil {
		return fmt.Errorf("linux: step %q: %w", s.Summary, err)
	}
	if err := ctx.Err(); err != nil {
		return p.explain(s, err)
	}
	return p.explain(s, p.with(func() error { return p.apply(do, s.Policy) }))
}

func (p *Platform) apply(do doing, policy string) error {
	switch {
	case do.Device != nil && do.Again:
		if err := p.removeDevice(do.Device.Name); err != nil {
			return err
		}
		return p.ensureDevice(do.Device)
	case do.Device != nil:
		return p.ensureDevice(do.Device)
	case do.Delete != "":
		return p.removeDevice(do.Delete)
	case do.Port != nil:
		return p.applyPort(do.Port, policy)
	}
	return errors.New("nothing to do")
}

// Undo implements platform.Platform.
func (p *Platform) Undo(ctx context.Context, s platform.Step) error {
	var do doing
	var was before
	if err := json.Unmarshal(s.Do, &do); err != nil {
		return fmt.Errorf("linux: step %q: %w", s.Summary, err)
	}
	if len(s.Before) > 0 {
		if err := json.Unmarshal(s.Before, &was); err != nil {
			return fmt.Errorf("linux: step %q: %w", s.Summary, err)
		}
	}
	return p.explain(s, p.with(func() error { return p.undo(do, was) }))
}

func (p *Platform) undo(do doing, was before) error {
	switch {
	case was.Device != nil: // another alias, or it was removed
		return p.ensureDevice(was.Device)
	case do.Device != nil && do.Again:
		return nil // what it was before led to nowhere
	case do.Device != nil:
		return p.removeDevice(do.Device.Name)
	case do.Port != nil:
		return p.undoPort(do.Port, was.Filters)
	}
	return nil
}

// explain adds where and what to an error.
func (p *Platform) explain(s platform.Step, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w: needs CAP_NET_ADMIN on %s (%v)", platform.ErrDenied, p.host, err)
	}
	return fmt.Errorf("linux: host %s: %s: %w", p.host, s.Object, err)
}

// link returns a device by name, nil when there is none.
func (p *Platform) link(name string) (netlink.Link, error) {
	l, err := p.handle.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	return l, err
}

// ours reports whether a device is one of ours.
func ours(l netlink.Link) bool {
	a := l.Attrs()
	return strings.HasPrefix(a.Name, platform.MarkPrefix) && (a.Alias == "" || strings.HasPrefix(a.Alias, platform.MarkKey+" "))
}

// ensureDevice makes a device or completes it. One that it made and cannot complete goes again.
func (p *Platform) ensureDevice(d *device) error {
	return raced(func() error { return p.makeDevice(d) })
}

func (p *Platform) makeDevice(d *device) error {
	l, err := p.link(d.Name)
	if err != nil {
		return err
	}
	switch {
	case l == nil:
		err := p.socket.do(d.create()...)
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%w: %w", errRaced, err)
		}
		if err == nil {
			err = p.complete(d)
		}
		if err != nil {
			_ = p.removeDevice(d.Name) // the first error counts
		}
		return err
	case !ours(l):
		return fmt.Errorf("%w: a foreign device has the name %s", platform.ErrChanged, d.Name)
	case l.Attrs().Alias != d.Alias:
		if err := p.socket.do(d.setAlias()); err != nil {
			return err
		}
	}
	return p.complete(d)
}

// complete takes a tunnel device up, and reads back what it is.
func (p *Platform) complete(d *device) error {
	if d.Kind == "bridge" {
		return nil
	}
	if err := disableIPv6(p.space, d.Name); err != nil {
		return fmt.Errorf("keep %s silent: %w", d.Name, err)
	}
	err := p.socket.do(d.up())
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: UDP port %d belongs to another overlay of this host; give the destination another port, such as vxlan://%s:4790", err, d.UDP, d.Addr)
	}
	if err != nil {
		return err
	}
	l, err := p.link(d.Name)
	if err != nil || l == nil || l.Attrs().Alias != d.Alias || l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return fmt.Errorf("%w: %s is not as it was made (%v)", platform.ErrChanged, d.Name, err)
	}
	return nil
}

// removeDevice removes a device of ours.
func (p *Platform) removeDevice(name string) error {
	l, err := p.link(name)
	if err != nil || l == nil {
		return err
	}
	if !ours(l) {
		return fmt.Errorf("%w: %s is foreign", platform.ErrChanged, name)
	}
	err = p.socket.do(deleteDevice(l.Attrs().Index, "remove "+name))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// portNow is a port with its filters.
type portNow struct {
	index   int
	qdisc   string
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
	qdiscs, err := p.socket.qdiscs() // the kernel tells of a single one to all who listen
	if err != nil {
		return nil, err
	}
	now := &portNow{index: s.Index, qdisc: qdiscs[s.Index]}
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

// errRaced says that somebody else has made at the same time what a step makes.
var errRaced = fmt.Errorf("%w: somebody else works on it at the same time", platform.ErrChanged)

// raced does something again that somebody else has done a moment before, a few times.
func raced(f func() error) (err error) {
	for range attempts {
		if err = f(); !errors.Is(err, errRaced) {
			return err
		}
	}
	return err
}

// applyPort changes the filters of a port: all of them or none.
func (p *Platform) applyPort(s *portStep, policy string) error {
	return raced(func() error { return p.changePort(s, policy) })
}

func (p *Platform) changePort(s *portStep, policy string) error {
	now, err := p.port(s)
	if err != nil {
		if errors.Is(err, platform.ErrGone) && len(s.Set) == 0 {
			return nil // its filters went with it
		}
		return err
	}
	var all []*request
	if now.qdisc == "" && len(s.Set) > 0 {
		all = append(all, addQdisc(now.index, "make a clsact qdisc"))
	}
	for i := range s.Set {
		r, err := p.setRequest(now, &s.Set[i])
		if err != nil {
			return err
		}
		if r != nil {
			all = append(all, r)
		}
	}
	all = append(all, now.removal(s.Remove)...)
	if len(all) == 0 {
		return nil
	}
	came := p.comes(s, now, policy)
	err = p.socket.do(all...)
	if errors.Is(err, unix.EEXIST) && now.qdisc == "" {
		return fmt.Errorf("%w: %w", errRaced, err)
	}
	if err != nil {
		return errors.Join(err, p.restore(s, now))
	}
	came.copied(p)
	if err := p.check(s); err != nil {
		return err
	}
	p.tell(came)
	return nil
}

// setRequest makes one filter as it shall be; nil when it is so already.
func (p *Platform) setRequest(now *portNow, f *filterSpec) (*request, error) {
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
	return setFilter(now.index, f, targets, fmt.Sprintf("set filter %s", f.Dir))
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

// removal ends filters of ours, and the qdisc too when we made it and nobody else uses it.
func (n *portNow) removal(specs []filterSpec) (out []*request) {
	own := false
	for _, f := range specs {
		have := n.at(f.Dir, f.Handle)
		if have == nil || !have.same(f.Cookie) {
			continue
		}
		out = append(out, deleteFilter(n.index, f.Dir, f.Handle, fmt.Sprintf("delete filter %s", f.Dir)))
		c, _ := parseCookie(fmt.Sprintf("%x", have.mirrors[0].cookie))
		own = own || c.qdisc
	}
	if own && len(out) == len(n.filters) && n.qdisc == "clsact" {
		out = append(out, deleteQdisc(n.index, "delete the clsact qdisc"))
	}
	return out
}

// restore brings a port back to what it was before a step that failed half-way.
func (p *Platform) restore(s *portStep, was *portNow) error {
	now, err := p.port(s)
	if err != nil {
		return nil // it is gone, and so is what we did
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
	all = append(all, now.removal(added)...)
	if was.qdisc == "" && len(added) == len(now.filters) && len(added) == 0 {
		all = append(all, deleteQdisc(now.index, "delete the clsact qdisc"))
	}
	if len(all) == 0 {
		return nil
	}
	return p.socket.do(all...)
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
