// Package flow holds the flow record that travels along the collect line, its keys and its
// units. The words are those of RFC 7011.
package flow

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address as 16 bytes in network order. IPv4 addresses stand in the
// IPv4-mapped form of RFC 4291, section 2.5.5.2. The zero value means "not known"; the IPv6
// unspecified address is therefore not told apart from it.
type Addr [16]byte

// V4 returns the address with the four bytes of an IPv4 address. b must have 4 bytes.
func V4(b []byte) Addr {
	var a Addr
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// V6 returns the address with the 16 bytes of an IPv6 address. b must have 16 bytes.
func V6(b []byte) Addr { return Addr(b[:16]) }

// FromNetip converts a; an invalid address gives the zero Addr.
func FromNetip(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return Addr(a.As16())
}

// IsZero reports whether the address is not known.
func (a Addr) IsZero() bool { return a == Addr{} }

// Is4 reports whether a stands for an IPv4 address.
func (a Addr) Is4() bool {
	return binary.BigEndian.Uint64(a[:8]) == 0 && binary.BigEndian.Uint32(a[8:12]) == 0xffff
}

// Netip converts a, IPv4-mapped addresses as IPv4; the zero Addr gives an invalid address.
func (a Addr) Netip() netip.Addr {
	if a.IsZero() {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

// String returns the usual text of the address, "" when it is not known.
func (a Addr) String() string {
	if a.IsZero() {
		return ""
	}
	return a.Netip().String()
}

// MAC is a 48-bit IEEE 802 address in the low bits, first byte on the wire highest.
type MAC uint64

// MACFrom reads six bytes.
func MACFrom(b []byte) MAC {
	return MAC(uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:])))
}

// Put writes the six bytes of the address to b.
func (m MAC) Put(b []byte) {
	binary.BigEndian.PutUint16(b, uint16(m>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(m))
}

// Group reports whether the address is a multicast or broadcast address (I/G bit, IEEE 802, clause 8.2.2).
func (m MAC) Group() bool { return m>>40&1 == 1 }

// String returns the address as aa:bb:cc:dd:ee:ff, "" for zero.
func (m MAC) String() string {
	if m == 0 {
		return ""
	}
	const hex = "0123456789abcdef"
	var out [17]byte
	for i := range 6 {
		b := byte(m >> (40 - 8*i))
		out[3*i], out[3*i+1] = hex[b>>4], hex[b&15]
		if i < 5 {
			out[3*i+2] = ':'
		}
	}
	return string(out[:])
}

// Segment is a virtual layer-2 network as IANA element 351 (layer2SegmentId) lays it out:
// the kind in the most significant byte, the number in the low 32 bits. Zero means that the
// segment is not known.
type Segment uint64

// SegmentKind is the most significant byte of a Segment. 1 and 2 are IANA's; the others are
// ours, from the end of the range that IANA has not assigned.
type SegmentKind uint8

// The kinds of segment.
const (
	KindNone   SegmentKind = 0
	KindVXLAN  SegmentKind = 0x01 // 24-bit VXLAN network identifier, RFC 7348
	KindNVGRE  SegmentKind = 0x02 // 24-bit tenant network identifier, RFC 7637
	KindVLAN   SegmentKind = 0xf1 // 12-bit VLAN identifier, IEEE 802.1Q
	KindGeneve SegmentKind = 0xf2 // 24-bit virtual network identifier, RFC 8926
	KindGRE    SegmentKind = 0xf3 // 32-bit GRE key, RFC 2890
)

// NewSegment returns the segment with that kind and number.
func NewSegment(k SegmentKind, number uint32) Segment {
	return Segment(uint64(k)<<56 | uint64(number))
}

// Kind returns the most significant byte.
func (s Segment) Kind() SegmentKind { return SegmentKind(s >> 56) }

// Number returns the VNI, VSID, VLAN identifier or key.
func (s Segment) Number() uint32 { return uint32(s) }

// String returns the kind's name, as used in filters and tables.
func (k SegmentKind) String() string {
	switch k {
	case KindVXLAN:
		return "vxlan"
	case KindNVGRE:
		return "nvgre"
	case KindVLAN:
		return "vlan"
	case KindGeneve:
		return "geneve"
	case KindGRE:
		return "gre"
	case KindNone:
		return ""
	}
	return "other"
}

// Role says what kind of place an observer is.
type Role uint8

// Roles of observers, best first for the election of the canonical row (design: ingress before egress
// within a role).
const (
	RoleUnknown  Role = iota
	RoleVNIC          // inside the VM (tap agent)
	RolePort          // vSwitch port, own meter or the switch's exporter
	RoleMirror        // vSwitch port mirror
	RoleTunnel        // tunnel endpoint: sees VNI and VTEPs
	RoleUnderlay      // physical network
)

var roleNames = [...]string{"unknown", "vnic", "port", "mirror", "tunnel", "underlay"}

// String returns the role's name.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return roleNames[0]
}

