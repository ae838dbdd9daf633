package wire

import "encoding/binary"

// PPPoELen is the length of a PPPoE header.
const PPPoELen = 6

// PPPoE is a PPPoE header in place (RFC 2516, section 4): version (4 bits), type (4), code (8), session
// identifier (16), length of the payload (16). Call Valid before the rest.
type PPPoE []byte

// Valid reports whether the header is there with version 1 and type 1.
func (h PPPoE) Valid() bool { return len(h) >= PPPoELen && h[0] == 0x11 }

// Code returns the code: 0 in the session stage.
func (h PPPoE) Code() uint8 { return h[1] }

// Session returns the session identifier.
func (h PPPoE) Session() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Length returns the length of what follows the header.
func (h PPPoE) Length() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// SetLength writes the length of what follows the header.
func (h PPPoE) SetLength(n uint16) { binary.BigEndian.PutUint16(h[4:], n) }

// PPP protocol numbers of network layers, as IANA assigns them.
const (
	PPPIPv4      = 0x0021
	PPPBridge    = 0x0031
	PPPIPv6      = 0x0057
	PPPMPLS      = 0x0281
	PPPMPLSMulti = 0x0283
)

// PPP is a PPP header in place (RFC 1661, section 2; RFC 1662, section 3.1): address and control (0xff 0x03) unless
// left out, protocol (16 bits, or 8 when compressed).
type PPP []byte

// Len returns the length of the header, 0 when it is not all there.
func (h PPP) Len() int {
	n := h.start()
	switch {
	case len(h) <= n:
		return 0
	case h[n]&1 != 0:
		return n + 1
	case len(h) < n+2:
		return 0
	}
	return n + 2
}

// Protocol returns the protocol of what follows; Len must not be 0.
func (h PPP) Protocol() uint16 {
	n := h.start()
	if h[n]&1 != 0 {
		return uint16(h[n])
	}
	return binary.BigEndian.Uint16(h[n:])
}

func (h PPP) start() int {
	if len(h) >= 2 && h[0] == 0xff && h[1] == 0x03 {
		return 2
	}
	return 0
}
