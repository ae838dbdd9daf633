package wire

import (
	"encoding/binary"
	"math/bits"
)

// Checksum returns the Internet checksum of b (RFC 1071): the complement of the one's complement
// sum of its 16-bit words, an odd last byte padded with zero.
func Checksum(b []byte) uint16 { return ^fold(sum(b, 0)) }

// ChecksumOK reports whether b, which holds its own checksum, adds up.
func ChecksumOK(b []byte) bool { return fold(sum(b, 0)) == 0xffff }

// PseudoSum returns the one's complement sum of the pseudo-header of TCP and UDP (RFC 9293, section 3.1; RFC 8200,
// section 8.1). src and dst have 4 bytes each or 16 bytes each, n is the length of transport header and data.
func PseudoSum(src, dst []byte, proto uint8, n int) uint16 {
	s := uint64(proto) + uint64(uint32(n))
	return fold(sum(dst, sum(src, s)))
}

// ChecksumWith returns the checksum of b and of what initial already sums up: usually a pseudo-header.
func ChecksumWith(initial uint16, b []byte) uint16 { return ^fold(sum(b, uint64(initial))) }

// TransportChecksum returns the checksum of a TCP, UDP or ICMPv6 segment whose checksum field holds zero. For
// UDP, 0 is to be sent as 0xffff (RFC 768).
func TransportChecksum(src, dst []byte, proto uint8, segment []byte) uint16 {
	return ChecksumWith(PseudoSum(src, dst, proto, len(segment)), segment)
}

// UpdateChecksum returns the checksum c after one 16-bit word it covers changed from old to
// new (RFC 1624, section 3, equation 3).
func UpdateChecksum(c, old, new uint16) uint16 {
	return ^fold(uint64(^c) + uint64(^old) + uint64(new))
}

// UpdateChecksum32 is UpdateChecksum for an aligned 32-bit field.
func UpdateChecksum32(c uint16, old, new uint32) uint16 {
	return ^fold(uint64(^c) + uint64(^old) + uint64(new))
}

// UpdateChecksumBytes is UpdateChecksum for a field of any even length at an even offset: an
// address, for example. old and new have the same length.
func UpdateChecksumBytes(c uint16, old, new []byte) uint16 {
	return ^fold(uint64(^c) + uint64(^fold(sum(old, 0))) + uint64(fold(sum(new, 0))))
}

// sum adds b to s as big-endian words, eight bytes at a time; carries come back in at the low end.
func sum(b []byte, s uint64) uint64 {
	var carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var last uint64
	for i, v := range b {
		last |= uint64(v) << (56 - 8*i)
	}
	s, carry = bits.Add64(s, last, carry)
	s, carry = bits.Add64(s, 0, carry)
	return s + carry
}

// fold brings a sum to 16 bits.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}