// ParseRole is the inverse of String; unknown names give RoleUnknown.
func ParseRole(s string) Role {
	for i, n := range roleNames {
		if n == s {
			return Role(i)
		}
	}
	return RoleUnknown
}

// EndReason is IANA element 136 (flowEndReason).
type EndReason uint8

// The values of flowEndReason.
const (
	EndUnknown  EndReason = 0
	EndIdle     EndReason = 1
	EndActive   EndReason = 2
	EndDetected EndReason = 3 // FIN or RST
	EndForced   EndReason = 4 // shutdown
	EndResource EndReason = 5 // memory pressure
)

// Client says which end of a record opened the conversation.
type Client uint8

// The values of Client.
const (
	ClientUnknown Client = iota
	ClientSrc
	ClientDst
)

// AppHow says how the application of a record is known.
type AppHow uint8

// The ways, the weakest first.
const (
	AppUnknown  AppHow = iota
	AppProto           // by the IP protocol
	AppPort            // by the port's registration: a guess
	AppConfig          // by the operator's table
	AppExporter        // the exporter says so
	AppSSH             // by the banner
	AppDNS             // by a message with a question
	AppHTTP            // by a request or an answer
	AppTLS             // by a ClientHello
	AppQUIC            // by an Initial packet
)

var appHowNames = [...]string{"", "protocol", "port", "config", "exporter", "ssh", "dns", "http", "tls", "quic"}

// String returns the way's name, "" for not known.
func (h AppHow) String() string {
	if int(h) < len(appHowNames) {
		return appHowNames[h]
	}
	return ""
}

// Mark is a set of facts about a record that every figure made from it must carry.
type Mark uint16

// The marks.
const (
	MarkCanonical Mark = 1 << iota // the one observer's row that sums read
	MarkSampled                    // counters stand for more packets than were seen
	MarkAssumed                    // the sampling rate was not announced but assumed
	MarkAmbiguous                  // two segments or two merge candidates fitted
	MarkTruncated                  // made from frames cut by the snap length
	MarkFragments                  // contains IP fragments
	MarkGuess                      // Client was guessed from the ports
	MarkReverse                    // the reverse half of a biflow (RFC 5103); in a batch it directly follows the forward half
	MarkGap                        // the exporter lost records around this one
	MarkBorrowed                   // decoded with the template of another observation domain
)

// Tunnel is what the outer header says. The zero value means that the observer saw none.
type Tunnel struct {
	Src, Dst         Addr   // the VTEPs
	SrcPort, DstPort uint16 //
	Proto            uint8  // IP protocol of the outer packet: 17 for VXLAN, 47 for GRE
	Type             uint8  // VMware element 891: 1 VXLAN, 2 GRE, 7 Geneve
}

