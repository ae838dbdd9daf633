package lab

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Fixed facts of every lab.
const (
	VXLANPort   = 4789 // IANA's VXLAN port
	UnderlayMTU = 1600 // carries a tenant packet of TenantMTU and 50 bytes of VXLAN over IPv4
	TenantMTU   = 1450
	CollectorNS = "mgmt" // namespace the collector runs in
)

// Topology is a data centre in small: hosts with one bridge per segment, joined by VXLAN, VMs on
// them, and the places where their traffic is tapped.
type Topology struct {
	Hosts     []Host
	Tenants   []Tenant
	VMs       []VM
	Sensors   []Sensor
	Observers []Observer
	Collector netip.Addr // address of CollectorNS on the management network, a /24
	Offloads  bool       // let the kernel pass super-frames (GSO, GRO) and partial checksums between namespaces
	IPv6      bool       // give the VMs their IPv6 addresses
}

// Host is a hypervisor: a namespace with an uplink to the underlay.
type Host struct {
	Name string
	VTEP netip.Addr // on the underlay, a /24
	Mgmt netip.Addr // on the management network, a /24
}

// Tenant is one segment with its VMs. Tenants use the same inner addresses.
type Tenant struct {
	Name string
	VNI  uint32
}

// VM is a namespace with one virtual NIC, eth0, on its host's bridge for the tenant's segment.
type VM struct {
	Name   string
	ID     string // instance UUID
	Role   string // web, db or client: what runs in it
	Tenant string
	Host   string
	Port   string // name of the vSwitch port on the host
	MAC    string
	Addr4  netip.Addr // of a /24
	Addr6  netip.Addr // of a /64
	Mgmt   netip.Addr // second NIC on the management network; the zero Addr for none
}

// Sensor is a namespace that gets a copy of every frame that enters a bridge of the host: a tap
// service VM at the far end of a port mirror, interface tap0.
type Sensor struct {
	Name string
	Host string
	Mgmt netip.Addr
}

// Observer is one tap: what captures where, and how it signs its flow records.
type Observer struct {
	Name      string
	Role      string // as flow.Role spells it
	Host      string
	Namespace string
	Interface string
	Exporter  netip.Addr // management address its IPFIX comes from
	Domain    uint32     // observation domain
	Profile   string     // export profile: ovs or vmware
}

// Default returns the lab of the demo: two hosts, two tenants with the same inner addresses, six VMs
// and three taps. Every pair of VMs that talk is seen by at least one tap, and the pair client-2 > web-2
// by all three. web-1 > db-1 never leaves h1, client-2 > db-2 never leaves h2.
func Default(offloads, ipv6 bool) Topology {
	mgmt := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 201, 0, n}) }
	t := Topology{
		Hosts: []Host{
			{Name: "h1", VTEP: netip.MustParseAddr("10.200.0.1"), Mgmt: mgmt(1)},
			{Name: "h2", VTEP: netip.MustParseAddr("10.200.0.2"), Mgmt: mgmt(2)},
		},
		Tenants:   []Tenant{{Name: "blue", VNI: 5001}, {Name: "green", VNI: 5002}},
		Sensors:   []Sensor{{Name: "sensor-1", Host: "h1", Mgmt: mgmt(11)}},
		Collector: mgmt(254),
		Offloads:  offloads,
		IPv6:      ipv6,
	}
	t.add("web-1", "web", "blue", "h1")
	t.add("db-1", "db", "blue", "h1")
	t.add("client-1", "client", "blue", "h2")
	t.add("web-2", "web", "green", "h1")
	t.add("db-2", "db", "green", "h2")
	t.add("client-2", "client", "green", "h2")
	t.VMs[5].Mgmt = mgmt(12)
	t.Observers = []Observer{
		{Name: "h1 mirror", Role: "mirror", Host: "h1", Namespace: "sensor-1", Interface: "tap0", Exporter: mgmt(11), Domain: 1, Profile: "ovs"},
		{Name: "h2 vtep", Role: "tunnel", Host: "h2", Namespace: "h2", Interface: "uplink", Exporter: mgmt(2), Domain: 2, Profile: "vmware"},
		{Name: "client-2 agent", Role: "vnic", Host: "h2", Namespace: "client-2", Interface: "eth0", Exporter: mgmt(12), Domain: 3, Profile: "ovs"},
	}
	return t
}

// add appends a VM. Its inner addresses follow from the role alone, so tenants overlap.
func (t *Topology) add(name, role, tenant, host string) {
	number := map[string]byte{"web": 1, "db": 2, "client": 3}[role]
	vni, port := t.VNI(tenant), 0
	for _, v := range t.VMs {
		if v.Host == host {
			port++
		}
	}
	inner6 := [16]byte{0: 0xfd, 15: number}
	t.VMs = append(t.VMs, VM{
		Name: name, Role: role, Tenant: tenant, Host: host, Port: "vnet" + strconv.Itoa(port),
		ID:    fmt.Sprintf("5ab00000-%04d-4000-8000-%012d", vni, number),
		MAC:   fmt.Sprintf("02:00:00:%02x:%02x:%02x", vni>>8&0xff, vni&0xff, number),
		Addr4: netip.AddrFrom4([4]byte{10, 0, 0, number}),
		Addr6: netip.AddrFrom16(inner6),
	})
}

// VNI returns the tenant's segment, 0 for a tenant that is not there.
func (t *Topology) VNI(tenant string) uint32 {
	for _, n := range t.Tenants {
		if n.Name == tenant {
			return n.VNI
		}
	}
	return 0
}

// VM returns the VM with that role in that tenant, nil when there is none.
func (t *Topology) VM(tenant, role string) *VM {
	for i := range t.VMs {
		if v := &t.VMs[i]; v.Tenant == tenant && v.Role == role {
			return v
		}
	}
	return nil
}

// ByAddr returns the VM with that inner address in that segment, nil when there is none.
func (t *Topology) ByAddr(vni uint32, addr netip.Addr) *VM {
	for i := range t.VMs {
		if v := &t.VMs[i]; t.VNI(v.Tenant) == vni && (v.Addr4 == addr || v.Addr6 == addr) {
			return v
		}
	}
	return nil
}

// Host returns the host with that name, nil when there is none.
func (t *Topology) Host(name string) *Host {
	for i := range t.Hosts {
		if t.Hosts[i].Name == name {
			return &t.Hosts[i]
		}
	}
	return nil
}

// SeenBy returns the names of the observers that packets between the two VMs pass, in the
// topology's order: a mirror sees what enters a bridge of its host, a tunnel endpoint what
// leaves or enters its host, an agent what its own VM sends and receives.
func (t *Topology) SeenBy(a, b *VM) []string {
	var names []string
	for _, o := range t.Observers {
		here := a.Host == o.Host || b.Host == o.Host
		switch o.Role {
		case "tunnel":
			here = here && a.Host != b.Host
		case "vnic":
			here = a.Name == o.Namespace || b.Name == o.Namespace
		}
		if here {
			names = append(names, o.Name)
		}
	}
	return names
}
