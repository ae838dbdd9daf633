package wire

import "encoding/binary"

// SCTPLen is the length of the SCTP common header.
const SCTPLen = 12

// SCTP is an SCTP common header in place (RFC 9260, section 3.1): source port (16 bits), destination port (16),
// verification tag (32), CRC32c (32). Call Valid before the rest.
type SCTP []byte

// Valid reports whether the whole header is there.
func (h SCTP) Valid() bool { return len(h) >= SCTPLen }

// SrcPort returns the source port.
func (h SCTP) SrcPort() uint16 { return binary.BigEndian.Uint16(h) }

// DstPort returns the destination port.
func (h SCTP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Tag returns the verification tag.
func (h SCTP) Tag() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Checksum returns the CRC32c, in the byte order of the wire.
func (h SCTP) Checksum() uint32 { return binary.BigEndian.Uint32(h[8:]) }

// SetChecksum writes the CRC32c.
func (h SCTP) SetChecksum(c uint32) { binary.BigEndian.PutUint32(h[8:], c) }
