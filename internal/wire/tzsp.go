package wire

import "encoding/binary"

// TZSPLen is the length of a TZSP header without tags.
const TZSPLen = 4

// Types of TZSP packets and tags.
const (
	TZSPReceived = 0 // a frame that the sensor received
	TZSPTransmit = 1 // a frame to send
	TZSPEthernet = 1 // encapsulated protocol: Ethernet

	TZSPTagPad = 0
	TZSPTagEnd = 1
	TZSPTagLen = 0x29 // original length of the frame
	TZSPTagMAC = 0x3c // address of the sensor
)

// TZSP is a TaZmen Sniffer Protocol header in place: version (8 bits), type (8), encapsulated protocol (16),
// tags: type (8), and but for padding and end length (8) and data. Call Valid before the rest.
type TZSP []byte

// Valid reports whether the fixed part is there with version 1.
func (h TZSP) Valid() bool { return len(h) >= TZSPLen && h[0] == 1 }

// Type returns the type of packet.
func (h TZSP) Type() uint8 { return h[1] }

// Protocol returns the protocol of the encapsulated frame.
func (h TZSP) Protocol() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Len returns the length of the header with its tags, more than len(h) when they do not end.
func (h TZSP) Len() int {
	n := TZSPLen
	for n < len(h) {
		switch {
		case h[n] == TZSPTagEnd:
			return n + 1
		case h[n] == TZSPTagPad:
			n++
		case n+1 == len(h):
			return n + 2
		default:
			n += 2 + int(h[n+1])
		}
	}
	return n + 1
}

// Tag returns the data of the first tag of that type, nil when there is none.
func (h TZSP) Tag(kind uint8) []byte {
	for b := h[TZSPLen:]; len(b) > 0 && b[0] != TZSPTagEnd; {
		if b[0] == TZSPTagPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			break
		}
		if n := 2 + int(b[1]); b[0] == kind {
			return b[2:n:n]
		} else {
			b = b[n:]
		}
	}
	return nil
}
