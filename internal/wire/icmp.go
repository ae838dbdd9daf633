package wire

import "encoding/binary"

// ICMPLen is the length of an ICMP header with the four bytes whose meaning depends on the type.
const ICMPLen = 8

// ICMP is an ICMP (RFC 792) or ICMPv6 (RFC 4443, section 2.1) header in place: type (8 bits), code (8), checksum (16),
// four bytes that depend on the type. Call Valid before the rest.
type ICMP []byte

// Valid reports whether the whole header is there.
func (h ICMP) Valid() bool { return len(h) >= ICMPLen }

// TypeCode returns the type in the high byte and the code in the low one.
func (h ICMP) TypeCode() uint16 { return binary.BigEndian.Uint16(h) }

// Checksum returns the checksum.
func (h ICMP) Checksum() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// ID returns the identifier of an echo message.
func (h ICMP) ID() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// Seq returns the sequence number of an echo message.
func (h ICMP) Seq() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// SetChecksum writes the checksum.
func (h ICMP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[2:], c) }
