package plan

import (
	"net/netip"

	"crosstap/internal/route"
)

// Whether copies can leave their hosts for their tools, and what fits on their way. It is told where hosts tell their routes, as a warning: a route may come later than the tap.

// end is where copies or flow records of a session go over the network.
type end struct {
	name   string // of the destination
	addr   netip.Addr
	copies bool
}

// routes warns of destinations that packets of their hosts do not get to.
func (m *maker) routes() {
	for _, g := range m.groups {
		p := g.places[0]
		if p.Host == nil || p.Host.Routing == nil {
			continue
		}
		for _, e := range m.ends() {
			m.wayTo(p.hostName(), p.Host.Routing, e)
		}
	}
}

// ends are the addresses of the tap's destinations.
func (m *maker) ends() (out []end) {
	for _, name := range m.tap.Destinations {
		switch d := m.in.Set.Destination(name); {
		case d == nil:
		case d.Export != nil:
			out = append(out, end{d.Name, d.Export.To.Addr(), false})
		case d.Output.Addr.IsValid():
			out = append(out, end{d.Name, d.Output.Addr, true})
		}
	}
	return out
}

// wayTo warns when packets of a host do not get to a destination.
func (m *maker) wayTo(host string, r *route.Table, e end) {
	what := "flow records"
	if e.copies {
		what = "copies"
	}
	switch way, ok := r.Way(e.addr); {
	case !ok:
		m.warnf("host %s has no route to %s (destination %s): its %s are lost until it has one", host, e.addr, e.name, what)
	case way.Kind == route.Refused:
		m.warnf("host %s refuses packets to %s (destination %s) by its route to %s: its %s are lost", host, e.addr, e.name, way.To, what)
	case way.Kind == route.Local && e.copies:
		m.warnf("%s (destination %s) is an address of host %s itself: its copies stay there, and come back to it", e.addr, e.name, host)
	}
}

// pathMTU returns what fits on the way from a group's host to an address: what the host's route there says, else the smallest MTU of its uplinks. It is false when
// nothing gets there.
func (m *maker) pathMTU(g *group, to netip.Addr) (mtu int, ok bool) {
	if h := g.places[0].Host; h != nil && h.Routing != nil && to.IsValid() {
		way, ok := h.Routing.Way(to)
		switch {
		case !ok || way.Kind != "":
			return 0, false
		case way.MTU > 0:
			return way.MTU, true
		}
	}
	return m.underlay(g), true
}
