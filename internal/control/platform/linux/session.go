//go:build linux

package linux

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// foreignVNIs notes the VXLAN networks that devices of others have: of one VNI and UDP port there is one device in a namespace.
func (l *planner) foreignVNIs() {
	for _, p := range l.now.Ports {
		if tag := p.Tags[tagVNI]; tag != "" && p.Owner == "" {
			l.vnis[tag] = p.Name
		}
	}
}

// refuse notes why a session cannot be made. What exists of it stays.
func (l *planner) refuse(s *platform.Session, r platform.Refusal) {
	r.Policy, r.Host = s.Mark.Policy, l.p.host
	if r.Port == "" {
		l.spared[cookieOf(s.Mark, false).session] = true
	} else if p := l.now.Ports[r.Port]; p != nil && l.now.VMs[p.VM] != nil {
		r.VM = l.now.VMs[p.VM].Name
	}
	l.refusals = append(l.refusals, r)
}

// session plans one session, or refuses it.
func (l *planner) session(s *platform.Session) {
	if s.Method == platform.MethodPromiscuous {
		if r := l.everything(s); r != nil {
			l.refuse(s, *r)
			return
		}
	}
	if r := l.impossible(s); r != nil {
		l.refuse(s, *r)
		return
	}
	carrier := device{Name: carrierName(s.Mark), Kind: "bridge", Alias: carrierAlias(s.Mark)}
	if len(carrier.Alias) > maxAlias {
		l.refuse(s, platform.Refusal{Reason: platform.ReasonLimit, Message: fmt.Sprintf("the tap's mark has %d bytes, at most %d", len(carrier.Alias), maxAlias), Fix: "use shorter names"})
		return
	}
	to, tunnels, r := l.outputs(s)
	if r == nil {
		r = l.sources(s, to)
	}
	if r != nil {
		l.refuse(s, *r)
		return
	}
	l.devices[carrier.Name], l.users[carrier.Name] = carrier, s.Mark
	for _, d := range tunnels {
		l.devices[d.Name] = d
		if _, known := l.users[d.Name]; !known {
			l.users[d.Name] = s.Mark
		}
		if d.Kind == "vxlan" {
			l.vnis[vniTag(d.Key, d.UDP)] = d.Name
		}
	}
}

// impossible refuses what no filter of the kernel can do.
func (l *planner) impossible(s *platform.Session) *platform.Refusal {
	cannot := func(message, fix string) *platform.Refusal {
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: message, Fix: fix}
	}
	switch {
	case s.Method != platform.MethodMirror && s.Method != platform.MethodRemoteMirror:
		return cannot(fmt.Sprintf("a Linux kernel has no method %q", s.Method), "use mirror, remote-mirror or promiscuous, or an agent on the host")
	case s.Lease.TTL > 0:
		return cannot("a filter in the kernel goes on without a controller: it cannot have a lease", "leave lease out (ttl still ends the tap while a controller is there), or use the agent method")
	case s.Slice > 0:
		return cannot(fmt.Sprintf("tc copies whole packets, not %d bytes of them", s.Slice), "leave out the slice, or use the agent method")
	case len(s.Outputs) == 0:
		return cannot("the tap has no destination", "name one")
	case s.Host != "" && l.now.Hosts[s.Host] == nil:
		return &platform.Refusal{Reason: platform.ReasonDown, Message: fmt.Sprintf("host %q is not this one", s.Host)}
	}
	return nil
}

