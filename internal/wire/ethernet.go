package wire

import "encoding/binary"

// EthernetLen is the length of an Ethernet header without tags.
const EthernetLen = 14

// Ethernet is an Ethernet header in place (IEEE 802.3, clause 3.1.1): destination (48 bits), source (48),
// type or length (16). Call Valid before the rest.
type Ethernet []byte

// Valid reports whether the whole header is there.
func (h Ethernet) Valid() bool { return len(h) >= EthernetLen }

// Dst returns the six bytes of the destination address.
func (h Ethernet) Dst() []byte { return h[0:6] }

// Src returns the six bytes of the source address.
func (h Ethernet) Src() []byte { return h[6:12] }

// Type returns the EtherType, or the length of the frame's data when it is below MinType.
func (h Ethernet) Type() uint16 { return binary.BigEndian.Uint16(h[12:]) }

// SetType writes the type or length.
func (h Ethernet) SetType(t uint16) { binary.BigEndian.PutUint16(h[12:], t) }

// LLCLen is the length of an LLC header with a one-byte control field.
const LLCLen = 3

// LLC is a logical link control header in place (IEEE 802.2): DSAP (8 bits), SSAP (8), control (8 or
// 16). Call Valid before the rest.
type LLC []byte

// Valid reports whether the shortest header is there.
func (h LLC) Valid() bool { return len(h) >= LLCLen }

// DSAP returns the destination service access point.
func (h LLC) DSAP() uint8 { return h[0] }

// SSAP returns the source service access point; its lowest bit marks a response.
func (h LLC) SSAP() uint8 { return h[1] }

// Control returns the first byte of the control field; 3 is unnumbered information.
func (h LLC) Control() uint8 { return h[2] }

// Len returns 3 for unnumbered frames and 4 for all others.
func (h LLC) Len() int {
	if h[2]&3 == 3 {
		return LLCLen
	}
	return LLCLen + 1
}

// SNAP reports whether a SNAP header follows.
func (h LLC) SNAP() bool { return h[0] == 0xaa && h[1]&^1 == 0xaa && h[2] == 3 }

// SNAPLen is the length of a SNAP header.
const SNAPLen = 5

// SNAP is a subnetwork access protocol header in place (IEEE 802): organization (24 bits), protocol (16).
// Call Valid before the rest.
type SNAP []byte

// Valid reports whether the whole header is there.
func (h SNAP) Valid() bool { return len(h) >= SNAPLen }

// OUI returns the organization; for 0 and 0x0000f8 the protocol is an EtherType.
func (h SNAP) OUI() uint32 { return uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2]) }

// Protocol returns the protocol identifier.
func (h SNAP) Protocol() uint16 { return binary.BigEndian.Uint16(h[3:]) }
