package wire

import "encoding/binary"

// VNTagLen is the length of a VN-Tag after its EtherType, with the next type.
const VNTagLen = 6

// VNTag is what follows EtherType 0x8926, in place: direction (1 bit), pointer (1), destination VIF (14),
// looped (1), reserved (1), version (2), source VIF (12), next type (16). Call Valid before the rest.
type VNTag []byte

// Valid reports whether the whole tag is there.
func (h VNTag) Valid() bool { return len(h) >= VNTagLen }

// FromBridge reports the direction bit: the frame goes from the bridge to the interface virtualizer.
func (h VNTag) FromBridge() bool { return h[0]&0x80 != 0 }

// Pointer reports whether DstVIF names a list of interfaces.
func (h VNTag) Pointer() bool { return h[0]&0x40 != 0 }

// DstVIF returns the destination virtual interface, or the list when Pointer is set.
func (h VNTag) DstVIF() uint16 { return binary.BigEndian.Uint16(h) & 0x3fff }

// Looped reports whether the frame comes back to the port extender it came from.
func (h VNTag) Looped() bool { return h[2]&0x80 != 0 }

// Version returns the version field.
func (h VNTag) Version() uint8 { return h[2] >> 4 & 3 }

// SrcVIF returns the source virtual interface.
func (h VNTag) SrcVIF() uint16 { return binary.BigEndian.Uint16(h[2:]) & 0x0fff }

// Type returns the EtherType or length that follows the tag.
func (h VNTag) Type() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// ETagLen is the length of an E-TAG after its EtherType, with the next type.
const ETagLen = 8

// ETag is what follows EtherType 0x893f, in place (IEEE 802.1BR): priority (3 bits), drop eligible (1),
// ingress E-CID base (12), reserved (2), group (2), E-CID base (12), ingress E-CID extension (8), E-CID
// extension (8), next type (16). Call Valid before the rest.
type ETag []byte

// Valid reports whether the whole tag is there.
func (h ETag) Valid() bool { return len(h) >= ETagLen }

// PCP returns the priority code point.
func (h ETag) PCP() uint8 { return h[0] >> 5 }

// DEI returns the drop eligible indicator.
func (h ETag) DEI() bool { return h[0]&0x10 != 0 }

// Group returns the GRP field; other than 0 the E-CID names several ports.
func (h ETag) Group() uint8 { return h[2] >> 4 & 3 }

// IngressECID returns the E-channel the frame came from: base (12 bits), extension above it (8).
func (h ETag) IngressECID() uint32 {
	return uint32(h[4])<<12 | uint32(binary.BigEndian.Uint16(h)&0x0fff)
}

// ECID returns the E-channel the frame goes to: base (12 bits), extension above it (8), group above that (2).
func (h ETag) ECID() uint32 {
	return uint32(h.Group())<<20 | uint32(h[5])<<12 | uint32(binary.BigEndian.Uint16(h[2:])&0x0fff)
}

// Type returns the EtherType or length that follows the tag.
func (h ETag) Type() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// ITagLen is the length of an I-TAG after its EtherType. The customer's Ethernet header follows.
const ITagLen = 4

// ITag is what follows EtherType 0x88e7, in place (IEEE 802.1Q, clause 9.7): priority (3 bits), drop eligible (1), use
// customer address (1), reserved (3), service instance identifier (24). Call Valid before the rest.
type ITag []byte

// Valid reports whether the whole tag is there.
func (h ITag) Valid() bool { return len(h) >= ITagLen }

// SID returns the backbone service instance identifier.
func (h ITag) SID() uint32 { return binary.BigEndian.Uint32(h) & 0xffffff }
