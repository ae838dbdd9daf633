package wire

import "encoding/binary"

// Lengths of one label stack entry and of a pseudowire control word.
const (
	MPLSLen        = 4
	ControlWordLen = 4
)

// MPLS is one label stack entry in place (RFC 3032, section 2.1): label (20 bits), traffic class (3), bottom of stack
// (1), time to live (8). Call Valid before the rest.
type MPLS []byte

// Valid reports whether the whole entry is there.
func (h MPLS) Valid() bool { return len(h) >= MPLSLen }

// Label returns the label; 0 to 15 have fixed meanings.
func (h MPLS) Label() uint32 { return binary.BigEndian.Uint32(h) >> 12 }

// TrafficClass returns the traffic class (RFC 5462).
func (h MPLS) TrafficClass() uint8 { return h[2] >> 1 & 7 }

// Bottom reports whether this is the last entry of the stack.
func (h MPLS) Bottom() bool { return h[2]&1 != 0 }

// TTL returns the time to live.
func (h MPLS) TTL() uint8 { return h[3] }

// ControlWord is the control word of a pseudowire in place (RFC 4385, section 3; for Ethernet RFC 4448, section 4.6):
// zeros (4 bits), flags (4), fragmentation (2), length (6), sequence number (16). Call Valid before the rest.
type ControlWord []byte

// Valid reports whether the word is there and begins as it must.
func (h ControlWord) Valid() bool { return len(h) >= ControlWordLen && h[0]>>4 == 0 }

// Length returns the length of control word and payload when the packet is shorter than 64 bytes, else 0.
func (h ControlWord) Length() int { return int(h[1] & 0x3f) }

// Seq returns the sequence number; 0 means that the sender counts nothing.
func (h ControlWord) Seq() uint16 { return binary.BigEndian.Uint16(h[2:]) }
