// Package dissect finds every layer of one frame: its kind and offset, through any stack of
// tunnels, without allocating and without failing. A frame that ends early is dissected as
// far as it goes.
package dissect

import (
	"crosstap/internal/flow"
)

// MaxLayers is the hard stop: a frame with more layers is cut there and marked Deep.
const MaxLayers = 24

// Kind names a layer.
type Kind uint8

// Layer is one header of the frame.
type Layer struct {
	Kind  Kind
	Level uint8  // index of the level in Packet.Levels that the header belongs to; a tunnel's header belongs to the level outside it
	Off   uint16 // offset of the header from the frame's start
	Len   uint16 // length of the header, the bytes that are there when it is cut
}

// Issue is a set of reasons why a dissection stopped or is doubtful. None of them is an error: a
// damaged frame is data.
type Issue uint16

// The issues.
const (
	Truncated    Issue = 1 << iota // a header reaches beyond the captured bytes
	Malformed                      // a length or version field cannot be right
	Deep                           // more than MaxLayers layers
	Unsupported                    // an ethertype or protocol that has no reader here
	FragmentTail                   // a fragment other than the first: no transport header
)

// Flow is what one level of encapsulation says about the packet: the 5-tuple and its surroundings.
// Level 0 is the outermost. The zero value of a field means that the level has no such
// field.
type Flow struct {
	SrcMAC, DstMAC   flow.MAC
	Src, Dst         flow.Addr
	SrcPort, DstPort uint16
	EtherType        uint16 // of the network layer
	VLAN             uint16 // identifier of the outermost 802.1Q/ad tag of this level, 0 for none
	InnerVLAN        uint16 // identifier of the next tag
	ICMPTypeCode     uint16
	TCPFlags         uint16 // 9 bits of flags, RFC 9293 and RFC 3168 (NS excluded: 8 bits and AE)
	IPLen            uint16 // IPv4 total length; IPv6 payload length + 40 capped at 65535 (see IPLen32)
	FragOff          uint16 // bytes; fragment offset
	IPID             uint32 // identification, IPv4 16 bits or IPv6 fragment header 32 bits
	Proto            uint8  // transport protocol after extension headers
	TTL              uint8
	ToS              uint8
	MoreFrags        bool
	HasIP            bool
	Segment          flow.Segment // segment that the encapsulation *around* this level names (VNI, VSID, key), 0 for none
	TunnelType       uint8        // VMware element 891 of the encapsulation around this level: 1 VXLAN, 2 GRE, 7 Geneve; 0 for none
	NetOff           uint16       // offset of the IP header, valid when HasIP
	TransOff         uint16       // offset of the transport header, 0 when there is none
	PayloadOff       uint16       // offset of what follows the transport header, 0 when there is none
	LinkOff          uint16       // offset of this level's link header
	IPLen32          uint32       // IP total length with jumbograms and BIG TCP (0 in the header: taken from the frame)
}

// Encapsulations that Flow.TunnelType names, as VMware element 891 counts them.
const (
	TunnelNone   uint8 = 0 // no encapsulation, or one that the element does not know
	TunnelVXLAN  uint8 = 1
	TunnelGRE    uint8 = 2
	TunnelGeneve uint8 = 7
)

// MaxLevels bounds the levels of encapsulation whose flows are kept. A frame with more keeps the first
// MaxLevels-1 and the innermost one.
const MaxLevels = 6

// Packet is a dissected frame. It is reused from frame to frame; Dissect resets it. It holds no
// reference to the frame's bytes.
type Packet struct {
	Layers  [MaxLayers]Layer
	NLayers int
	Levels  [MaxLevels]Flow
	NLevels int
	Issues  Issue
}

// Outer returns the outermost level, Inner the innermost one.
func (p *Packet) Outer() *Flow { return &p.Levels[0] }

// Inner returns the innermost level; the same as Outer without encapsulation.
func (p *Packet) Inner() *Flow { return &p.Levels[max(p.NLevels-1, 0)] }