// outputs returns the devices that a session copies to, and the tunnels among them that are ours.
func (l *planner) outputs(s *platform.Session) (to []string, tunnels []device, r *platform.Refusal) {
	for _, o := range s.Outputs {
		if s.Method == platform.MethodMirror {
			name := localPort(o)
			switch {
			case l.now.Ports[name] == nil:
				return nil, nil, &platform.Refusal{Reason: platform.ReasonDown, Message: fmt.Sprintf("destination %s: there is no interface %q", o.Name, name)}
			case slices.ContainsFunc(s.Sources, func(src platform.Source) bool { return src.Port == name }):
				return nil, nil, &platform.Refusal{Reason: platform.ReasonLoop, Message: fmt.Sprintf("destination %s is the port %s, which is a source", o.Name, name), Fix: "leave the tool's own port out of the selection"}
			case s.Switch != "" && (name == s.Switch || l.now.Ports[name].Raw[rawInto] == s.Switch):
				return nil, nil, &platform.Refusal{
					Reason:  platform.ReasonLoop,
					Message: fmt.Sprintf("destination %s: what is sent to %s comes into bridge %s again: it would be copied once more, and the bridge would look for its senders there", o.Name, name, s.Switch),
					Fix:     "use an interface that leads to no tapped bridge, or the tool's own port of the bridge (port: {vm: NAME})",
				}
			}
			to = append(to, name)
			continue
		}
		if r := l.tunnelRefusal(&o); r != nil {
			return nil, nil, r
		}
		d := tunnel(s.Mark.Owner, o)
		to, tunnels = append(to, d.Name), append(tunnels, d)
	}
	return to, tunnels, nil
}

// localPort is the interface that copies go to: a tool's port, or the one that "iface:NAME" names.
func localPort(o platform.Output) string {
	name, _ := strings.CutPrefix(o.URL, "iface:")
	return cmp.Or(o.Port, name)
}

// tunnelRefusal refuses tunnels that the kernel cannot make.
func (l *planner) tunnelRefusal(o *platform.Output) *platform.Refusal {
	if !slices.Contains(l.p.can.Encaps, o.Encap) {
		fix := fmt.Sprintf("use %s", joined(l.p.can.Encaps))
		if o.Encap == platform.EncapGRE || o.Encap == platform.EncapERSPAN2 || o.Encap == platform.EncapERSPAN3 {
			fix += "; or install the module ip_gre"
		}
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: fmt.Sprintf("destination %s: this kernel has no device for %s", o.Name, o.Encap), Fix: fix}
	}
	if !o.Addr.IsValid() || o.Addr.IsUnspecified() || o.Addr.IsMulticast() {
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: fmt.Sprintf("destination %s: %q is no address for copies", o.Name, o.Addr)}
	}
	limit := map[platform.Encap]uint32{platform.EncapVXLAN: 1<<24 - 1, platform.EncapGeneve: 1<<24 - 1, platform.EncapERSPAN2: 1<<10 - 1, platform.EncapERSPAN3: 1<<10 - 1}
	if most, bounded := limit[o.Encap]; bounded && o.Key > most {
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: fmt.Sprintf("destination %s: key %d, at most %d with %s", o.Name, o.Key, most, o.Encap)}
	}
	if o.Encap != platform.EncapVXLAN {
		return nil
	}
	if other := l.vnis[vniTag(o.Key, udpPort(*o))]; other != "" && other != tunnelName(l.owner, *o) {
		return &platform.Refusal{
			Reason: platform.ReasonConflict, Message: fmt.Sprintf("destination %s: device %s has VNI %d on UDP port %d, and the kernel allows one", o.Name, other, o.Key, udpPort(*o)),
			Fix: "give the destination another VNI or UDP port",
		}
	}
	return nil
}

func joined(all []platform.Encap) string {
	words := make([]string, len(all))
	for i, e := range all {
		words[i] = string(e)
	}
	return strings.Join(words, ", ")
}

// sources plans the filters of a session. A port that cannot be a source is refused alone; a filter that the kernel cannot do ends the
// session.
func (l *planner) sources(s *platform.Session, to []string) *platform.Refusal {
	announcers := l.announcers(s)
	made := map[string][]wanted{}
	for _, src := range s.Sources {
		port := l.now.Ports[src.Port]
		if r := l.sourceRefusal(src, port); r != nil {
			l.refuse(s, *r)
			continue
		}
		c := choice{filter: s.Filter, sample: s.Sample, vlans: s.VLANs}
		if s.VLANs != nil && port.VLAN != 0 {
			if !slices.Contains(s.VLANs, port.VLAN) {
				continue
			}
			c.vlans = nil // its frames carry no tag
		}
		for _, o := range s.Outputs {
			if g := guardOf(o); g != "" {
				c.guard = append(c.guard, g)
			}
		}
		for _, dir := range []platform.Direction{platform.Ingress, platform.Egress} {
			if src.Dir&dir == 0 {
				continue
			}
			if dir == platform.Egress {
				c.except, c.noBcast = s.ExceptFrom, announcers[domain(port)] != port.ID
			}
			code, residual, err := l.program(&c)
			if r := filterRefusal(residual, err); r != nil {
				return r
			}
			made[port.ID] = append(made[port.ID], wanted{filterSpec{Dir: dir, Handle: handleOf(s.Mark), Code: code, To: to}, s.Mark, c.whole(port.MAC)})
		}
	}
	for port, list := range made {
		l.filters[port] = append(l.filters[port], list...)
	}
	return nil
}

