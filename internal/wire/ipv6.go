package wire

import "encoding/binary"

// Lengths of IPv6 headers.
const (
	IPv6Len         = 40
	IPv6FragmentLen = 8
	IPv6ExtMin      = 8 // the shortest options or routing header
)

// IPv6 is an IPv6 header in place (RFC 8200, section 3): version (4 bits), traffic class (8), flow label (20),
// payload length (16), next header (8), hop limit (8), source (128), destination (128). Call Valid before the
// rest.
type IPv6 []byte

// Valid reports whether the header is there and says version 6.
func (h IPv6) Valid() bool { return len(h) >= IPv6Len && h[0]>>4 == 6 }

// Version returns the version field.
func (h IPv6) Version() uint8 { return h[0] >> 4 }

// TrafficClass returns the traffic class: DSCP (6 bits) and ECN (2).
func (h IPv6) TrafficClass() uint8 { return h[0]<<4 | h[1]>>4 }

// FlowLabel returns the flow label.
func (h IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(h) & 0xfffff }

// PayloadLen returns the length of what follows the header; 0 in a jumbogram (RFC 2675).
func (h IPv6) PayloadLen() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// NextHeader returns the protocol of what follows.
func (h IPv6) NextHeader() uint8 { return h[6] }

// HopLimit returns the hop limit.
func (h IPv6) HopLimit() uint8 { return h[7] }

// Src returns the 16 bytes of the source address.
func (h IPv6) Src() []byte { return h[8:24] }

// Dst returns the 16 bytes of the destination address.
func (h IPv6) Dst() []byte { return h[24:40] }

// SetPayloadLen writes the payload length.
func (h IPv6) SetPayloadLen(n uint16) { binary.BigEndian.PutUint16(h[4:], n) }

// SetNextHeader writes the protocol of what follows.
func (h IPv6) SetNextHeader(p uint8) { h[6] = p }

// SetHopLimit writes the hop limit.
func (h IPv6) SetHopLimit(v uint8) { h[7] = v }

// IPv6Ext is an extension header in place that has the common shape (RFC 6564, section 4; RFC 8200, sections 4.3
// to 4.6): next header (8 bits), length in 8-byte units beyond the first 8 bytes (8), data. Call Valid
// before the rest.
type IPv6Ext []byte

// Valid reports whether the first 8 bytes are there.
func (h IPv6Ext) Valid() bool { return len(h) >= IPv6ExtMin }

// NextHeader returns the protocol of what follows.
func (h IPv6Ext) NextHeader() uint8 { return h[0] }

// Len returns the length of the header in bytes.
func (h IPv6Ext) Len() int { return (int(h[1]) + 1) * 8 }

// Jumbo returns the jumbo payload length (RFC 2675, section 2) when this hop-by-hop options header carries the
// option, and 0 when not.
func (h IPv6Ext) Jumbo() uint32 {
	const pad1, jumbo = 0x00, 0xc2
	b := h[2:min(h.Len(), len(h))]
	for len(b) >= 2 {
		if b[0] == pad1 {
			b = b[1:]
			continue
		}
		n := 2 + int(b[1])
		if b[0] == jumbo && n == 6 && len(b) >= 6 {
			return binary.BigEndian.Uint32(b[2:])
		}
		if n > len(b) {
			break
		}
		b = b[n:]
	}
	return 0
}

// RoutingType returns the type of a routing header: 2 mobile IPv6, 3 RPL, 4 segment routing.
func (h IPv6Ext) RoutingType() uint8 { return h[2] }

// SegmentsLeft returns the number of route segments a routing header still lists.
func (h IPv6Ext) SegmentsLeft() uint8 { return h[3] }

// IPv6Fragment is a fragment header in place (RFC 8200, section 4.5): next header (8 bits), reserved (8),
// fragment offset in 8-byte units (13), reserved (2), more fragments (1), identification (32). Call Valid
// before the rest.
type IPv6Fragment []byte

// Valid reports whether the whole header is there.
func (h IPv6Fragment) Valid() bool { return len(h) >= IPv6FragmentLen }

// NextHeader returns the protocol of what follows the header in the first fragment.
func (h IPv6Fragment) NextHeader() uint8 { return h[0] }

// FragOff returns the fragment offset in bytes.
func (h IPv6Fragment) FragOff() uint16 { return binary.BigEndian.Uint16(h[2:]) &^ 7 }

// MoreFragments returns the M flag.
func (h IPv6Fragment) MoreFragments() bool { return h[3]&1 != 0 }

// ID returns the identification.
func (h IPv6Fragment) ID() uint32 { return binary.BigEndian.Uint32(h[4:]) }
