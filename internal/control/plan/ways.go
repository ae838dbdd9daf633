package plan

import (
	"cmp"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

// Agents see adapters that other platforms know, too: in the machine itself, or on its host. Such an interface is no place of its own: it
// is another way to the machine's packets. Where no other platform tells of a machine, its agent's interface is the place.

// ofAgent reports whether a place is an interface that an agent sees.
func (p *place) ofAgent() bool { return p.Switch != nil && p.Switch.Kind == platform.SwitchAgent }

// ways joins the interfaces of agents with the ports that they are.
func (b *builder) ways() {
	if !slices.ContainsFunc(b.places, func(p place) bool { return p.ofAgent() }) {
		return
	}
	in, by := b.agentPlaces()
	hosts := map[string]bool{}
	for i := range b.places {
		p := &b.places[i]
		if p.ofAgent() {
			continue
		}
		hosts[strings.ToLower(p.hostName())] = true
		if p.Port.Kind == platform.PortVM {
			p.seenBy(in[p.Port.MAC], by[hostPort(p)])
		}
	}
	b.uplinks(hosts)
}

// hostPort names a port on its host, as an agent there sees it.
func hostPort(p *place) [2]string { return [2]string{strings.ToLower(p.hostName()), p.Port.Name} }

// agentPlaces are the interfaces of agents: of machines that they are in, by address, and of machines on their hosts. An address that two
// machines have tells neither.
func (b *builder) agentPlaces() (inside map[flow.MAC]*place, beside map[[2]string]*place) {
	inside, beside = map[flow.MAC]*place{}, map[[2]string]*place{}
	for i := range b.places {
		p := &b.places[i]
		switch _, twice := inside[p.Port.MAC]; {
		case !p.ofAgent() || p.Port.Kind != platform.PortVM:
		case p.Port.MAC == 0:
			beside[hostPort(p)] = p
		case twice:
			inside[p.Port.MAC] = nil
		default:
			inside[p.Port.MAC] = p
		}
	}
	return inside, beside
}

// seenBy notes the agents that see a port, in its machine and on its host, and takes the one in the machine unless it alone is away.
func (p *place) seenBy(in, by *place) {
	for _, w := range []*place{in, by} {
		if w != nil {
			w.shadow = true
		}
	}
	if p.agent = in; by != nil && (in == nil || in.down() && !by.down()) {
		p.agent = by
	}
}

// uplinks makes the adapters of agents on hypervisors uplinks: they carry everybody's packets.
func (b *builder) uplinks(hosts map[string]bool) {
	for i := range b.places {
		p := &b.places[i]
		if p.ofAgent() && !p.shadow && p.Port.MAC != 0 && p.Port.Kind == platform.PortVM && hosts[strings.ToLower(p.hostName())] {
			port := *p.Port
			port.Kind, port.VM = platform.PortUplink, ""
			p.Port, p.VM = &port, nil
		}
	}
}

func (p *place) down() bool { return p.Host != nil && p.Host.Down }

// through is a place as its agent sees it: the agent's interface, with what is known of the machine.
func (p *place) through() *place {
	w := *p.agent
	port := *p.Port
	port.ID, port.Name, port.Host, port.Switch, port.Up = w.Port.ID, w.Port.Name, w.Port.Host, w.Port.Switch, w.Port.Up
	port.MAC = flow.MAC(cmp.Or(uint64(p.Port.MAC), uint64(w.Port.MAC)))
	w.Target = policy.Target{Platform: w.snap.Platform, Port: &port, VM: p.VM, Host: w.Host, Switch: w.Switch, Tenant: p.Tenant}
	w.of, w.agent = p, nil
	return &w
}

// origin is the key of the switch that a place's machine is on, as far as it is known.
func (p *place) origin() groupKey {
	if p.of != nil {
		return p.of.key
	}
	return p.key
}

// route decides which of the chosen ports are copied by their agents: all of them when the policy says so, else those on switches that
// cannot do what it asks for.
func (m *maker) route() {
	switch m.tap.Method {
	case platform.MethodAgent, platform.MethodAuto, platform.MethodFlowsOnly:
	default:
		return
	}
	var out []*place
	for _, g := range m.groups {
		able := m.tap.Method != platform.MethodAgent && !g.places[0].ofAgent() && (!g.seen() || m.natural(g))
		for _, p := range g.places {
			out = append(out, m.routed(p, able)...)
		}
	}
	slices.SortStableFunc(out, func(x, y *place) int { return cmp.Or(x.key.compare(y.key), cmp.Compare(x.Port.ID, y.Port.ID)) })
	m.chosen, m.groups = out, grouped(out)
}

// seen reports whether an agent sees a port of the group.
func (g *group) seen() bool {
	return slices.ContainsFunc(g.places, func(p *place) bool { return p.agent != nil })
}

// routed is one port, or the way to it; none when it is refused.
func (m *maker) routed(p *place, able bool) []*place {
	way := p
	switch {
	case able || p.agent == nil && !p.ofAgent() && m.tap.Method != platform.MethodAgent:
		return []*place{p}
	case p.agent == nil && !p.ofAgent():
		m.refuse(m.tap, p, platform.ReasonCapability, "run crosstap agent in the machine or on its host (serve --agents), or let the method be auto",
			"no agent sees machine %s", p.vmName())
		return nil
	case !p.ofAgent():
		way = p.through()
	}
	if way.down() {
		m.refuse(m.tap, way, platform.ReasonDown, "it is tapped as soon as the agent is back", "agent %s is away", way.Port.Host)
		return nil
	}
	return []*place{way}
}

// natural reports whether the switch of a group can do all that the tap asks for.
func (m *maker) natural(g *group) bool {
	for _, name := range m.tap.Destinations {
		d := m.in.Set.Destination(name)
		if d == nil {
			continue
		}
		method := m.naturalMethod(d)
		if method == "" || !slices.Contains(g.can().Methods, method) || len(m.lacks(g, method)) > 0 {
			return false
		}
		if d.Output.Encap != "" && !slices.Contains(g.can().Encaps, d.Output.Encap) || method == platform.MethodMirror && !d.Port.IsZero() && len(m.toolPorts(g, d)) == 0 {
			return false
		}
	}
	return true
}

// naturalMethod is how a switch would bring copies to a destination; "" when only a tap of ours can.
func (m *maker) naturalMethod(d *policy.Destination) platform.Method {
	switch {
	case d.Export != nil:
		return platform.MethodFlowsOnly
	case d.Output.Encap != "":
		return platform.MethodRemoteMirror
	case !d.Port.IsZero() || strings.HasPrefix(d.URL, "iface:"):
		return platform.MethodMirror
	}
	return ""
}

// byAgents makes the sessions of one agent: one for each interface, with all destinations.
func (m *maker) byAgents(g *group) {
	outputs, frames := m.agentOutputs(g)
	for _, p := range g.places {
		if len(outputs) == 0 {
			m.spare(p, m.tap.Name)
			continue
		}
		s := platform.Session{
			Method: platform.MethodAgent, Host: g.key.host, Switch: g.key.sw, Filter: m.tap.Filter, Slice: m.tap.Slice, Sample: m.tap.Sample, Outputs: outputs,
			Groom: m.tap.Groom, Lease: platform.Lease{TTL: m.tap.Lease, Expires: m.doc.Expires}, Budget: m.agentBudget(g),
		}
		if f := m.tap.Flows; f.Active != 0 || f.Idle != 0 || f.Domain != 0 {
			s.Flows = &platform.Export{Active: f.Active, Idle: f.Idle, Domain: f.Domain}
		}
		if p.Port.VLAN == 0 {
			s.VLANs = m.tap.VLANs
		} else if len(m.tap.VLANs) > 0 && !slices.Contains(m.tap.VLANs, p.Port.VLAN) {
			continue // its frames carry no tag, and are of another VLAN
		}
		src := platform.Source{Port: p.Port.ID, Dir: m.tap.Direction}
		if src.Dir == platform.Both && m.within[g.key] {
			src.Dir = platform.Ingress
		}
		if src.Dir == platform.Both && frames {
			s.ExceptFrom = slices.DeleteFunc(slices.Clone(m.except[g.key]), func(x flow.MAC) bool { return x == p.Port.MAC })
			src.Quiet = m.quiet(p)
		}
		s.Sources = []platform.Source{src}
		m.add(g, &s, p)
	}
}

// add notes the session of one interface of an agent.
func (m *maker) add(g *group, s *platform.Session, p *place) {
	m.put(&group{key: g.key, places: []*place{p}}, s, agentPart(p))
}

// quiet reports whether broadcasts of others are copied at another port of the same switch and segment: each of its ports gets them.
func (m *maker) quiet(p *place) bool {
	type domain struct {
		at      groupKey
		segment flow.Segment
		vlan    uint16
	}
	if p.of == nil {
		return false // where its machine is, is not known
	}
	if m.loud == nil {
		m.loud = map[any]bool{}
	}
	d := domain{p.origin(), p.Port.Segment, p.Port.VLAN}
	was := m.loud[d]
	m.loud[d] = true
	return was
}

// agentOutputs are the tap's destinations as agents reach them, and whether any takes frames.
func (m *maker) agentOutputs(g *group) (out []platform.Output, frames bool) {
	for _, name := range m.tap.Destinations {
		d := m.in.Set.Destination(name)
		switch {
		case d == nil:
		case !d.Port.IsZero():
			m.refuse(m.tap, g.places[0], platform.ReasonCapability, "give the tool a url", "destination %s is a port of a switch, which an agent does not reach", d.Name)
		case d.Output.Encap == platform.EncapVLAN:
			m.refuse(m.tap, g.places[0], platform.ReasonCapability, "give the tool an address, such as vxlan://10.0.0.9?vni=9001, or let the switch copy (method: remote-mirror)",
				"destination %s: an agent puts no VLAN tag around copies", d.Name)
		case d.Output.DSCP != 0:
			m.refuse(m.tap, g.places[0], platform.ReasonCapability, "leave dscp out", "destination %s: an agent sets no DSCP", d.Name)
		case m.tap.Method == platform.MethodFlowsOnly && !flowsTo(d.URL):
		default:
			o := d.Output
			o.Name, o.URL = d.Name, d.URL
			out, frames = append(out, o), frames || !flowsTo(d.URL)
		}
	}
	return out, frames
}

// agentBudget is what each of an agent's taps keeps to by itself. The rate is that of the whole policy: one agent alone may not exceed it.
func (m *maker) agentBudget(g *group) *platform.Budget {
	b := m.tap.Budget
	if b.OnExceed == "warn" || b.CPU == 0 && b.MirrorBPS == 0 {
		return nil
	}
	return &platform.Budget{CPU: b.CPU / float64(len(g.places)), MirrorBPS: b.MirrorBPS}
}
