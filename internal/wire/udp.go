package wire

import "encoding/binary"

// UDPLen is the length of a UDP header.
const UDPLen = 8

// UDP is a UDP header in place (RFC 768): source port (16 bits), destination port (16), length with header (16),
// checksum (16). Call Valid before the rest. The first four bytes of UDP-Lite and DCCP read the same.
type UDP []byte

// Valid reports whether the whole header is there.
func (h UDP) Valid() bool { return len(h) >= UDPLen }

// SrcPort returns the source port.
func (h UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(h) }

// DstPort returns the destination port.
func (h UDP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Length returns the length of header and data; 0 in a jumbogram (RFC 2675, section 4).
func (h UDP) Length() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// Checksum returns the checksum; 0 means that the sender computed none.
func (h UDP) Checksum() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// SetSrcPort writes the source port.
func (h UDP) SetSrcPort(p uint16) { binary.BigEndian.PutUint16(h, p) }

// SetDstPort writes the destination port.
func (h UDP) SetDstPort(p uint16) { binary.BigEndian.PutUint16(h[2:], p) }

// SetLength writes the length.
func (h UDP) SetLength(n uint16) { binary.BigEndian.PutUint16(h[4:], n) }

// SetChecksum writes the checksum.
func (h UDP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[6:], c) }
