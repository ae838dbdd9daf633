//go:build linux

package linux

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// link makes a port of an interface, or none.
func (b *builder) link(l netlink.Link) {
	a := l.Attrs()
	master := b.byIndex[a.MasterIndex]
	port := &platform.Port{
		ID: a.Name, Name: a.Name, Host: b.p.host, Switch: noSwitch, Up: a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown && a.Flags&net.FlagUp != 0,
		Promisc: a.Promisc > 0, MTU: a.MTU, Tags: map[string]string{tagIndex: strconv.Itoa(a.Index), "type": l.Type()},
	}
	if v, ok := l.(*netlink.Vxlan); ok && !v.FlowBased {
		port.Tags[tagVNI] = vniTag(uint32(v.VxlanId), uint16(v.Port))
	}
	if a.Statistics != nil { // what the interface receives goes into the switch
		port.RxBytes, port.TxBytes = a.Statistics.RxBytes, a.Statistics.TxBytes
	}
	switch {
	case a.Flags&net.FlagLoopback != 0:
		return
	case b.carriesMark(a):
		if l.Type() == "bridge" {
			return // a carrier
		}
		port.Kind, port.Owner = platform.PortMirror, ownerOf(a.Alias)
	case l.Type() == "bridge":
		port.Kind, port.Switch, port.Segment = platform.PortKernel, a.Name, b.segments[a.Index]
		port.MAC = flow.MACFrom(mac(a))
	case master == nil || master.Type() == "vrf":
		if !b.loose(l, port) {
			return
		}
	case master.Type() != "bridge":
		return // part of a bond or team, or a port of Open vSwitch, which has a platform of its own
	default:
		port.Switch = master.Attrs().Name
		b.vlan(a, port)
		if port.Segment == 0 {
			port.Segment = b.segments[a.MasterIndex]
		}
		b.plugged(l, port)
	}
	if b.mirrored[a.Index] && port.Kind != platform.PortKernel {
		port.Kind = platform.PortMirror
	}
	b.out.Ports[port.ID] = port
}

func mac(a *netlink.LinkAttrs) []byte {
	if len(a.HardwareAddr) == 6 {
		return a.HardwareAddr
	}
	return make([]byte, 6)
}

// vlan reads the VLANs of a port of a bridge that has any.
func (b *builder) vlan(a *netlink.LinkAttrs, port *platform.Port) {
	br, ok := b.byIndex[a.MasterIndex].(*netlink.Bridge)
	if !ok || br.VlanFiltering == nil || !*br.VlanFiltering {
		return
	}
	port.Trunk = b.trunks[a.Index]
	slices.Sort(port.Trunk)
	v := b.pvids[a.Index]
	if v == nil || len(port.Trunk) > 0 {
		return
	}
	port.VLAN = v.Vid
	if s := b.p.cfg.Segments[fmt.Sprintf("%s/%d", port.Switch, v.Vid)]; s != 0 {
		port.Segment = s
		return
	}
	if vni, ok := b.tunnels[v.Vid]; ok {
		port.Segment = flow.NewSegment(flow.KindVXLAN, vni)
		return
	}
	port.Segment = flow.NewSegment(flow.KindVLAN, uint32(v.Vid))
}

// loose tells what an interface without a switch is; false for one that is of no interest.
func (b *builder) loose(l netlink.Link, port *platform.Port) bool {
	a := l.Attrs()
	switch l.Type() {
	case "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan", "gre", "ipip", "sit":
		port.Kind = platform.PortTunnel
	case "veth":
		if !b.behind(a, port) {
			port.Kind = platform.PortKernel
			b.into(a, port)
		}
	case "tun", "tuntap", "macvtap", "macvlan":
		port.Kind = platform.PortKernel
		if b.guest(a, port) {
			port.Kind = platform.PortVM
		}
	default:
		port.Kind = platform.PortKernel
	}
	if port.Kind == platform.PortKernel {
		port.MAC = flow.MACFrom(mac(a))
	}
	return true
}

