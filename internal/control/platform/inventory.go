package platform

import (
	"crosstap/internal/flow"
	"crosstap/internal/route"
)

// Every ID is unique in its platform and its list, stable while the thing exists, and opaque to everybody else. Names are what the
// operator calls the thing. Lists are not to be written to by who gets them.

// Host is one hypervisor, or a machine that is its own.
type Host struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Cluster string            `json:"cluster,omitempty"` // hosts between which VMs move
	Version string            `json:"version,omitempty"` // such as "Open vSwitch 3.1.0"
	Down    bool              `json:"down,omitempty"`    // it does not answer its platform
	VTEPs   []flow.Addr       `json:"vteps,omitempty"`   // own tunnel endpoints
	Addrs   []flow.Addr       `json:"addrs,omitempty"`   // other own addresses: where copies leave from
	Routing *route.Table      `json:"routing,omitempty"` // nil when it is not known
	Tags    map[string]string `json:"tags,omitempty"`
}

// SwitchKind tells what a switch is.
type SwitchKind string

// The kinds of switches.
const (
	SwitchOVS         SwitchKind = "ovs"         // bridge of an Open vSwitch
	SwitchLinux       SwitchKind = "linux"       // Linux bridge
	SwitchStandard    SwitchKind = "standard"    // vSphere, of one host
	SwitchDistributed SwitchKind = "distributed" // vSphere, of many hosts
	SwitchNone        SwitchKind = "none"        // interfaces without a switch, such as macvtap
	SwitchAgent       SwitchKind = "agent"       // interfaces that an agent of ours sees: of its own machine, or of machines on its host
)

// Switch is one virtual switch.
type Switch struct {
	ID    string     `json:"id"`
	Name  string     `json:"name"`
	Kind  SwitchKind `json:"kind"`
	Hosts []string   `json:"hosts"`          // IDs; one, unless it is distributed
	Type  string     `json:"type,omitempty"` // the platform's word for its make, such as netdev
	MTU   int        `json:"mtu,omitempty"`
	Owner string     `json:"owner,omitempty"` // whose object it is when somebody made it for taps; "" for a tenants' switch
	Can   Capability `json:"can"`
}

// Capability is what a switch can do for a session. The zero value can do nothing.
type Capability struct {
	Methods      []Method `json:"methods,omitempty"`
	Encaps       []Encap  `json:"encaps,omitempty"`        // of remote-mirror
	Filter       Filter   `json:"filter,omitempty"`        // the most that a session may filter with
	ExceptMACs   bool     `json:"except_macs,omitempty"`   // Session.ExceptFrom
	Slice        bool     `json:"slice,omitempty"`         // Session.Slice
	Sample       bool     `json:"sample,omitempty"`        // Session.Sample
	VLANs        bool     `json:"vlans,omitempty"`         // Session.VLANs
	OncePerPair  bool     `json:"once_per_pair,omitempty"` // a packet from one source of a session to another is copied once, not twice
	UplinkSource bool     `json:"uplink_source,omitempty"` // uplinks and tunnels may be sources
	FromVLAN     bool     `json:"from_vlan,omitempty"`     // a session of MethodMirror without sources takes what comes in on its VLANs (RSPAN)
	Follows      bool     `json:"follows,omitempty"`       // sessions move with their VM without us
	MaxSessions  int      `json:"max_sessions,omitempty"`  // of all owners; 0 for no limit that matters
}

// Filter is how much of a packet filter a switch evaluates before it copies.
type Filter uint8

// The levels of a switch's filter.
const (
	FilterNone  Filter = iota // everything of the sources is copied
	FilterTuple               // addresses, protocol, ports, VLAN, MACs: what OpenFlow matches
	FilterFull                // any expression of internal/filter
)

// PortKind tells what is behind a port.
type PortKind string

// The kinds of ports. Only PortVM is a source without a word; PortUplink and PortTunnel are where the plane allows it; PortKernel
// and PortMirror never are.
const (
	PortVM     PortKind = "vm"     // adapter of a virtual machine or a container
	PortUplink PortKind = "uplink" // physical adapter
	PortTunnel PortKind = "tunnel" // VXLAN, Geneve, GRE: towards other hosts
	PortKernel PortKind = "kernel" // the host's own: vmkernel adapter, internal port with an address, management
	PortPatch  PortKind = "patch"  // towards another switch of the same host
	PortMirror PortKind = "mirror" // carries copies: output of a session, whoever made it
	PortOther  PortKind = "other"
)

// Port is one port of a switch.
type Port struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"` // such as vnet12, or the key of a distributed port
	Kind    PortKind          `json:"kind"`
	Host    string            `json:"host,omitempty"`  // ID; "" while nothing is connected
	Switch  string            `json:"switch"`          // ID
	Group   string            `json:"group,omitempty"` // port group or network, by name
	Segment flow.Segment      `json:"segment,omitempty"`
	Fabric  string            `json:"fabric,omitempty"` // "" is the default one
	VM      string            `json:"vm,omitempty"`     // ID
	NIC     string            `json:"nic,omitempty"`    // the adapter's stable name within its VM
	MAC     flow.MAC          `json:"mac,omitempty"`
	Addrs   []flow.Addr       `json:"addrs,omitempty"`
	VLAN    uint16            `json:"vlan,omitempty"` // access VLAN; 0 for none or a trunk
	Trunk   []uint16          `json:"trunk,omitempty"`
	Up      bool              `json:"up"`
	Promisc bool              `json:"promisc,omitempty"` // it gets what is not for it
	MTU     int               `json:"mtu,omitempty"`
	RxBytes uint64            `json:"rx_bytes,omitempty"` // layer 2, into the switch, since the port exists
	TxBytes uint64            `json:"tx_bytes,omitempty"` // out of the switch
	Owner   string            `json:"owner,omitempty"`    // whose object it is when somebody made it for taps
	Tags    map[string]string `json:"tags,omitempty"`
	Raw     map[string]string `json:"raw,omitempty"` // in the platform's words, such as where a tunnel ends
}

// VM is one virtual machine.
type VM struct {
	ID     string            `json:"id"` // instance UUID where there is one
	Name   string            `json:"name"`
	Host   string            `json:"host,omitempty"`
	Folder string            `json:"folder,omitempty"` // path, such as "/dc1/vm/shop"
	Tenant string            `json:"tenant,omitempty"` // when the platform knows it; else the Tenant resources do
	Off    bool              `json:"off,omitempty"`
	Agent  bool              `json:"agent,omitempty"` // a tap agent runs inside
	Tags   map[string]string `json:"tags,omitempty"`  // a tag without a value has ""
}

// Object is something on a platform that copies or exports traffic, ours or foreign: a mirror session, a filter bridge, an output
// port, an export of flows, a capture VM or its port group.
type Object struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Kind    string   `json:"kind"` // the platform's word, such as "Mirror", "IPFIX", "port group"
	Host    string   `json:"host,omitempty"`
	Switch  string   `json:"switch,omitempty"`
	Mark    Mark     `json:"mark,omitzero"`     // zero for a foreign one
	Sources []Source `json:"sources,omitempty"` // ports that it copies
	Outputs []string `json:"outputs,omitempty"` // IDs of ports that carry its copies
	Remote  string   `json:"remote,omitempty"`  // address of the far end, when it has one
	About   string   `json:"about,omitempty"`   // one line for people
	// Raw is the whole object in the platform's own form: the before-image of steps, and what drift is compared on.
	Raw map[string]string `json:"raw,omitempty"`
}
