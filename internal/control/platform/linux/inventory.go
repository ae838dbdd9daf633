//go:build linux

package linux

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
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
	h := platform.Host{ID: b.p.host, Name: b.p.host, Version: b.p.version, Routing: b.routing}
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