// compiled is what became of a choice.
type compiled struct {
	code, residual string
	err            error
}

// program compiles a choice, once for all ports that it is made for.
func (l *planner) program(c *choice) (code, residual string, err error) {
	key := fmt.Sprint(c.expression(), c.vlans, c.sample)
	p, known := l.programs[key]
	if !known {
		p.code, p.residual, p.err = c.program()
		l.programs[key] = p
	}
	return p.code, p.residual, p.err
}

// domain is where a broadcast reaches every port.
func domain(p *platform.Port) string {
	if p.Switch == noSwitch {
		return "port " + p.ID
	}
	return fmt.Sprintf("%s %d %d", p.Switch, p.VLAN, p.Segment)
}

// announcers names for each broadcast domain the one port of a session at which broadcasts from outside are copied: every port gets
// them, and one copy is enough.
func (l *planner) announcers(s *platform.Session) map[string]string {
	out, up := map[string]string{}, map[string]bool{}
	for _, src := range s.Sources {
		p := l.now.Ports[src.Port]
		if p == nil || src.Dir&platform.Egress == 0 {
			continue
		}
		if d := domain(p); out[d] == "" || p.Up && !up[d] {
			out[d], up[d] = p.ID, p.Up
		}
	}
	return out
}

func (l *planner) sourceRefusal(src platform.Source, port *platform.Port) *platform.Refusal {
	r := &platform.Refusal{Port: src.Port}
	qdisc := l.now.Objects["qdisc/"+src.Port]
	switch {
	case port == nil:
		r.Reason, r.Message = platform.ReasonDown, fmt.Sprintf("port %s is gone", src.Port)
	case port.Kind == platform.PortKernel:
		r.Reason, r.Message = platform.ReasonKernelPort, fmt.Sprintf("%s is the host's own interface", src.Port)
	case port.Kind == platform.PortMirror:
		r.Reason, r.Message = platform.ReasonMirrorPort, fmt.Sprintf("%s carries copies", src.Port)
	case qdisc != nil && src.Dir&platform.Egress != 0 && qdisc.Raw[rawKind] == "ingress":
		r.Reason, r.Message = platform.ReasonConflict, fmt.Sprintf("%s has an ingress qdisc of somebody else, which leaves no room for filters on egress", src.Port)
		r.Fix = "replace it by clsact (libvirt makes it for an adapter's outbound bandwidth), tap ingress only, or use the agent method"
	case qdisc != nil && taken(qdisc, src.Dir):
		r.Reason, r.Message = platform.ReasonConflict, fmt.Sprintf("%s has a filter of somebody else at preference %d (%s)", src.Port, preference, qdisc.Raw[rawTaken])
		r.Fix = "give that filter another preference, or use the agent method"
	default:
		return nil
	}
	return r
}

// taken reports whether somebody else has the place of our filters at a qdisc: of one preference and direction all filters are of one kind and protocol.
func taken(qdisc *platform.Object, dir platform.Direction) bool {
	return slices.ContainsFunc(strings.Fields(qdisc.Raw[rawTaken]), func(d string) bool {
		return d == platform.Ingress.String() && dir&platform.Ingress != 0 || d == platform.Egress.String() && dir&platform.Egress != 0
	})
}

func filterRefusal(residual string, err error) *platform.Refusal {
	switch {
	case err != nil:
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: err.Error()}
	case residual != "":
		return &platform.Refusal{Reason: platform.ReasonCapability, Message: "the kernel cannot test: " + residual, Fix: "use the agent method, which looks again, or leave this part to the tool"}
	}
	return nil
}

func parseAddr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}
