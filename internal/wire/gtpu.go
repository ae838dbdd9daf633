package wire

import "encoding/binary"

// GTPULen is the length of a GTP-U header without optional fields.
const GTPULen = 8

// GTPUPacket is the message type of a user's packet (G-PDU).
const GTPUPacket = 255

// GTPU is a GTPv1-U header in place (3GPP TS 29.281, section 5.1): version (3 bits), protocol type (1), reserved (1), flags E,
// S, PN (3), message type (8), length of what follows the first 8 bytes (16), tunnel endpoint identifier
// (32); with any flag sequence number (16), N-PDU number (8), next extension header type (8), extension
// headers. Call Valid before the rest.
type GTPU []byte

// Valid reports whether the fixed part is there with version 1 and protocol type GTP.
func (h GTPU) Valid() bool { return len(h) >= GTPULen && h[0]&0xf0 == 0x30 }

// Type returns the message type.
func (h GTPU) Type() uint8 { return h[1] }

// Length returns the length of what follows the first 8 bytes.
func (h GTPU) Length() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// TEID returns the tunnel endpoint identifier.
func (h GTPU) TEID() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Len returns the length of the header with optional fields and extension headers. It exceeds len(h) when
// they are not all there; a list of extension headers that cannot be right gives 0.
func (h GTPU) Len() int {
	const optional = 4
	if h[0]&7 == 0 {
		return GTPULen
	}
	n := GTPULen + optional
	if h[0]&4 == 0 {
		return n
	}
	for n <= len(h) && h[n-1] != 0 {
		if n == len(h) {
			return n + 4
		}
		if h[n] == 0 {
			return 0
		}
		n += int(h[n]) * 4
	}
	return n
}
