package ipfix

import (
	"fmt"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/encode"
)

// Profile says with which elements a tunnel is told.
type Profile uint8

// The profiles. Both send the same fields where there is no tunnel.
const (
	// OVS: 8/12 (27/28) are the tenant's addresses and 893/894 the VTEPs, as Open vSwitch does. 893/894 are
	// IPv4; under an IPv6 underlay the VTEPs stay out and Encoder.Omitted counts the records. Type,
	// key and ports are still told.
	OVS Profile = iota
	// VMware: 8/12 (27/28) are the VTEPs and 880–884, 886, 887 the tenant's packet, as the distributed switch
	// does. Fields without an element for the tenant (5, 6, 32, 52, 53, 56, 58, 80, 139, 256) are the tenant's.
	VMware
)

// ParseProfile reads "ovs" or "vmware".
func ParseProfile(s string) (Profile, error) {
	switch s {
	case "", "ovs":
		return OVS, nil
	case "vmware":
		return VMware, nil
	}
	return OVS, fmt.Errorf("ipfix: profile %q is not known, use ovs or vmware", s)
}

// String returns the profile's name.
func (p Profile) String() string {
	if p == VMware {
		return "vmware"
	}
	return "ovs"
}

// shape is what decides the template of a record.
type shape struct {
	net       uint8 // 0 not IP, 4 or 6
	transport encode.Transport
	underlay  uint8 // 0 no tunnel, 4 or 6; hidden: a tunnel whose VTEPs are not told
	name      uint8 // what the application is known by, see below
	macs      bool
	sampled   bool
	rare      bool // inner VLAN, label, VIFs, fragments, TCP quality
	vms       bool // names of the machines
	biflow    bool // both directions
}

const hidden = 1 // an underlay: a tunnel, but no VTEPs

// What names an application.
const (
	noApp   = iota
	appOnly // its number and name, no name of a host
	appHost // HTTP host
	appSNI  // server name of TLS or QUIC
	appDNS  // name asked for
	appSSH  // banner
)

// shapeOf returns the shape that tells most of a record under a profile.
func shapeOf(r *flow.Record, p Profile) shape {
	s := shape{
		net: encode.Family(r.Src, r.Dst), underlay: encode.Family(r.Tunnel.Src, r.Tunnel.Dst), name: nameOf(r),
		macs: r.SrcMAC|r.DstMAC != 0, sampled: r.Sampling > 1,
		rare: r.InnerVLAN|r.SrcVIF|r.DstVIF != 0 || r.MPLS|r.Fragments|r.RTTUS|r.Retransmits|r.ZeroWindows != 0,
		vms:  r.SrcVM != "" || r.DstVM != "" || r.SrcVMID != "" || r.DstVMID != "",
	}
	s.transport = encode.TransportOf(r, s.net)
	switch {
	case p == VMware:
	case s.underlay == 6, s.underlay == 0 && r.Tunnel.Type != 0:
		s.underlay = hidden
	}
	return s
}

func nameOf(r *flow.Record) uint8 {
	switch {
	case r.AppHow == flow.AppUnknown:
		return noApp
	case r.AppName == "":
		return appOnly
	}
	switch r.AppHow {
	case flow.AppHTTP:
		return appHost
	case flow.AppTLS, flow.AppQUIC:
		return appSNI
	case flow.AppDNS:
		return appDNS
	case flow.AppSSH:
		return appSSH
	}
	return appOnly
}

// id returns the template identifier of a shape: the same in every run, and never the same in both profiles, so
// that a collector that kept an old template is not misled. The greatest is below firstOption.
func (s shape) id(p Profile) uint16 {
	net := map[uint8]uint16{0: 0, 4: 1, 6: 2}[s.net]
	under := map[uint8]uint16{0: 0, 4: 1, 6: 2, hidden: 3}[s.underlay]
	n := (net*4+uint16(s.transport))*4 + under
	n = n<<2 | bit(s.macs)<<1 | bit(s.sampled)
	n = n<<3 | bit(s.rare)<<2 | bit(s.vms)<<1 | bit(s.biflow)
	n = n<<3 | uint16(s.name)
	return minDataSet + n<<1 + uint16(p)
}

func bit(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}
