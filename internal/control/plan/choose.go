package plan

import (
	"cmp"
	"fmt"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

// refuse notes a refusal of a port.
func (b *builder) refuse(t *policy.Tap, p *place, reason platform.Reason, fix, format string, args ...any) {
	r := platform.Refusal{Policy: t.Name, Reason: reason, Message: fmt.Sprintf(format, args...), Fix: fix}
	if p != nil {
		r.Host, r.Switch, r.Port, r.VM = p.hostName(), p.switchName(), p.Port.Name, p.vmName()
	}
	b.hold(t.Name, p, reason)
	b.out.Refusals = append(b.out.Refusals, r)
}

func (p *place) hostName() string {
	if p.Host != nil {
		return p.Host.Name
	}
	return p.Port.Host
}

func (p *place) switchName() string {
	if p.Switch != nil {
		return p.Switch.Name
	}
	return p.Port.Switch
}

func (p *place) vmName() string {
	if p.VM != nil {
		return p.VM.Name
	}
	return p.Port.VM
}

// choose returns the ports that a tap may copy.
func (b *builder) choose(t *policy.Tap, tools *tools) (out []*place) {
	tenants := b.tenantsFor(t)
	b.wanted(t, func(p *place) {
		if b.source(t, p, tools) && b.ofTenant(t, p, tenants) {
			out = append(out, p)
		}
	})
	return out
}

// wanted visits the ports that a tap asks for, in the order of b.places.
func (b *builder) wanted(t *policy.Tap, visit func(*place)) {
	explicit := t.Select.Asks("port") || t.Select.Asks("port.id") || t.Select.Asks("kind")
	for i := range b.places {
		p := &b.places[i]
		tool := p.Port.Kind == platform.PortMirror && p.Port.VM != "" && p.Port.Owner == "" // a machine's port that copies come to
		if p.shadow || p.Port.Kind != platform.PortVM && !tool && !explicit {
			continue
		}
		if t.Select.Match(&p.Target) && !t.Exclude.Match(&p.Target) {
			visit(p)
		}
	}
}

// source reports whether a port may be one, and notes why not.
func (b *builder) source(t *policy.Tap, p *place, tools *tools) bool {
	switch {
	case p.Port.Owner != "" || p.Switch != nil && p.Switch.Owner != "":
		return false // made for taps: not worth a word
	case tools.is(p):
		b.refuse(t, p, platform.ReasonDestination, "add it to exclude", "machine %s is a destination of this tap: its copies would be copied again", p.vmName())
	case p.Port.Kind == platform.PortMirror || b.copied[p.snap.Platform][p.Port.ID] != "":
		whose := cmp.Or(b.copied[p.snap.Platform][p.Port.ID], "a mirror session")
		b.refuse(t, p, platform.ReasonMirrorPort, "add it to exclude", "port %s%s carries the copies of %s: they would be copied again", p.Port.Name, ofMachine(p), whose)
	case b.toolOf(p) != "":
		b.refuse(t, p, platform.ReasonDestination, "add it to exclude", "machine %s is a destination of tap %s: the copies that come to it would be copied again", p.vmName(), b.toolOf(p))
	case p.Port.Kind == platform.PortKernel:
		b.refuse(t, p, platform.ReasonKernelPort, "select ports of machines", "port %s is the host's own (management, storage, tunnels): it is never a source", p.Port.Name)
	case p.Port.Kind == platform.PortUplink || p.Port.Kind == platform.PortTunnel:
		return b.mayUplink(t, p)
	case p.Port.Kind != platform.PortVM:
		b.refuse(t, p, platform.ReasonKernelPort, "select ports of machines", "port %s is no machine's (%s): what passes it is seen at the machines", p.Port.Name, p.Port.Kind)
	case p.Host != nil && p.Host.Down:
		b.refuse(t, p, platform.ReasonDown, "it is tapped as soon as the host answers", "host %s does not answer", p.hostName())
	default:
		return true
	}
	return false
}

func (b *builder) mayUplink(t *policy.Tap, p *place) bool {
	switch {
	case p.Switch == nil || !p.Switch.Can.UplinkSource:
		b.refuse(t, p, platform.ReasonUplink, "select ports of machines", "port %s is an uplink or tunnel, which cannot be a source on this platform", p.Port.Name)
	case !t.Allows(policy.AllowUplinks):
		b.refuse(t, p, platform.ReasonUplink, "write allow: [uplinks] when that is meant", "port %s is an uplink or tunnel: it carries everybody's traffic", p.Port.Name)
	case b.remote[groupKey{p.snap.Platform, p.Port.Host, ""}] || b.leaves(t):
		b.refuse(t, p, platform.ReasonLoop, "use a destination that is a port of the same switch", "port %s may carry copies on their way to a tool: they would be copied again and again", p.Port.Name)
	default:
		return true
	}
	return false
}

// leaves reports whether a tap sends copies over the network.
func (b *builder) leaves(t *policy.Tap) bool {
	for _, name := range t.Destinations {
		if d := b.in.Set.Destination(name); d != nil && d.Output.Encap != "" {
			return true
		}
	}
	return false
}

// tenantsFor returns whose machines a tap may see: its own tenant, and those of its tools. Empty for anybody's.
func (b *builder) tenantsFor(t *policy.Tap) map[string]string {
	out := map[string]string{}
	if t.Tenant != "" {
		out[t.Tenant] = "the tap is tenant " + t.Tenant + "'s"
	}
	for _, name := range t.Destinations {
		if d := b.in.Set.Destination(name); d != nil && d.Tenant != "" {
			out[d.Tenant] = "destination " + d.Name + " is tenant " + d.Tenant + "'s"
		}
	}
	return out
}

func (b *builder) ofTenant(t *policy.Tap, p *place, tenants map[string]string) bool {
	if t.Allows(policy.AllowTenants) {
		return true
	}
	for tenant, why := range tenants {
		if p.Tenant != tenant {
			whose := "of no known tenant"
			if p.Tenant != "" {
				whose = "tenant " + p.Tenant + "'s"
			}
			b.refuse(t, p, platform.ReasonTenant, "select the tenant's machines alone, or write allow: [other-tenants]", "machine %s is %s, and %s", p.vmName(), whose, why)
			return false
		}
	}
	return true
}

// tools are the ports and addresses that a tap's copies go to.
type tools struct {
	ports  map[groupKey]map[string]*policy.Destination // switch → port ID → destination
	ids    map[string]map[string]bool                  // platform → port ID
	addrs  map[string]bool
	copies []string       // of addrs, those that copies go to and not records
	found  map[string]int // destination → ports
}

// tools finds the destinations of a tap in the inventory, once for all who ask.
func (b *builder) tools(t *policy.Tap) *tools {
	if b.found[t] == nil {
		b.found[t] = b.findTools(t)
	}
	return b.found[t]
}

func (b *builder) findTools(t *policy.Tap) *tools {
	out := &tools{ports: map[groupKey]map[string]*policy.Destination{}, ids: map[string]map[string]bool{}, addrs: map[string]bool{}, found: map[string]int{}}
	for _, name := range t.Destinations {
		d := b.in.Set.Destination(name)
		if d == nil {
			continue
		}
		if a := d.Output.Addr; a.IsValid() {
			out.addrs[a.String()] = true
			out.copies = append(out.copies, a.String())
		}
		if d.Export != nil {
			out.addrs[d.Export.To.Addr().String()] = true
		}
		if d.Port.IsZero() {
			continue
		}
		for i := range b.places {
			if p := &b.places[i]; !p.ofAgent() && matches(d.Port, p) {
				out.add(p, d)
			}
		}
	}
	return out
}

func (t *tools) add(p *place, d *policy.Destination) {
	if t.ports[p.key] == nil {
		t.ports[p.key] = map[string]*policy.Destination{}
	}
	if t.ids[p.snap.Platform] == nil {
		t.ids[p.snap.Platform] = map[string]bool{}
	}
	t.ports[p.key][p.Port.ID] = d
	t.ids[p.snap.Platform][p.Port.ID] = true
	t.found[d.Name]++
}

// is reports whether a port is a tool's: copies go to it, or to an address that it has.
func (t *tools) is(p *place) bool {
	if t.ids[p.snap.Platform][p.Port.ID] {
		return true
	}
	for _, a := range p.Port.Addrs {
		if t.addrs[a.String()] {
			return true
		}
	}
	return false
}

// allTools notes the machines that the taps in force copy to, so that no other tap copies those copies.
func (b *builder) allTools() {
	for _, t := range b.in.Set.Taps {
		if t.Paused || b.expired(t) {
			continue
		}
		tools := b.tools(t)
		for on, ids := range tools.ids {
			for id := range ids {
				b.toolPorts[[2]string{on, id}] = append(b.toolPorts[[2]string{on, id}], t.Name)
			}
		}
		for _, a := range tools.copies {
			b.toolAddrs[a] = append(b.toolAddrs[a], t.Name)
		}
	}
	b.toolHosts()
}

// toolHosts notes the hosts that copies come to in tunnels: those that have the address of a tool, or a machine that has.
func (b *builder) toolHosts() {
	if len(b.toolAddrs) == 0 {
		return
	}
	note := func(on, host string, addrs []flow.Addr) {
		for _, a := range addrs {
			if len(b.toolAddrs[a.String()]) > 0 {
				b.remote[groupKey{on, host, ""}] = true
			}
		}
	}
	for _, s := range b.in.Snapshots {
		for id, h := range s.Hosts {
			note(s.Platform, id, h.Addrs)
			note(s.Platform, id, h.VTEPs)
		}
	}
	for i := range b.places {
		p := &b.places[i]
		note(p.snap.Platform, p.Port.Host, p.Port.Addrs)
	}
}

// toolOf returns the first tap whose copies come to a port, "" for none.
func (b *builder) toolOf(p *place) string {
	if names := b.toolPorts[[2]string{p.snap.Platform, p.Port.ID}]; len(names) > 0 {
		return names[0]
	}
	for _, a := range p.Port.Addrs {
		if names := b.toolAddrs[a.String()]; len(names) > 0 {
			return names[0]
		}
	}
	return ""
}

// matches reports whether a port is the one that a destination names. A tool's port that carries copies already is still its machine's.
func matches(r policy.PortRef, p *place) bool {
	one := func(want, got string) bool { return want == "" || want == got }
	machine := p.Port.Kind == platform.PortVM || p.Port.Kind == platform.PortMirror && p.Port.VM != ""
	return one(r.Platform, p.snap.Platform) && one(r.Host, p.hostName()) && one(r.Switch, p.switchName()) && one(r.Port, p.Port.Name) &&
		(r.VM == "" || r.VM == p.vmName()) && (r.Port != "" || machine)
}