// Record is one observer's account of one flow over one interval: a uniflow. Inner means the
// tenant's packet; for traffic without a tunnel the inner packet is the packet.
//
// Counting (design, section 4): Packets are wire segments, Octets are IP total lengths of
// the metered packet (IANA element 1), L2Octets include the layer-2 header (element 352,
// without preamble and frame check sequence).
//
// Sampling: a record on its way to a collector holds what was counted, as on the wire, with the rate beside it. Package enrich
// multiplies, once; from there on the counters are estimates of all packets, and what was counted is the counter ÷ Sampling.
// An exporter that multiplies itself (Open vSwitch) tells no rate, and its counters stay.
type Record struct {
	StartNS, EndNS, RecvNS int64 // nanoseconds since the Unix epoch, UTC

	// the observation
	Exporter  Addr   // transport address of the exporting process
	Domain    uint32 // observation domain (element 149)
	Point     uint64 // observation point (element 138)
	InIf      uint32 // ingressInterface (10)
	OutIf     uint32 // egressInterface (14)
	Sampling  uint32 // one packet in Sampling was seen; 0 and 1 mean every packet
	Direction uint8  // flowDirection (61): 0 ingress, 1 egress, 255 unknown
	Role      Role
	EndReason EndReason
	Client    Client
	Marks     Mark

	// the tenant's packet
	Proto            uint8
	ToS              uint8
	MinTTL, MaxTTL   uint8
	TCPFlags         uint16 // tcpControlBits (6), union over the packets
	FirstTCPFlags    uint8  // the low control bits of the first packet (CERT's initialTCPFlags); 0 for not known
	ICMPTypeCode     uint16 // type in the high byte, code in the low one (elements 32, 139)
	SrcPort, DstPort uint16
	EtherType        uint16
	VLAN             uint16 // outer 802.1Q identifier, 0 for none
	Src, Dst         Addr
	SrcMAC, DstMAC   MAC
	Segment          Segment
	Tunnel           Tunnel

	Packets, Octets, L2Octets uint64

	// what the packets told beside their addresses; zero where the observer does not say
	MinLen, MaxLen uint16 // IP total length of the shortest and the longest packet (25, 26), bytes
	InnerVLAN      uint16 // identifier of the second 802.1Q tag
	SrcVIF, DstVIF uint16 // of the VN-Tag
	MPLS           uint32 // label on top of the stack, 20 bits
	Fragments      uint32 // of Packets, those that were fragments
	RTTUS          uint32 // from a SYN to the acknowledgement of its answer, as this observer saw it; microseconds
	Retransmits    uint32 // TCP segments that carried bytes a second time
	ZeroWindows    uint32 // TCP segments that closed the window
	AppHow         AppHow // how App is known
	AppName        string // the name that the payload told: TLS server name, HTTP host, DNS question

	// Extra holds the elements that no field holds, in ascending order and as text: "0.225=0a000001 6876.888=03", enterprise
	// number, element identifier and the value's bytes in hexadecimal.
	Extra string

	// joined by the collecting side
	FlowID       uint64 // hash of the merge key; the same for every observer of the flow
	ObserverID   uint64 // hash of the place: exporter, domain, point, name, role, direction (and port, for a group's copies)
	Fabric       string
	Observer     string // name of the observer
	InIfName     string // names of InIf and OutIf, "" where nobody tells them
	OutIfName    string
	VRF          string // routing table that the packets came in by, else that they left by
	ObserverHost string // host the observer is on
	Tenant       string // whose the segment is, else whom both machines are given to
	SrcTenant    string // whom the machine at that end belongs to: by itself, else by its segment; "" when it is not known
	DstTenant    string
	SrcVM, DstVM string // names as at EndNS
	SrcVMID      string // stable id, "" when the inventory gives none
	DstVMID      string
	SrcHost      string
	DstHost      string
	App          string
}

// Is reports whether all of m's marks are set.
func (r *Record) Is(m Mark) bool { return r.Marks&m == m }
