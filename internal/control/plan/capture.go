package plan

import (
	"cmp"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Capture VMs see what port groups in promiscuous mode show them. A switch shows a port what passes it on the same host and nothing of
// other hosts, so there is one machine on each host, with one adapter on each switch.

// Names of what is made for the method promiscuous, unless the policy has others.
const (
	captureVM    = "crosstap-capture"
	captureGroup = "crosstap-span"
)

// VLANs that a promiscuous port group takes: all of them, with their tags. A standard switch says so with 4095.
const (
	allVLANsStandard    = "4095"
	allVLANsDistributed = "0-4094"
)

// PlaceCapture returns one session for each host: its capture VM with an adapter on each of its switches. switches are those to be
// seen; hosts and switches of others are not to be among them.
func PlaceCapture(owner string, t *policy.Tap, hosts map[string]*platform.Host, switches []*platform.Switch) (out []platform.Session) {
	byHost := map[string][]*platform.Switch{}
	for _, sw := range switches {
		for _, h := range sw.Hosts {
			if hosts[h] != nil {
				byHost[h] = append(byHost[h], sw)
			}
		}
	}
	for _, h := range platform.Sorted(hosts) {
		list := byHost[h.ID]
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, func(a, b *platform.Switch) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
		c := platform.Capture{VM: cmp.Or(t.Capture.VM, captureVM) + "-" + h.Name, Image: t.Capture.Image}
		for _, sw := range list {
			nic := platform.CaptureNIC{Switch: sw.ID, Kind: sw.Kind, Group: cmp.Or(t.Capture.Group, captureGroup) + "-" + sw.Name, VLANs: allVLANsStandard}
			if sw.Kind == platform.SwitchDistributed {
				nic.VLANs = allVLANsDistributed
				nic.Group += "-" + h.Name // one that no other host's machine is in
			}
			c.NICs = append(c.NICs, nic)
		}
		s := platform.Session{Method: platform.MethodPromiscuous, Host: h.ID, Capture: &c, Lease: platform.Lease{TTL: t.Lease}}
		s.Mark = platform.Mark{Owner: owner, Policy: t.Name, Part: word(h.Name) + ".capture"}
		s.Mark.Digest = Digest(&s)
		out = append(out, s)
	}
	return out
}

// capture makes the capture VM of the group's host once, with all switches of the tap on that host.
func (m *maker) capture(g *group) {
	p := g.places[0]
	for _, s := range m.made[p.snap.Platform] {
		if s.Capture != nil && s.Host == g.key.host {
			return
		}
	}
	if !m.widens(g) || !m.capable(g, platform.MethodPromiscuous) || !m.promiscuous(g) {
		return
	}
	var switches []*platform.Switch
	for _, other := range m.groups {
		if sw := other.places[0].Switch; other.key.platform == g.key.platform && other.key.host == g.key.host && sw != nil {
			switches = append(switches, sw)
		}
	}
	hosts := map[string]*platform.Host{}
	if p.Host != nil {
		hosts[p.Host.ID] = p.Host
	}
	for _, s := range PlaceCapture(m.in.Owner, m.tap, hosts, switches) {
		s.Lease.Expires = m.doc.Expires
		if !m.doc.Expires.IsZero() {
			s.Mark.ExpiresS = m.doc.Expires.Unix()
		}
		m.made[p.snap.Platform] = append(m.made[p.snap.Platform], s)
		m.doc.Places = append(m.doc.Places, Place{
			Platform: p.snap.Platform, Host: p.hostName(), Method: platform.MethodPromiscuous, Count: len(s.Capture.NICs), Session: s.Mark.Key(), To: []string{s.Capture.VM},
		})
	}
}

// widens reports whether the tap may see everything on a switch: it says so, and nobody else's tenant is there.
func (m *maker) widens(g *group) bool {
	p := g.places[0]
	if !m.tap.Allows(policy.AllowPromiscuous) {
		m.refuse(m.tap, p, platform.ReasonPromiscuous, "write allow: [promiscuous] when that is meant", "a promiscuous port shows the traffic of every machine on switch %s", p.switchName())
		return false
	}
	tenants := m.tenantsFor(m.tap)
	if len(tenants) == 0 {
		return true
	}
	for i := range m.places {
		if other := &m.places[i]; other.key == g.key && other.Port.Kind == platform.PortVM && other.Port.Owner == "" && !m.tools.is(other) && !m.ofTenant(m.tap, other, tenants) {
			return false
		}
	}
	return true
}

// promiscuous reports whether the group's switch has the method.
func (m *maker) promiscuous(g *group) bool {
	if slices.Contains(g.can().Methods, platform.MethodPromiscuous) {
		return true
	}
	m.refuse(m.tap, g.places[0], platform.ReasonCapability, "use what it can: "+able(g.can()), "switch %s has no promiscuous ports", g.places[0].switchName())
	return false
}
