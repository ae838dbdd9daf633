package plan

import (
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Metering is what flow records taps make of a machine.
type Metering struct {
	Whole    bool // of all that a port copies
	Filtered bool // of what passes a filter, or is of some VLANs
	Sampled  bool // of one packet in so many
}

// Metered tells, by name, of which machines the taps in force make flow records.
func Metered(in Input) map[string]Metering {
	b, c, out := newBuilder(in), taken{}, map[string]Metering{}
	b.look()
	b.ways()
	for _, s := range in.Snapshots {
		for _, o := range s.Objects {
			if t := in.Set.Tap(o.Mark.Policy); o.Mark.Owner == in.Owner && t != nil && b.makesFlows(t) {
				c.add(s.Platform, o.Sources, b.number(ofTap(t)))
			}
		}
	}
	if len(c) == 0 {
		return out
	}
	for i := range b.places {
		p := &b.places[i]
		if p.Port.Kind != platform.PortVM || p.shadow || p.vmName() == "" {
			continue
		}
		for _, numbers := range c.at(p) {
			for _, n := range numbers {
				m := out[p.vmName()]
				m.Whole = m.Whole || n == whole
				if n != whole {
					m.Filtered = m.Filtered || b.covers[n].filter != "" || b.covers[n].vlans != ""
					m.Sampled = m.Sampled || b.covers[n].sample > 1
				}
				out[p.vmName()] = m
			}
		}
	}
	return out
}

// makesFlows reports whether flow records are made of what a tap copies.
func (b *builder) makesFlows(t *policy.Tap) bool {
	return t.Method == platform.MethodFlowsOnly || slices.ContainsFunc(t.Destinations, func(name string) bool {
		d := b.in.Set.Destination(name)
		return d != nil && (d.Export != nil || flowsTo(d.URL))
	})
}
