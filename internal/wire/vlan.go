package wire

import "encoding/binary"

// VLANLen is the length of one tag.
const VLANLen = 4

// VLAN is what follows a tag's EtherType, in place (IEEE 802.1Q, clause 9.6): priority (3 bits), drop eligible (1),
// VLAN identifier (12), then the next type (16). Call Valid before the rest.
type VLAN []byte

// Valid reports whether the whole tag is there.
func (h VLAN) Valid() bool { return len(h) >= VLANLen }

// PCP returns the priority code point.
func (h VLAN) PCP() uint8 { return h[0] >> 5 }

// DEI returns the drop eligible indicator.
func (h VLAN) DEI() bool { return h[0]&0x10 != 0 }

// ID returns the VLAN identifier; 0 means that the tag carries a priority only.
func (h VLAN) ID() uint16 { return binary.BigEndian.Uint16(h) & 0x0fff }

// Type returns the EtherType or length that follows the tag.
func (h VLAN) Type() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// SetID writes the VLAN identifier and leaves the priority.
func (h VLAN) SetID(id uint16) {
	binary.BigEndian.PutUint16(h, binary.BigEndian.Uint16(h)&0xf000|id&0x0fff)
}

// SetType writes the EtherType or length that follows.
func (h VLAN) SetType(t uint16) { binary.BigEndian.PutUint16(h[2:], t) }
