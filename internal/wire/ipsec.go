package wire

import "encoding/binary"

// Lengths of IPsec headers.
const (
	ESPLen = 8
	AHMin  = 12
)

// ESP is the clear part of an encapsulating security payload in place (RFC 4303, section 2): security
// parameters index (32 bits), sequence number (32). Call Valid before the rest.
type ESP []byte

// Valid reports whether the header is there.
func (h ESP) Valid() bool { return len(h) >= ESPLen }

// SPI returns the security parameters index.
func (h ESP) SPI() uint32 { return binary.BigEndian.Uint32(h) }

// Seq returns the sequence number.
func (h ESP) Seq() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// AH is an authentication header in place (RFC 4302, section 2): next header (8 bits), length in 4-byte units minus 2
// (8), reserved (16), security parameters index (32), sequence number (32), integrity check value. Call Valid before
// the rest.
type AH []byte

// Valid reports whether the fixed part is there. The check value may be cut.
func (h AH) Valid() bool { return len(h) >= AHMin }

// NextHeader returns the protocol of what follows.
func (h AH) NextHeader() uint8 { return h[0] }

// Len returns the length of the header in bytes; below AHMin it is wrong.
func (h AH) Len() int { return (int(h[1]) + 2) * 4 }

// SPI returns the security parameters index.
func (h AH) SPI() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Seq returns the sequence number.
func (h AH) Seq() uint32 { return binary.BigEndian.Uint32(h[8:]) }
