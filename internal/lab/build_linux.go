package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A network is a built topology.
type network struct {
	Topology
	spaces map[string]*space
}

// build makes the namespaces and everything in them. On error the network is closed.
func build(t Topology) (n *network, err error) {
	n = &network{Topology: t, spaces: map[string]*space{}}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if len(t.Hosts) != 2 {
		return n, fmt.Errorf("lab: %d hosts: the underlay joins exactly 2", len(t.Hosts))
	}
	for _, step := range []func() error{n.namespaces, n.management, n.underlay, n.vSwitches, n.vms, n.populate, n.mirrors, n.offloads} {
		if err := step(); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (n *network) close() {
	for _, s := range n.spaces {
		s.close()
	}
}

// namespaces makes them all and keeps their stacks quiet: no duplicate address detection, no router
// solicitations, no bridge netfilter.
func (n *network) namespaces() error {
	names := []string{CollectorNS}
	for _, h := range n.Hosts {
		names = append(names, h.Name)
	}
	for _, s := range n.Sensors {
		names = append(names, s.Name)
	}
	for _, v := range n.VMs {
		names = append(names, v.Name)
	}
	for _, name := range names {
		s, err := newSpace(name)
		if err != nil {
			return err
		}
		n.spaces[name] = s
		s.sysctl("ipv6/conf/default/mldv2_unsolicited_report_interval", "1") // ms: said again at once, not when the taps run
		for _, path := range []string{"ipv6/conf/default/accept_ra", "ipv6/conf/default/accept_dad", "ipv6/conf/default/router_solicitations",
			"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables"} {
			s.sysctl(path, "0")
		}
	}
	return nil
}

// A cable is a veth pair. MTU and hardware addresses are the kernel's choice when zero.
type cable struct {
	from, name string // namespace and interface
	to, peer   string
	mac        net.HardwareAddr // of the peer
	mtu        int
}

// connect makes the pair and brings both ends up.
func (n *network) connect(c cable) error {
	a, b := n.spaces[c.from], n.spaces[c.to]
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = c.name, c.mtu
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = c.peer, netlink.NsFd(b.ns)
	pair.PeerHardwareAddr, pair.PeerMTU = c.mac, uint32(c.mtu)
	if err := a.LinkAdd(pair); err != nil {
		return a.wrap("veth "+c.name+" to "+c.to, err)
	}
	if err := a.up(c.name); err != nil {
		return err
	}
	return b.up(c.peer)
}

// address gives an interface an address that is valid at once.
func (n *network) address(ns, name string, addr netip.Addr, bits int) error {
	s := n.spaces[ns]
	l, err := s.link(name)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}, Flags: unix.IFA_F_NODAD}
	return s.wrap(fmt.Sprintf("%s: address %s", name, addr), s.AddrAdd(l, a))
}

// bridge makes a bridge without multicast snooping, so that it sends nothing of its own.
func (n *network) bridge(ns, name string, mtu int) error {
	s, off := n.spaces[ns], false
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	if err := s.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
		return s.wrap("bridge "+name, err)
	}
	return s.up(name)
}

// plug makes an interface a port of a bridge.
func (n *network) plug(ns, bridge, port string) error {
	s := n.spaces[ns]
	b, err := s.link(bridge)
	if err != nil {
		return err
	}
	p, err := s.link(port)
	if err != nil {
		return err
	}
	return s.wrap("port "+port+" of "+bridge, s.LinkSetMaster(p, b))
}

// management makes the network over which flow records travel.
func (n *network) management() error {
	if err := n.bridge(CollectorNS, "mgmt0", 1500); err != nil {
		return err
	}
	if err := n.address(CollectorNS, "mgmt0", n.Collector, 24); err != nil {
		return err
	}
	add := func(ns string, addr netip.Addr) error {
		if !addr.IsValid() {
			return nil
		}
		port := "p" + ns
		if err := n.connect(cable{from: CollectorNS, name: port, to: ns, peer: "mgmt0"}); err != nil {
			return err
		}
		if err := n.plug(CollectorNS, "mgmt0", port); err != nil {
			return err
		}
		return n.address(ns, "mgmt0", addr, 24)
	}
	for _, h := range n.Hosts {
		if err := add(h.Name, h.Mgmt); err != nil {
			return err
		}
	}
	for _, s := range n.Sensors {
		if err := add(s.Name, s.Mgmt); err != nil {
			return err
		}
	}
	for _, v := range n.VMs {
		if err := add(v.Name, v.Mgmt); err != nil {
			return err
		}
	}
	return nil
}

func (n *network) underlay() error {
	a, b := n.Hosts[0], n.Hosts[1]
	if err := n.connect(cable{from: a.Name, name: "uplink", to: b.Name, peer: "uplink", mtu: UnderlayMTU}); err != nil {
		return err
	}
	if err := n.address(a.Name, "uplink", a.VTEP, 24); err != nil {
		return err
	}
	return n.address(b.Name, "uplink", b.VTEP, 24)
}

// Names of a tenant's bridge and tunnel device on every host.
func bridgeName(vni uint32) string { return fmt.Sprintf("br%d", vni) }
func tunnelName(vni uint32) string { return fmt.Sprintf("vxlan%d", vni) }

