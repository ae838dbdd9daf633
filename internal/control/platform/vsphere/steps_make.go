package vsphere

import (
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// Ranges of the API (VMwareVspanSession, VMwareIpfixConfig).
const (
	minLength   = 60
	maxSampling = 65535
	maxERSPAN   = 0x3ff
	maxNICs     = 10 // of one VM
)

// mirror returns the mirror sessions of a platform session: one for all outputs that travel alike.
func (b *stepper) mirror(s *platform.Session) []wanted {
	sw := b.now.Switches[s.Switch]
	if sw == nil || sw.Kind != platform.SwitchDistributed {
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonCapability, Message: "only distributed switches mirror ports",
			Fix: "use method promiscuous on a standard switch, or an agent",
		})
		return nil
	}
	b.checkMirror(s, sw)
	base := fields{"enabled": "yes", "sampling": number(max(s.Sample, 1)), "strip-vlan": "no", "length": number(s.Slice)}
	b.sources(s, sw, base)
	var out []wanted
	for i, group := range b.outputs(s, sw) {
		f := fields{}
		for name, value := range base {
			f[name] = value
		}
		for name, value := range group {
			f[name] = value
		}
		w := wanted{mark: s.Mark, phase: platform.PhaseSwitch}
		w.change = change{Kind: kindSession, Switch: sw.ID, Name: sessionName(s.Mark, i), Fields: f}
		f["name"], f["description"] = w.Name, s.Mark.Text()
		if i > 0 {
			f["description"] += fmt.Sprintf(" n=%d", i+1)
		}
		w.about = "mirror " + aboutSession(f)
		dropEmpty(f)
		out = append(out, w)
	}
	b.room(s, sw, out)
	return out
}

func dropEmpty(f fields) {
	for name, value := range f {
		if value == "" {
			delete(f, name)
		}
	}
}

func sessionName(m platform.Mark, i int) string {
	name := platform.MarkPrefix + m.Policy
	if m.Part != "" {
		name += "-" + m.Part
	}
	if i > 0 {
		name += fmt.Sprintf("#%d", i+1)
	}
	return name
}

// checkMirror refuses what no distributed switch, or not this one, can do.
func (b *stepper) checkMirror(s *platform.Session, sw *platform.Switch) {
	no := func(fix, format string, args ...any) {
		b.refuse(s, platform.Refusal{Reason: platform.ReasonCapability, Message: fmt.Sprintf(format, args...), Fix: fix})
	}
	switch {
	case !slices.Contains(sw.Can.Methods, s.Method):
		no("upgrade the switch, or choose another method", "this version of the switch cannot do %s", s.Method)
	case s.Filter != "" || len(s.ExceptFrom) > 0:
		no("filter where the copies arrive", "mirror sessions have no filter")
	case len(s.VLANs) > 0 && (len(s.Sources) > 0 || s.Method != platform.MethodMirror):
		no("leave the VLANs away, or filter where the copies arrive", "mirror sessions of ports copy all their VLANs")
	case s.Slice != 0 && s.Slice < minLength:
		no(fmt.Sprintf("slice to %d or more", minLength), "a mirror session cannot cut copies to %d bytes", s.Slice)
	case s.Sample < 0 || s.Sample > maxSampling:
		no("", "a mirror session cannot copy one packet in %d; %d at most", s.Sample, maxSampling)
	}
}

