//go:build linux

package linux

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/libvirt"
)

// Records that the platform makes up.
const (
	noSwitch   = "host"    // switch of the interfaces that have none
	tagIndex   = "ifindex" // of a port: what the kernel knows it by
	tagVNI     = "vxlan"   // of a VXLAN port: VNI and UDP port, which only one device can have
	tagSilent  = "silent"  // of a port whose machine has not said anything yet
	spaceVM    = "netns:"  // begins the ID of a VM that is a namespace
	kindQdisc  = "qdisc"
	kindFilter = "tc filter"
	kindTap    = "tap" // a carrier
	kindTunnel = "tunnel"
)

// builder makes a snapshot of what the kernel and libvirt say.
type builder struct {
	*state
	p        *Platform
	out      *platform.Snapshot
	guests   *libvirt.State             // nil when nobody was asked
	found    []libvirt.Guest            // of processes that libvirt does not know
	adapters map[string]*guestNIC       // by device
	macs     map[int][]flow.MAC         // learnt, by port
	known    map[flow.MAC][]flow.Addr   // of the table of neighbours
	mirrored map[int]bool               // interfaces that carry copies
	sessions map[uint32]platform.Mark   // by the cookie's hash
	segments map[int]flow.Segment       // by bridge
	pvids    map[int]*nl.BridgeVlanInfo // of ports of bridges with VLANs
	trunks   map[int][]uint16           // tagged VLANs of ports
}

type guestNIC struct {
	guest   *libvirt.Guest
	adapter *libvirt.Adapter
}

// snapshot puts together what there is.
func (p *Platform) snapshot(s *state, guests *libvirt.State, atNS int64) *platform.Snapshot {
	b := &builder{
		state: s, p: p, out: platform.NewSnapshot(p.cfg.Name), guests: guests, adapters: map[string]*guestNIC{}, macs: map[int][]flow.MAC{},
		known: map[flow.MAC][]flow.Addr{}, sessions: map[uint32]platform.Mark{}, segments: map[int]flow.Segment{}, mirrored: s.mirrored(),
		pvids: map[int]*nl.BridgeVlanInfo{}, trunks: map[int][]uint16{},
	}
	b.out.AtNS = atNS
	b.learn()
	b.host()
	b.switches()
	b.machines()
	for _, l := range s.links {
		b.link(l)
	}
	b.objects()
	return b.out
}

// learn sorts the tables of the kernel by what they are asked for.
func (b *builder) learn() {
	for i := range b.fdb {
		n := &b.fdb[i]
		if n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) == 0 && len(n.HardwareAddr) == 6 && n.MasterIndex != 0 {
			m := flow.MACFrom(n.HardwareAddr)
			if !slices.Contains(b.macs[n.LinkIndex], m) {
				b.macs[n.LinkIndex] = append(b.macs[n.LinkIndex], m)
			}
		}
	}
	for i := range b.arp {
		n := &b.arp[i]
		if len(n.HardwareAddr) != 6 || n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE|unix.NUD_NOARP) != 0 {
			continue
		}
		if a, ok := address(n.IP); ok {
			m := flow.MACFrom(n.HardwareAddr)
			b.known[m] = append(b.known[m], a)
		}
	}
	for index, list := range b.vlans {
		for _, v := range list {
			if v.PortVID() {
				b.pvids[int(index)] = v
			}
			if !v.EngressUntag() {
				b.trunks[int(index)] = append(b.trunks[int(index)], v.Vid)
			}
		}
	}
	if b.guests != nil {
		b.meet(b.guests.Guests)
	}
	var unknown []string
	for _, l := range b.links {
		if a := l.Attrs(); isTap(l) && b.adapters[a.Name] == nil {
			unknown = append(unknown, a.Name)
		}
	}
	b.found = b.p.processes(unknown)
	b.meet(b.found)
}

// meet notes whose the adapters of running guests are. Who has been noted stays.
func (b *builder) meet(guests []libvirt.Guest) {
	for i := range guests {
		g := &guests[i]
		for j := range g.Adapters {
			if a := &g.Adapters[j]; a.Device != "" && !g.Off && b.adapters[a.Device] == nil {
				b.adapters[a.Device] = &guestNIC{g, a}
			}
		}
	}
}

// isTap reports whether a program may hold the other end of an interface, with whole frames.
func isTap(l netlink.Link) bool {
	switch l.Type() {
	case "tun", "tuntap":
		return l.Attrs().EncapType == "ether"
	}
	return false
}

// address reads an address that can be a VM's.
func address(ip net.IP) (flow.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if !ok || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() {
		return flow.Addr{}, false
	}
	return flow.FromNetip(a), true
}

