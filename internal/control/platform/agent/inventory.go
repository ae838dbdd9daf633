package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/agentapi"
	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/tapspec"
)

// Keys of Port.Raw and Host.Tags.
const (
	rawSide    = "side" // own: the agent's machine speaks through it; far: a machine is behind it
	sideOwn    = "own"
	sideFar    = "far"
	tagPayload = "payload" // of the host: the agent may copy it
)

// kindTap is the kind of all objects here.
const kindTap = "tap"

// switchName is that of the switch that the interfaces of an agent make up.
const switchName = "agent"

// capability is what an agent can do.
var capability = platform.Capability{
	Methods: []platform.Method{platform.MethodAgent}, Filter: platform.FilterFull, ExceptMACs: true, Slice: true, Sample: true, VLANs: true,
	Follows: true, MaxSessions: tapspec.MaxSpecs,
	Encaps: []platform.Encap{platform.EncapVXLAN, platform.EncapGeneve, platform.EncapGRE, platform.EncapERSPAN2, platform.EncapERSPAN3},
}

// add adds an agent to a snapshot.
func add(s *platform.Snapshot, a *Agent) {
	h := &platform.Host{ID: a.Name, Name: a.Host, Version: strings.TrimSpace("crosstap " + a.Software), Down: a.Away, Routing: a.Routing, Tags: map[string]string{}}
	if h.Name == "" {
		h.Name = a.Name
	}
	if a.Payload {
		h.Tags[tagPayload] = "yes"
	}
	s.Hosts[a.Name] = h
	s.Switches[a.Name] = &platform.Switch{ID: a.Name, Name: switchName, Kind: platform.SwitchAgent, Hosts: []string{a.Name}, Can: capability}
	own := ownInterfaces(a.Interfaces)
	if len(own) > 0 {
		s.VMs[machineID(a.Name)] = &platform.VM{ID: machineID(a.Name), Name: a.Name, Host: a.Name, Agent: true}
	}
	for i := range a.Interfaces {
		if p := portOf(a, &a.Interfaces[i], own); p != nil {
			s.Ports[p.ID] = p
			if p.Raw[rawSide] == sideOwn {
				h.Addrs = append(h.Addrs, p.Addrs...)
			}
		}
	}
	for i := range a.Given {
		o := objectOf(a, &a.Given[i], own)
		s.Objects[o.ID] = o
	}
}

// machineID is that of the machine that an agent runs in.
func machineID(agent string) string { return "agent/" + agent }

func portID(agent, iface string) string { return agent + "/" + iface }

// ownInterfaces names those through which the agent's machine itself speaks: its adapters, or bonds of them. Where there are none, as in a
// container, they are the ends of pairs without a bridge. A hypervisor has none: what passes its adapters is of all its machines.
func ownInterfaces(all []agentapi.Interface) map[string]bool {
	out, pairs := map[string]bool{}, map[string]bool{}
	for _, i := range all {
		switch {
		case guest(&i):
			return map[string]bool{}
		case !hasMAC(&i) || i.Master != "" || strings.HasPrefix(i.Name, platform.MarkPrefix):
		case i.Kind == "device" || i.Kind == "" || i.Kind == "bond":
			out[i.Name] = true
		case i.Kind == "veth" || i.Kind == "macvlan" || i.Kind == "ipvlan":
			pairs[i.Name] = true
		}
	}
	if len(out) == 0 {
		return pairs
	}
	return out
}

// guest reports whether an interface is the host's end of a virtual machine's adapter.
func guest(i *agentapi.Interface) bool {
	switch i.Kind {
	case "tun", "tuntap", "macvtap":
		return hasMAC(i) // a tunnel of layer 3 has none
	}
	return false
}

func hasMAC(i *agentapi.Interface) bool {
	m, err := net.ParseMAC(i.MAC)
	return err == nil && len(m) == 6 && !slices.Equal(m, make([]byte, 6))
}

// portOf makes a port of an interface; nil for one of no interest.
func portOf(a *Agent, i *agentapi.Interface, own map[string]bool) *platform.Port {
	if !hasMAC(i) || strings.HasPrefix(i.Name, platform.MarkPrefix) {
		return nil
	}
	p := &platform.Port{
		ID: portID(a.Name, i.Name), Name: i.Name, Host: a.Name, Switch: a.Name, Up: i.Up, MTU: i.MTU, Raw: map[string]string{},
		Tags: map[string]string{"ifindex": strconv.Itoa(i.Index), "type": i.Kind},
	}
	switch {
	case own[i.Name]:
		m, _ := net.ParseMAC(i.MAC) // hasMAC has read it
		p.Kind, p.VM, p.MAC, p.NIC, p.Raw[rawSide] = platform.PortVM, machineID(a.Name), flow.MACFrom(m), i.Name, sideOwn
		p.Addrs = addresses(i.Addresses)
	case guest(i) || i.Kind == "veth":
		p.Kind, p.Raw[rawSide] = platform.PortVM, sideFar
	case i.Kind == "bridge" || i.Kind == "openvswitch":
		p.Kind = platform.PortKernel
	case slices.Contains([]string{"vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"}, i.Kind):
		p.Kind = platform.PortTunnel
	case (i.Kind == "device" || i.Kind == "bond") && i.Master == "" && len(own) == 0:
		p.Kind = platform.PortUplink
	default:
		p.Kind = platform.PortOther
	}
	return p
}

func addresses(list []string) (out []flow.Addr) {
	for _, text := range list {
		if n, err := netip.ParsePrefix(text); err == nil && !n.Addr().IsLinkLocalUnicast() && !n.Addr().IsLoopback() {
			out = append(out, flow.FromNetip(n.Addr().Unmap()))
		}
	}
	return out
}

// markOf is the mark of a specification; zero for one of somebody else.
func markOf(s *tapspec.Spec) platform.Mark { return platform.ParseMark(s.Labels[platform.MarkKey]) }

// objectOf makes an object of a specification. own are the interfaces through which the agent's machine itself speaks.
func objectOf(a *Agent, s *tapspec.Spec, own map[string]bool) *platform.Object {
	o := &platform.Object{
		ID: portID(a.Name, s.Name), Name: portID(a.Name, s.Name), Kind: kindTap, Host: a.Name, Switch: a.Name, Mark: markOf(s), Raw: map[string]string{"spec": encode(s)},
	}
	for _, i := range s.Source.Interfaces {
		o.Sources = append(o.Sources, platform.Source{Port: portID(a.Name, i), Dir: directionOf(s, own[i])})
	}
	var to []string
	for _, t := range s.To {
		to = append(to, t.URL)
		if ap, ok := farEnd(t.URL); ok && o.Remote == "" {
			o.Remote = ap.Addr().String()
		}
	}
	o.About = strings.Join(s.Source.Interfaces, ", ") + " > " + strings.Join(to, ", ")
	for i := range a.Taps {
		if t := &a.Taps[i]; t.Name == s.Name && t.State != agentapi.StateRunning {
			o.About = fmt.Sprintf("%s (%s: %s)", o.About, t.State, t.Error)
		}
	}
	return o
}

// encode writes a specification as it is compared: how long it lives is counted from its start, and told by the mark.
func encode(s *tapspec.Spec) string {
	c := *s
	c.TTL = 0
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("agents: a specification is no JSON: %v", err))
	}
	return string(b)
}

func decode(text string) (s tapspec.Spec, err error) {
	err = json.Unmarshal([]byte(text), &s)
	return s, err
}