// sources writes which ports are copied. As the switch's port sees it, it receives what the machine sends.
func (b *stepper) sources(s *platform.Session, sw *platform.Switch, f fields) {
	var received, transmitted []string
	for _, src := range s.Sources {
		p := b.now.Ports[src.Port]
		key, ok := portKey(sw.ID, src.Port)
		if p == nil || !ok {
			b.refuse(s, platform.Refusal{Reason: platform.ReasonNoMatch, Port: src.Port, Message: fmt.Sprintf("port %s is not on this switch", src.Port), Fix: "plan again"})
			continue
		}
		if r, bad := b.badSource(p, src.Dir); bad {
			b.refuse(s, r)
		}
		if src.Dir&platform.Ingress != 0 {
			received = append(received, key)
		}
		if src.Dir&platform.Egress != 0 {
			transmitted = append(transmitted, key)
		}
	}
	f["received"], f["transmitted"] = joinPorts(received), joinPorts(transmitted)
	if len(s.Sources) == 0 {
		vlans := make([]string, len(s.VLANs))
		for i, n := range s.VLANs {
			vlans[i] = fmt.Sprint(n)
		}
		f["vlans"] = joinPorts(vlans)
		if len(vlans) == 0 {
			b.refuse(s, platform.Refusal{Reason: platform.ReasonNoMatch, Message: "the session has no source"})
		}
	}
}

// badSource says why a port must not be copied.
func (b *stepper) badSource(p *platform.Port, dir platform.Direction) (platform.Refusal, bool) {
	r := platform.Refusal{Port: p.Name}
	if vm := b.now.VMs[p.VM]; vm != nil {
		r.VM = vm.Name
	}
	switch {
	case p.Kind == platform.PortKernel:
		r.Reason = platform.ReasonKernelPort
		r.Message = fmt.Sprintf("port %s is a vmkernel adapter: management, storage, vMotion, and perhaps the copies themselves", p.Name)
	case p.Kind == platform.PortUplink:
		r.Reason, r.Message = platform.ReasonUplink, fmt.Sprintf("port %s is an uplink, which vSphere does not mirror", p.Name)
		r.Fix = "choose the ports of the machines"
	case p.Kind == platform.PortMirror || b.output(p.ID):
		r.Reason, r.Message = platform.ReasonMirrorPort, fmt.Sprintf("port %s carries copies", p.Name)
	case p.Promisc && dir&platform.Egress != 0:
		r.Reason = platform.ReasonPromiscuous
		r.Message = fmt.Sprintf("port group %q is promiscuous: vSphere refuses to mirror what its ports are given", p.Group)
		r.Fix = "set promiscuous mode of the port group to reject, or copy only what its machines send (ingress)"
	default:
		return r, false
	}
	return r, true
}

// output reports whether a port is the destination of a session that is there.
func (b *stepper) output(port string) bool {
	for _, o := range b.now.Objects {
		if o.Kind == kindSession && slices.Contains(o.Outputs, port) {
			return true
		}
	}
	return false
}

// outputs returns the destinations of a session, in groups that fit into one mirror session each.
func (b *stepper) outputs(s *platform.Session, sw *platform.Switch) (out []fields) {
	if len(s.Outputs) == 0 {
		b.refuse(s, platform.Refusal{Reason: platform.ReasonNoMatch, Message: "the session has no destination"})
		return nil
	}
	if s.Method == platform.MethodMirror {
		return b.portOutputs(s, sw)
	}
	for _, o := range s.Outputs {
		f := b.remote(s, sw, &o)
		i := slices.IndexFunc(out, func(g fields) bool {
			return g["encapsulation"] == f["encapsulation"] && g["erspan-id"] == f["erspan-id"] && g["erspan-cos"] == f["erspan-cos"] && g["to-vlan"] == f["to-vlan"] && f["to-addresses"] != ""
		})
		if i < 0 {
			out = append(out, f)
			continue
		}
		addrs := append(split(out[i]["to-addresses"]), split(f["to-addresses"])...)
		slices.Sort(addrs)
		out[i]["to-addresses"] = strings.Join(slices.Compact(addrs), ",")
	}
	return out
}

