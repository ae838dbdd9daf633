package wire

import "encoding/binary"

// IPv4Len is the length of an IPv4 header without options.
const IPv4Len = 20

// IPv4 is an IPv4 header in place (RFC 791, section 3.1): version (4 bits), header length in 4-byte
// units (4), type of service (8), total length (16), identification (16), flags (3), fragment
// offset in 8-byte units (13), time to live (8), protocol (8), header checksum (16), source (32),
// destination (32), options. Call Valid before the rest.
type IPv4 []byte

// Valid reports whether the fixed part is there and says version 4 and a possible header length. The
// options may be cut.
func (h IPv4) Valid() bool { return len(h) >= IPv4Len && h[0]>>4 == 4 && h[0]&15 >= 5 }

// Version returns the version field.
func (h IPv4) Version() uint8 { return h[0] >> 4 }

// HeaderLen returns the header's length in bytes with options.
func (h IPv4) HeaderLen() int { return int(h[0]&15) * 4 }

// ToS returns the type of service byte: DSCP (6 bits) and ECN (2).
func (h IPv4) ToS() uint8 { return h[1] }

// TotalLen returns the length of header and data in bytes; 0 in a super-frame that no 16 bits hold.
func (h IPv4) TotalLen() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// ID returns the identification.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// DontFragment returns the DF flag.
func (h IPv4) DontFragment() bool { return h[6]&0x40 != 0 }

// MoreFragments returns the MF flag.
func (h IPv4) MoreFragments() bool { return h[6]&0x20 != 0 }

// FragOff returns the fragment offset in bytes.
func (h IPv4) FragOff() uint16 { return binary.BigEndian.Uint16(h[6:]) << 3 }

// TTL returns the time to live.
func (h IPv4) TTL() uint8 { return h[8] }

// Protocol returns the protocol of the data.
func (h IPv4) Protocol() uint8 { return h[9] }

// Checksum returns the header checksum.
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[10:]) }

// Src returns the four bytes of the source address.
func (h IPv4) Src() []byte { return h[12:16] }

// Dst returns the four bytes of the destination address.
func (h IPv4) Dst() []byte { return h[16:20] }

// SetToS writes the type of service byte.
func (h IPv4) SetToS(v uint8) { h[1] = v }

// SetTotalLen writes the total length.
func (h IPv4) SetTotalLen(n uint16) { binary.BigEndian.PutUint16(h[2:], n) }

// SetID writes the identification.
func (h IPv4) SetID(id uint16) { binary.BigEndian.PutUint16(h[4:], id) }

// SetTTL writes the time to live.
func (h IPv4) SetTTL(v uint8) { h[8] = v }

// SetProtocol writes the protocol.
func (h IPv4) SetProtocol(p uint8) { h[9] = p }

// SetChecksum writes the header checksum.
func (h IPv4) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[10:], c) }

// UpdateChecksum computes the header checksum anew; the options must be there.
func (h IPv4) UpdateChecksum() {
	h.SetChecksum(0)
	h.SetChecksum(Checksum(h[:h.HeaderLen()]))
}