// plugged tells what is behind a port of a bridge.
func (b *builder) plugged(l netlink.Link, port *platform.Port) {
	a := l.Attrs()
	switch l.Type() {
	case "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan":
		port.Kind = platform.PortTunnel
	case "tun", "tuntap":
		port.Kind = platform.PortVM
		b.guest(a, port)
	case "veth":
		b.veth(l, port)
	case "dummy", "ifb":
		port.Kind = platform.PortOther
	default: // physical, bond, VLAN of either
		port.Kind = platform.PortUplink
	}
	if port.Kind == platform.PortVM {
		b.complete(a, port)
	}
}

// veth tells what is at the other end of a pair.
func (b *builder) veth(l netlink.Link, port *platform.Port) {
	a := l.Attrs()
	if b.behind(a, port) {
		return
	}
	port.Kind = platform.PortOther
	peer := b.byIndex[a.ParentIndex]
	if peer == nil || a.NetNsID >= 0 {
		port.Kind = platform.PortVM // a namespace without a name
		b.guest(a, port)
		return
	}
	switch {
	case b.isPort(peer.Attrs()):
		port.Kind = platform.PortPatch
	case len(b.addrs[a.ParentIndex]) > 0:
		port.Kind = platform.PortKernel
	}
}

// rawInto is the key of Port.Raw that names the bridge which what is sent to an interface comes into.
const rawInto = "into"

// into notes the bridge that the other end of a pair is a port of.
func (b *builder) into(a *netlink.LinkAttrs, port *platform.Port) {
	peer := b.byIndex[a.ParentIndex]
	if peer == nil || a.NetNsID >= 0 {
		return
	}
	if br, ok := b.byIndex[peer.Attrs().MasterIndex].(*netlink.Bridge); ok {
		port.Raw = map[string]string{rawInto: br.Attrs().Name}
	}
}

// behind fills in the namespace behind a pair; false when the other end is in ours.
func (b *builder) behind(a *netlink.LinkAttrs, port *platform.Port) bool {
	if a.NetNsID < 0 {
		return false
	}
	n := b.spaces[a.NetNsID]
	if n == nil {
		return false
	}
	peer := n.links[a.ParentIndex]
	if peer == nil {
		return false
	}
	port.Kind, port.VM, port.NIC = platform.PortVM, spaceVM+n.name, peer.Attrs().Name
	port.MAC = flow.MACFrom(mac(peer.Attrs()))
	for _, x := range n.addrs[a.ParentIndex] {
		if addr, ok := address(x.IP); ok {
			port.Addrs = append(port.Addrs, addr)
		}
	}
	if b.out.VMs[port.VM] == nil {
		b.out.VMs[port.VM] = &platform.VM{ID: port.VM, Name: n.name, Host: b.p.host}
	}
	return true
}

// guest fills in the guest that has the interface as its adapter; false when none has.
func (b *builder) guest(a *netlink.LinkAttrs, port *platform.Port) bool {
	g := b.adapters[a.Name]
	if g == nil {
		return false
	}
	port.VM, port.NIC, port.Group = g.guest.UUID, g.adapter.Name, g.adapter.Network
	if g.adapter.Group != "" {
		port.Group += "/" + g.adapter.Group
	}
	if m, err := net.ParseMAC(g.adapter.MAC); err == nil && len(m) == 6 {
		port.MAC = flow.MACFrom(m)
	}
	for _, x := range g.adapter.Addrs {
		port.Addrs = append(port.Addrs, flow.FromNetip(x))
	}
	return true
}

// complete fills in what only the kernel's tables tell of a VM's port.
func (b *builder) complete(a *netlink.LinkAttrs, port *platform.Port) {
	if learnt := b.macs[a.Index]; port.MAC == 0 && len(learnt) == 1 {
		port.MAC = learnt[0]
	}
	for _, x := range b.known[port.MAC] {
		if port.MAC != 0 && !slices.Contains(port.Addrs, x) {
			port.Addrs = append(port.Addrs, x)
		}
	}
	slices.SortFunc(port.Addrs, func(x, y flow.Addr) int { return slices.Compare(x[:], y[:]) })
	if port.MAC == 0 && port.VM == "" {
		// Somebody is there, but who is not known before the first packet. Until then it is no machine: a tap that should have it
		// could not tell its packets from others.
		port.Kind = platform.PortOther
		port.Tags[tagSilent] = "true"
	}
}
