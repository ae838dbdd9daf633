package tap

import (
	"cmp"
	"fmt"
	"time"

	"crosstap/internal/flow"
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
	s.Biflow, s.VXLANPorts = m.Biflow, m.VXLANPorts
	for _, to := range d.To {
		s.To = append(s.To, to.Destination())
	}
	s.Limit.For = time.Duration(d.TTL)
	return s, nil
}

// Begin says from when on a Successor takes frames, and End until when a tap does: the frames of one time go to the one, those of the other to
// the other. Both may be called at any time.
func (t *Tap) Begin(at time.Time) { t.window.from.Store(at.UnixNano()) }

// End says until when the tap takes frames. It goes on running. Only a tap that was made as a Successor knows a time.
func (t *Tap) End(at time.Time) { t.window.until.Store(at.UnixNano()) }
