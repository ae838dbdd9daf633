package plan

import (
	"cmp"
	"fmt"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// What comes in on an RSPAN VLAN is taken where it lands: the places of such a tap are the ports of its tools.

// land plans a tap that takes from a VLAN.
func (b *builder) land(t *policy.Tap, doc Tap) (Tap, map[string][]platform.Session) {
	tools := b.tools(t)
	doc.From = t.Chosen()
	m := &maker{builder: b, tap: t, doc: &doc, tools: tools, chosen: b.landings(tools), made: map[string][]platform.Session{}}
	m.groups = grouped(m.chosen)
	for _, name := range t.Destinations {
		if d := b.in.Set.Destination(name); d != nil && tools.found[name] == 0 {
			b.refuse(t, nil, platform.ReasonCapability, "attach the tool's machine to the switch that the VLAN comes to", "destination %s (%s) has no port anywhere", name, d.Port)
		}
	}
	for _, g := range m.groups {
		m.landAt(g)
	}
	if len(doc.Places) == 0 {
		doc.State = Refused
		return doc, nil
	}
	doc.Copies.Once = true
	return doc, m.made
}

// landings are the places of a tap's tools.
func (b *builder) landings(tools *tools) (out []*place) {
	for i := range b.places {
		if p := &b.places[i]; tools.ids[p.snap.Platform][p.Port.ID] {
			out = append(out, p)
		}
	}
	return out
}

// landAt makes the sessions of one switch, one for each tool.
func (m *maker) landAt(g *group) {
	p := g.places[0]
	if !g.can().FromVLAN {
		m.refuse(m.tap, p, platform.ReasonCapability, fmt.Sprintf("give the tool's adapter VLAN %d itself, or run a tap on the adapter that it comes in by", m.tap.FromVLAN),
			"switch %s cannot take copies out of a VLAN", p.switchAt())
		return
	}
	if !m.mayLand(p) || !m.copiesAlone(g) || !m.capable(g, platform.MethodMirror) {
		return
	}
	for _, name := range m.tap.Destinations {
		d := m.in.Set.Destination(name)
		if d == nil {
			continue
		}
		ids := m.toolPorts(g, d)
		switch all := m.onSwitch(g, d); {
		case len(ids) == 0: // on another switch, or host of it
		case all > 1:
			m.severalPorts(g, d, all)
		default:
			m.landing(g, d, ids[0])
		}
	}
}

// onSwitch counts the ports of a tool on a group's switch, on all of its hosts.
func (m *maker) onSwitch(g *group, d *policy.Destination) (n int) {
	for key, ports := range m.tools.ports {
		if key.platform != g.key.platform || key.sw != g.key.sw || g.places[0].Switch.Kind != platform.SwitchDistributed && key.host != g.key.host {
			continue
		}
		for _, at := range ports {
			n += count(at == d)
		}
	}
	return n
}

// mayLand refuses copies of anybody for a tool that is one tenant's.
func (m *maker) mayLand(p *place) bool {
	if m.tap.Allows(policy.AllowTenants) {
		return true
	}
	for _, why := range m.tenantsFor(m.tap) {
		m.refuse(m.tap, p, platform.ReasonTenant, "write allow: [other-tenants] when only that tenant is mirrored into it",
			"what comes in on VLAN %d may be anybody's, and %s", m.tap.FromVLAN, why)
		return false
	}
	return true
}

// copiesAlone refuses a VLAN that machines or the host itself use on the switch: what they say would be taken for copies.
func (m *maker) copiesAlone(g *group) bool {
	for i := range m.places {
		p := &m.places[i]
		if p.key.platform != g.key.platform || p.key.sw != g.key.sw || p.Port.VLAN != m.tap.FromVLAN || m.tools.is(p) {
			continue
		}
		m.refuse(m.tap, g.places[0], platform.ReasonTenant, "mirror into a VLAN that nothing else uses", "VLAN %d is that of port %s%s on switch %s: what passes there would be taken for copies",
			m.tap.FromVLAN, p.Port.Name, ofMachine(p), p.switchName())
		return false
	}
	return true
}

func ofMachine(p *place) string {
	if name := p.vmName(); name != "" {
		return " (machine " + name + ")"
	}
	return ""
}

// landing makes one session. On a switch of many hosts it is bound to none: it goes with the tool's machine.
func (m *maker) landing(g *group, d *policy.Destination, port string) {
	out := d.Output
	out.Port = port
	method, ok := m.method(g, platform.MethodMirror, []platform.Output{out})
	if !ok {
		return
	}
	s := platform.Session{
		Method: method, Host: g.key.host, Switch: g.key.sw, VLANs: []uint16{m.tap.FromVLAN}, Filter: m.tap.Filter, Slice: m.tap.Slice, Sample: m.tap.Sample,
		Outputs: []platform.Output{out}, Lease: platform.Lease{TTL: m.tap.Lease, Expires: m.doc.Expires},
	}
	p := g.places[0]
	part := word(p.switchName()) + "." + word(p.hostName()) + "." + d.Name
	if p.Switch.Kind == platform.SwitchDistributed {
		s.Host, part = "", word(p.switchName())+"."+d.Name
	}
	m.put(g, &s, part)
}

// severalPorts refuses a tool that has several ports where one is needed.
func (m *maker) severalPorts(g *group, d *policy.Destination, n int) {
	m.refuse(m.tap, g.places[0], platform.ReasonConflict, "name the port too", "destination %s (%s) has %d ports on switch %s", d.Name, d.Port, n, g.places[0].switchName())
}

// switchAt names a place's switch, and its host where it is of one.
func (p *place) switchAt() string {
	host := p.hostName()
	if p.Switch != nil && p.Switch.Kind == platform.SwitchDistributed || host == "" {
		return p.switchName()
	}
	return p.switchName() + " of host " + host
}

// wayIntoVLAN says how copies get into a VLAN without the switch's help.
func wayIntoVLAN(g *group, o platform.Output) string {
	sw := g.places[0].Switch
	if sw == nil || !slices.Contains([]platform.SwitchKind{platform.SwitchLinux, platform.SwitchNone, platform.SwitchOVS}, sw.Kind) {
		return ""
	}
	name := cmp.Or(o.Port, "eth1")
	return fmt.Sprintf("; or give the host an interface in that VLAN (ip link add link %[1]s name %[1]s.%[2]d type vlan id %[2]d) and write url: iface:%[1]s.%[2]d", name, o.VLAN)
}