// portOutputs returns the session towards ports of the same host. Normal traffic stays allowed: the tool's machine may be managed
// through the same adapter.
func (b *stepper) portOutputs(s *platform.Session, sw *platform.Switch) []fields {
	f := fields{"type": portMirror, "normal-traffic": "yes"}
	if len(s.Sources) == 0 {
		f["type"] = remoteDest
	}
	var ports []string
	for _, o := range s.Outputs {
		p := b.now.Ports[o.Port]
		key, ok := portKey(sw.ID, o.Port)
		if p == nil || !ok {
			b.refuse(s, platform.Refusal{Reason: platform.ReasonNoMatch, Port: o.Port, Message: fmt.Sprintf("destination %s: port %q is not on this switch", o.Name, o.Port), Fix: "attach the tool's machine to this switch, or use remote-mirror"})
			continue
		}
		ports = append(ports, key)
		b.checkDestination(s, &o, p)
	}
	f["to-ports"] = joinPorts(ports)
	return []fields{f}
}

// checkDestination refuses ports that cannot take copies.
func (b *stepper) checkDestination(s *platform.Session, o *platform.Output, p *platform.Port) {
	r := platform.Refusal{Port: p.Name}
	switch {
	case p.Kind != platform.PortVM && p.Kind != platform.PortMirror:
		r.Reason, r.Message = platform.ReasonCapability, fmt.Sprintf("destination %s: port %s is no port of a machine", o.Name, p.Name)
	case p.Promisc:
		r.Reason = platform.ReasonPromiscuous
		r.Message = fmt.Sprintf("destination %s: port group %q is promiscuous, which vSphere refuses for destinations", o.Name, p.Group)
		r.Fix = "set promiscuous mode of the port group to reject: a mirror destination gets its copies without it"
	case slices.ContainsFunc(s.Sources, func(src platform.Source) bool { return src.Port == p.ID }):
		r.Reason, r.Message = platform.ReasonDestination, fmt.Sprintf("destination %s: its own port %s would be copied", o.Name, p.Name)
		r.Fix = "exclude the tool's machine"
	}
	if r.Reason != "" {
		b.refuse(s, r)
		return
	}
	if other := b.claimed[p.ID]; other != "" {
		name, _, _ := strings.Cut(other, "/")
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonConflict, Port: p.Name, Message: fmt.Sprintf("destination %s: port %s is the destination of tap %s, and a port is that of one session only", o.Name, p.Name, name),
			Fix: "give the tool's machine another adapter, or put what both taps see into one",
		})
		return
	}
	b.claimed[p.ID] = s.Mark.Key()
	for _, id := range b.ids {
		if x := b.now.Objects[id]; x.Kind == kindSession && x.Mark.Owner != b.owner && slices.Contains(x.Outputs, p.ID) {
			b.refuse(s, platform.Refusal{
				Reason: platform.ReasonConflict, Port: p.Name, Message: fmt.Sprintf("destination %s: port %s is the destination of session %q, and a port is that of one only", o.Name, p.Name, x.Name),
				Fix: "give the tool's machine another adapter",
			})
		}
	}
	for _, src := range s.Sources {
		if sp := b.now.Ports[src.Port]; sp != nil && sp.Host != "" && p.Host != "" && sp.Host != p.Host {
			b.refuse(s, platform.Refusal{
				Reason: platform.ReasonCapability, Port: sp.Name, Message: fmt.Sprintf("port %s is on another host than destination %s: copies to a port stay on one host", sp.Name, o.Name),
				Fix: "use remote-mirror, or a tool on each host",
			})
			return
		}
	}
}