func (b *builder) host() {
	h := platform.Host{ID: b.p.host, Name: b.p.host, Version: b.p.version}
	if b.guests != nil {
		h.Version += ", libvirt " + b.guests.Version
	}
	for _, l := range b.links {
		a := l.Attrs()
		if b.carriesMark(a) {
			continue
		}
		if v, ok := l.(*netlink.Vxlan); ok {
			h.VTEPs = append(h.VTEPs, b.endpoints(v)...)
		}
		if a.Flags&net.FlagLoopback != 0 || b.isPort(a) {
			continue
		}
		for _, x := range b.addrs[a.Index] {
			if addr, ok := address(x.IP); ok && !x.IP.IsLinkLocalUnicast() {
				h.Addrs = append(h.Addrs, addr)
			}
		}
	}
	h.VTEPs = slices.Compact(h.VTEPs)
	b.out.Hosts[h.ID] = &h
}

// endpoints are the local addresses of a VXLAN device: its own, else those of the interface below.
func (b *builder) endpoints(v *netlink.Vxlan) (out []flow.Addr) {
	if a, ok := address(v.SrcAddr); ok {
		return []flow.Addr{a}
	}
	for _, x := range b.addrs[v.VtepDevIndex] {
		if a, ok := address(x.IP); ok && !x.IP.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

// carriesMark reports whether a device is one of ours.
func (b *builder) carriesMark(a *netlink.LinkAttrs) bool {
	return strings.HasPrefix(a.Name, platform.MarkPrefix) && strings.HasPrefix(a.Alias, platform.MarkKey+" ")
}

// isPort reports whether an interface is plugged into a bridge.
func (b *builder) isPort(a *netlink.LinkAttrs) bool {
	m := b.byIndex[a.MasterIndex]
	return m != nil && m.Type() == "bridge"
}

func (b *builder) switches() {
	can := b.p.can
	b.out.Switches[noSwitch] = &platform.Switch{ID: noSwitch, Name: "interfaces of " + b.p.host, Kind: platform.SwitchNone, Hosts: []string{b.p.host}, Can: can}
	for _, l := range b.links {
		a := l.Attrs()
		if l.Type() != "bridge" || b.carriesMark(a) {
			continue
		}
		b.out.Switches[a.Name] = &platform.Switch{ID: a.Name, Name: a.Name, Kind: platform.SwitchLinux, Hosts: []string{b.p.host}, MTU: a.MTU, Can: can}
		if b.segments[a.Index] = b.p.cfg.Segments[a.Name]; b.segments[a.Index] == 0 {
			b.segments[a.Index] = b.segment(l)
		}
	}
}

// segment is what all ports of a bridge belong to: the VNI or the VLAN of the one device that leads out of it. Zero for none and for
// several, and for a bridge whose ports have VLANs of their own.
func (b *builder) segment(bridge netlink.Link) (found flow.Segment) {
	if br, ok := bridge.(*netlink.Bridge); ok && br.VlanFiltering != nil && *br.VlanFiltering {
		return 0
	}
	for _, l := range b.links {
		if l.Attrs().MasterIndex != bridge.Attrs().Index {
			continue
		}
		var s flow.Segment
		switch l := l.(type) {
		case *netlink.Vxlan:
			if !l.FlowBased {
				s = flow.NewSegment(flow.KindVXLAN, uint32(l.VxlanId))
			}
		case *netlink.Geneve:
			if !l.FlowBased {
				s = flow.NewSegment(flow.KindGeneve, l.ID)
			}
		case *netlink.Vlan:
			s = flow.NewSegment(flow.KindVLAN, uint32(l.VlanId))
		}
		if s != 0 && found != 0 && s != found {
			return 0
		}
		if s != 0 {
			found = s
		}
	}
	return found
}

// machines lists the guests of libvirt, and those that only their processes tell of. Those that are namespaces come with their ports.
func (b *builder) machines() {
	all := b.found
	if b.guests != nil {
		all = slices.Concat(b.found, b.guests.Guests)
	}
	for i := range all {
		g := &all[i]
		b.out.VMs[g.UUID] = &platform.VM{ID: g.UUID, Name: g.Name, Host: b.p.host, Off: g.Off}
	}
}

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

// ownerOf reads the owner out of the alias of a device of ours.
func ownerOf(alias string) string {
	for word := range strings.FieldsSeq(alias) {
		if owner, ok := strings.CutPrefix(word, "owner="); ok {
			return owner
		}
	}
	return ""
}

func vniTag(vni uint32, port uint16) string { return fmt.Sprintf("%d/%d", vni, port) }

func describe(f *tcFilter, names func(int) string) string {
	var to []string
	for _, m := range f.mirrors {
		verb := "mirror"
		if m.redirect {
			verb = "redirect"
		}
		to = append(to, verb+" to "+names(m.target))
	}
	if to == nil {
		to = f.actions
	}
	return fmt.Sprintf("%s %s, preference %d: %s", f.kind, f.dir, f.preference, strings.Join(to, ", "))
}
