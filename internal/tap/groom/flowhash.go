package groom

import (
	"encoding/binary"
	"math/bits"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
)

// FlowHash says which packets belong to one conversation. The hash is the same in both directions of a conversation, and that of
// the innermost packet.
type FlowHash uint8

// The ways to hash.
const (
	HashPorts FlowHash = iota // addresses, protocol and ports; fragments without ports
	HashHosts                 // addresses
)

// of returns the hash of the frame under way.
func (k FlowHash) of(it *item) uint64 {
	f := it.packet().Inner()
	if !f.HasIP {
		return mix(uint64(min(f.SrcMAC, f.DstMAC))) ^ mix(uint64(max(f.SrcMAC, f.DstMAC))^uint64(f.EtherType)<<48)
	}
	a, b := fold(&f.Src), fold(&f.Dst)
	if k == HashHosts {
		return mix(a + b)
	}
	proto := mix(uint64(f.Proto) + 0x51ed)
	if fragment(f) {
		return mix(a + b ^ proto)
	}
	return mix(mix(a+uint64(f.SrcPort)) + mix(b+uint64(f.DstPort)) ^ proto)
}

// fragment reports whether a packet is a fragment, the first one too: ports that some fragments of a datagram
// lack must not part it.
func fragment(f *dissect.Flow) bool { return f.MoreFrags || f.FragOff != 0 }

func fold(a *flow.Addr) uint64 {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(a[:])^0xa0761d6478bd642f, binary.LittleEndian.Uint64(a[8:])^0xe7037ed1a0b428db)
	return hi ^ lo
}

// mix spreads the bits of x over the result; different x give different results.
func mix(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return x
}