// remote returns the session towards one address, or towards a VLAN of the uplinks.
func (b *stepper) remote(s *platform.Session, sw *platform.Switch, o *platform.Output) fields {
	no := func(reason platform.Reason, fix, format string, args ...any) {
		b.refuse(s, platform.Refusal{Reason: reason, Message: "destination " + o.Name + ": " + fmt.Sprintf(format, args...), Fix: fix})
	}
	if !slices.Contains(sw.Can.Encaps, o.Encap) {
		no(platform.ReasonCapability, fmt.Sprintf("one of: %v", sw.Can.Encaps), "this switch cannot send copies as %s", o.Encap)
		return fields{}
	}
	if o.Encap == platform.EncapVLAN {
		return b.remoteVLAN(sw, o, no)
	}
	f := fields{"type": encapsulated, "encapsulation": string(o.Encap), "to-addresses": o.Addr.WithZone("").String(), "netstack": b.set.Options["netstack"]}
	switch {
	case !o.Addr.IsValid() || o.Addr.IsMulticast() || o.Addr.IsUnspecified():
		no(platform.ReasonNoMatch, "", "%q is no address of a tool", o.Addr)
	case o.Encap == platform.EncapGRE && o.Key != 0:
		no(platform.ReasonCapability, "leave the key away, or use erspan2 with a session", "GRE of vSphere has no key")
	case o.Encap != platform.EncapGRE && o.Key > maxERSPAN:
		no(platform.ReasonCapability, "", "session %d: ERSPAN has %d at most", o.Key, maxERSPAN)
	}
	if o.Encap != platform.EncapGRE {
		f["erspan-id"], f["erspan-cos"] = number(int32(o.Key)), number(int32(o.DSCP>>3))
	}
	if f["netstack"] == defaultNetstack {
		f["netstack"] = ""
	}
	for _, src := range s.Sources {
		if p := b.now.Ports[src.Port]; p != nil && slices.Contains(p.Addrs, flow.FromNetip(o.Addr)) {
			no(platform.ReasonDestination, "exclude the tool's machine", "it has the address %s, and its port %s would be copied", o.Addr, p.Name)
		}
	}
	return f
}

// remoteVLAN returns the session that tags copies with a VLAN and sends them out through an uplink (RSPAN). The VLAN must be one that
// nothing else on the switch uses: copies would come to whoever does.
func (b *stepper) remoteVLAN(sw *platform.Switch, o *platform.Output, no func(platform.Reason, string, string, ...any)) fields {
	name := o.Port
	if p := b.now.Ports[o.Port]; p != nil && p.Kind == platform.PortUplink {
		name = p.Name
	}
	var uplinks []string
	var user *platform.Port
	for _, p := range platform.Sorted(b.now.Ports) {
		switch {
		case p.Switch != sw.ID:
		case p.Kind == platform.PortUplink:
			uplinks = append(uplinks, p.Name)
		case p.VLAN == o.VLAN && p.Kind != platform.PortMirror:
			user = p
		}
	}
	slices.Sort(uplinks)
	uplinks = slices.Compact(uplinks)
	switch {
	case name == "":
		no(platform.ReasonNoMatch, "name the uplink, such as dvUplink1", "copies on a VLAN need an uplink to leave through")
	case len(uplinks) > 0 && !slices.Contains(uplinks, name):
		no(platform.ReasonNoMatch, "name one of: "+strings.Join(uplinks, ", "), "the switch has no uplink %q", name)
	case o.VLAN == 0 || o.VLAN > 4094:
		no(platform.ReasonCapability, "choose a VLAN from 1 to 4094 that nothing else uses", "VLAN %d", o.VLAN)
	case user != nil:
		no(platform.ReasonLoop, "choose a VLAN that nothing else uses", "VLAN %d is that of port group %q: copies would come to its ports", o.VLAN, user.Group)
	}
	return fields{"type": remoteSource, "to-uplinks": joinNames([]string{name}), "to-vlan": number(int32(o.VLAN))}
}

// room refuses sessions that a switch has no place for.
func (b *stepper) room(s *platform.Session, sw *platform.Switch, list []wanted) {
	if sw.Can.MaxSessions == 0 {
		return
	}
	for i := range list {
		if o, _ := b.find(&list[i]); o != nil {
			continue
		}
		if b.sessions[sw.ID]++; b.sessions[sw.ID] > sw.Can.MaxSessions {
			b.refuse(s, platform.Refusal{
				Reason: platform.ReasonLimit, Message: fmt.Sprintf("the switch has %d mirror sessions, and max-sessions is %d", b.sessions[sw.ID]-1, sw.Can.MaxSessions),
				Fix: "put more ports into one tap, or remove sessions that nobody needs",
			})
		}
	}
}