// vSwitches makes one bridge per segment and host, joined by a point-to-point VXLAN device.
func (n *network) vSwitches() error {
	for i, h := range n.Hosts {
		s, far := n.spaces[h.Name], n.Hosts[1-i].VTEP
		uplink, err := s.link("uplink")
		if err != nil {
			return err
		}
		for _, t := range n.Tenants {
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.MTU = tunnelName(t.VNI), UnderlayMTU-50
			vxlan := &netlink.Vxlan{
				LinkAttrs: attrs, VxlanId: int(t.VNI), VtepDevIndex: uplink.Attrs().Index, Port: VXLANPort,
				SrcAddr: h.VTEP.AsSlice(), Group: far.AsSlice(), Learning: true,
			}
			if err := n.bridge(h.Name, bridgeName(t.VNI), TenantMTU); err != nil {
				return err
			}
			if err := s.LinkAdd(vxlan); err != nil {
				return s.wrap("vxlan "+attrs.Name, err)
			}
			if err := n.plug(h.Name, bridgeName(t.VNI), attrs.Name); err != nil {
				return err
			}
			if err := s.up(attrs.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *network) vms() error {
	for _, v := range n.VMs {
		mac, err := net.ParseMAC(v.MAC)
		if err != nil {
			return fmt.Errorf("lab: %s: %w", v.Name, err)
		}
		if err := n.connect(cable{from: v.Host, name: v.Port, to: v.Name, peer: "eth0", mac: mac, mtu: TenantMTU}); err != nil {
			return err
		}
		if err := n.plug(v.Host, bridgeName(n.VNI(v.Tenant)), v.Port); err != nil {
			return err
		}
		if err := n.address(v.Name, "eth0", v.Addr4, 24); err != nil {
			return err
		}
		if !n.IPv6 {
			continue
		}
		if err := n.address(v.Name, "eth0", v.Addr6, 64); err != nil {
			return err
		}
	}
	return nil
}

// populate tells the bridges and tunnels behind which port each VM is, and the VMs each other's MAC, as a network
// controller does ("L2 population"). Without, the first packets would be flooded to places they do not belong to.
func (n *network) populate() error {
	for _, v := range n.VMs {
		mac, err := net.ParseMAC(v.MAC)
		if err != nil {
			return fmt.Errorf("lab: %s: %w", v.Name, err)
		}
		for _, h := range n.Hosts {
			port := v.Port
			if h.Name != v.Host {
				port = tunnelName(n.VNI(v.Tenant))
			}
			entry := netlink.Neigh{Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER, HardwareAddr: mac}
			if err := n.neighbour(h.Name, port, entry); err != nil {
				return err
			}
		}
		for _, other := range n.VMs {
			if other.Tenant != v.Tenant || other.Name == v.Name {
				continue
			}
			entry := netlink.Neigh{State: netlink.NUD_REACHABLE, IP: v.Addr4.AsSlice(), HardwareAddr: mac}
			if err := n.neighbour(other.Name, "eth0", entry); err != nil {
				return err
			}
			if entry.IP = v.Addr6.AsSlice(); !n.IPv6 {
				continue
			}
			if err := n.neighbour(other.Name, "eth0", entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// neighbour adds an entry to an interface's neighbour or forwarding table.
func (n *network) neighbour(ns, name string, entry netlink.Neigh) error {
	s := n.spaces[ns]
	l, err := s.link(name)
	if err != nil {
		return err
	}
	entry.LinkIndex = l.Attrs().Index
	return s.wrap(fmt.Sprintf("%s: neighbour %s", name, entry.HardwareAddr), s.NeighSet(&entry))
}

// mirrors copies what enters each bridge of a sensor's host to the sensor: every frame in the
// vSwitch exactly once, whether it comes from a VM or out of a tunnel.
func (n *network) mirrors() error {
	for _, sensor := range n.Sensors {
		if err := n.connect(cable{from: sensor.Host, name: "mirror0", to: sensor.Name, peer: "tap0", mtu: UnderlayMTU}); err != nil {
			return err
		}
		host := n.spaces[sensor.Host]
		to, err := host.link("mirror0")
		if err != nil {
			return err
		}
		for _, port := range n.ports(sensor.Host) {
			if err := host.mirror(port, to.Attrs().Index); err != nil {
				return err
			}
		}
	}
	return nil
}

// ports returns the names of all bridge ports of a host's segments.
func (n *network) ports(host string) []string {
	var names []string
	for _, t := range n.Tenants {
		names = append(names, tunnelName(t.VNI))
	}
	for _, v := range n.VMs {
		if v.Host == host {
			names = append(names, v.Port)
		}
	}
	return names
}

// mirror sends a copy of every frame that enters the host through port out of the interface
// with index to. The classifier is u32, which every kernel with tc actions has.
func (s *space) mirror(port string, to int) error {
	l, err := s.link(port)
	if err != nil {
		return err
	}
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	if err := s.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "clsact"}); err != nil {
		return s.wrap(port+": clsact", err)
	}
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_PIPE}, MirredAction: netlink.TCA_EGRESS_MIRROR, Ifindex: to,
		}},
	}
	return s.wrap(port+": mirror", s.FilterAdd(filter))
}

// offloads decides who cuts streams into wire segments. Off: the sending VM, so that every frame
// everywhere is a wire segment. On: the last vSwitch port before the receiving VM, so that taps
// meet super-frames and the receiver still sees what a wire would have carried.
func (n *network) offloads() error {
	for _, v := range n.VMs {
		vm, port := allOffloads, allOffloads
		if n.Offloads {
			vm, port = []uint32{setGRO}, segmentOffloads
		}
		if err := n.spaces[v.Name].disable("eth0", vm); err != nil {
			return err
		}
		if err := n.spaces[v.Host].disable(v.Port, port); err != nil {
			return err
		}
	}
	if n.Offloads {
		return nil
	}
	for _, h := range n.Hosts {
		for _, t := range n.Tenants {
			if err := n.spaces[h.Name].disable(tunnelName(t.VNI), allOffloads); err != nil {
				return err
			}
		}
		if err := n.spaces[h.Name].disable("uplink", allOffloads); err != nil {
			return err
		}
	}
	return nil
}
