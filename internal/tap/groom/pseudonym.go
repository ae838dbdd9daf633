package groom

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// pseudonyms replaces addresses. IP addresses are encrypted as Crypto-PAn does (Xu, Fan, Ammar, Moon: Prefix-Preserving IP
// Address Anonymization, 2002): two that share a prefix of n bits have pseudonyms that share exactly n bits. Ethernet addresses keep their
// first three bytes; the others are permuted. Multicast and broadcast addresses and that of no host stay as they are.
type pseudonyms struct {
	block   cipher.Block
	pad     [aes.BlockSize]byte
	in, out [aes.BlockSize]byte
	v4      [cacheSize]struct{ addr, name uint32 }
	v6      [cacheSize]struct{ addr, name [16]byte }
}

// cacheSize is the number of addresses whose pseudonyms are remembered: an IPv6 address costs 128 encryptions.
const cacheSize = 4096

// newPseudonyms takes 16 bytes of key and 16 to make the padding of.
func newPseudonyms(key []byte) *pseudonyms {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic("groom: " + err.Error()) // 16 bytes are a key
	}
	p := &pseudonyms{block: block}
	block.Encrypt(p.pad[:], key[16:32])
	return p
}

// prefix encrypts the first n bits of addr, whose 16 bytes it may change, one bit for each of its prefixes.
func (p *pseudonyms) prefix(addr []byte, name []byte) {
	for bit := range 8 * len(addr) {
		p.in = p.pad
		copy(p.in[:], addr[:bit/8])
		keep := byte(0xff) << (8 - bit%8)
		p.in[bit/8] = addr[bit/8]&keep | p.pad[bit/8]&^keep
		p.block.Encrypt(p.out[:], p.in[:])
		name[bit/8] |= p.out[0] >> 7 << (7 - bit%8)
	}
	for i := range addr {
		name[i] ^= addr[i]
	}
}

// ip replaces an address of 4 or 16 bytes in place.
func (p *pseudonyms) ip(b []byte) {
	if len(b) == 4 {
		p.ip4(b)
		return
	}
	var a [16]byte
	copy(a[:], b)
	if a[0] == 0xff || a == ([16]byte{}) {
		return
	}
	slot := &p.v6[mix(binary.BigEndian.Uint64(a[:])*31+binary.BigEndian.Uint64(a[8:]))%cacheSize]
	if slot.addr != a {
		slot.addr, slot.name = a, [16]byte{}
		p.prefix(slot.addr[:], slot.name[:])
	}
	copy(b, slot.name[:])
}

func (p *pseudonyms) ip4(b []byte) {
	a := binary.BigEndian.Uint32(b)
	if a == 0 || a == 0xffffffff || a>>28 == 14 {
		return
	}
	slot := &p.v4[mix(uint64(a))%cacheSize]
	if slot.addr != a {
		var name [4]byte
		p.prefix(b, name[:])
		slot.addr, slot.name = a, binary.BigEndian.Uint32(name[:])
	}
	binary.BigEndian.PutUint32(b, slot.name)
}

// mac replaces the last three bytes of an Ethernet address by a permutation that depends on the first three: four
// rounds of a Feistel network over two halves of 12 bits.
func (p *pseudonyms) mac(b []byte) {
	if b[0]&1 != 0 || binary.BigEndian.Uint32(b) == 0 && b[4] == 0 && b[5] == 0 {
		return
	}
	x := uint32(b[3])<<16 | uint32(b[4])<<8 | uint32(b[5])
	left, right := x>>12, x&0xfff
	for round := range 4 {
		p.in = p.pad
		copy(p.in[:], b[:3])
		p.in[3] = 0x80 | byte(round) // no prefix of an address is encrypted in this form
		p.in[4], p.in[5], p.in[15] = byte(right>>8), byte(right), ^p.pad[15]
		p.block.Encrypt(p.out[:], p.in[:])
		left, right = right, left^uint32(binary.BigEndian.Uint16(p.out[:])&0xfff)
	}
	x = left<<12 | right
	b[3], b[4], b[5] = byte(x>>16), byte(x>>8), byte(x)
}
