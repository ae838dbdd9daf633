package tap

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/kernel"
	"crosstap/internal/tap/groom"
	"crosstap/internal/tap/meter"
	"crosstap/internal/tapspec"
)

// FromSpec returns the tap that a specification describes. What is missing in it is as in DefaultSpec.
func FromSpec(d *tapspec.Spec) (s Spec, err error) {
	s = DefaultSpec()
	s.Name, s.Role = cmp.Or(d.Observer, d.Name), flow.ParseRole(d.Role)
	src := &d.Source
	s.Interfaces, s.Listen, s.Remotes, s.File, s.NetNS = src.Interfaces, src.Listen, src.Remotes, src.File, src.NetNS
	s.SnapLen, s.IngressOnly, s.Promiscuous = src.Snap, src.IngressOnly, !src.NoPromisc
	s.Inline, s.Path = src.Inline, src.Path
	s.RingBytes = cmp.Or(int(src.Ring), s.RingBytes)
	s.Filter, s.Budget = d.Filter, d.Budget
	if d.Groom != "" {
		steps, err := groom.Parse(string(d.Groom))
		if err != nil {
			return s, fmt.Errorf("tap %q: %w", d.Name, err)
		}
		s.Groom = &steps
	}
	m := &d.Meter
	if m.Key != "" {
		if s.Key, err = meter.ParseKey(m.Key); err != nil {
			return s, fmt.Errorf("tap %q: %w", d.Name, err)
		}
	}
	s.Idle, s.Active = cmp.Or(time.Duration(m.Idle), s.Idle), cmp.Or(time.Duration(m.Active), s.Active)
	s.MaxFlows, s.Workers, s.Domain = cmp.Or(m.MaxFlows, s.MaxFlows), cmp.Or(m.Workers, s.Workers), cmp.Or(m.Domain, s.Domain)
	s.Biflow, s.Tunnels.VXLANPorts, s.Tunnels.NVGRE = m.Biflow, m.VXLANPorts, m.NVGRE
	for name, ports := range m.TunnelPorts {
		for _, port := range ports {
			if err := s.Tunnels.Add(name, port); err != nil {
				return s, fmt.Errorf("tap %q: meter: tunnel_ports: %w", d.Name, err)
			}
		}
	}
	for _, to := range d.To {
		s.To = append(s.To, to.Destination())
	}
	s.Limit.For = time.Duration(d.TTL)
	return s, nil
}

// PathOf says which path frames will take on the host that a specification is for, as Tap.Path does, when that host has more than one processor and
// everything that its kernel is asked for; "" when they come from elsewhere than interfaces, or when there can be no such tap. It opens nothing.
func PathOf(d *tapspec.Spec) string {
	s, err := FromSpec(d)
	if err != nil {
		return ""
	}
	t, err := begin(s)
	if err != nil {
		return ""
	}
	t.elsewhere = true
	if t.makeFilter() != nil || t.makePath() != nil {
		return ""
	}
	return t.Path()
}

// Begin says from when on a Successor takes frames, and End until when a tap does: the frames of one time go to the one, those of the other to
// the other. Both may be called at any time. Where programs of the kernel take the frames, the time is that of the call.
func (t *Tap) Begin(at time.Time) {
	for _, p := range t.attached() {
		if err := p.Begin(); err != nil && t.spec.Log != nil {
			t.spec.Log.Error("tap does not begin", "error", err)
		}
	}
	if t.window != nil {
		t.window.from.Store(at.UnixNano())
	}
}

// End says until when the tap takes frames. It goes on running. Only a tap that was made as a Successor knows a time.
func (t *Tap) End(at time.Time) {
	for _, p := range t.attached() {
		p.End()
	}
	if t.window != nil {
		t.window.until.Store(at.UnixNano())
	}
}

// InKernel reports whether programs of the kernel take the tap's frames. It is known once the tap is ready.
func (t *Tap) InKernel() bool { return len(t.attached()) > 0 }

// Follow has a Successor take the place of a tap, both with programs in the kernel: these are exchanged one by one, so that a frame goes to the one
// or the other. It reports false, and does nothing, when one of the two has none.
func (t *Tap) Follow(old *Tap) bool {
	next, before := t.attached(), old.attached()
	if len(next) == 0 || len(before) == 0 || t.pathName() != old.pathName() || t.spec.NetNS != old.spec.NetNS {
		return false
	}
	left := slices.Clone(before)
	for _, p := range next {
		i := slices.IndexFunc(left, func(b inPlace) bool { return b.to == p.to })
		if i < 0 && len(left) > 0 && len(next) == len(before) {
			i = 0 // its destination has changed
		}
		err := error(nil)
		if i < 0 {
			err = p.Begin()
		} else {
			err = kernel.Follow(p.programs, left[i].programs)
			left = slices.Delete(left, i, i+1)
		}
		if err != nil && t.spec.Log != nil {
			t.spec.Log.Error("tap does not follow the one before everywhere", "error", err)
		}
	}
	for _, b := range left {
		b.End()
	}
	return true
}
