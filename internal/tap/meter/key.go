package meter

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// key is the metering key (design, section 4) in 64-bit words, so that it is compared and hashed without a
// look at its parts:
//
//	0  source MAC << 16 | VLAN
//	1  destination MAC << 16 | inner VLAN
//	2  source port << 48 | destination port << 32 | protocol << 24 | place << 16 | tunnel type << 8 | tunnel's IP protocol
//	3  observation point << 32 | the tunnel's ports, with KeyBoth
//	4  source address, 6 destination address, 8 MPLS label << 32 | segment, 9 and 11 the tunnel's addresses
//
// ICMP's type and code stand in place of the destination port. The place is the direction (2 bits) and whether the packet is IPv6 (1 bit).
type key [13]uint64

const (
	dirMask    = 3
	placeV6    = 4
	placeBrief = 8 // of a briefKey alone
	placeShift = 16
	labelMask  = 1<<20 - 1
)

// keyOf writes the key of the packet at level i of a frame, with the tunnel around it unless the flow of
// an outer header is wanted.
func keyOf(k *key, f *frame.Frame, p *dissect.Packet, i int, tunnel bool) {
	in := &p.Levels[i]
	place := uint64(f.Dir) & dirMask
	if in.EtherType == wire.TypeIPv6 {
		place |= placeV6
	}
	k[0] = uint64(in.SrcMAC)<<16 | uint64(in.VLAN)
	k[1] = uint64(in.DstMAC)<<16 | uint64(in.InnerVLAN)
	k[2] = uint64(in.SrcPort)<<48 | uint64(in.DstPort|in.ICMPTypeCode)<<32 | uint64(in.Proto)<<24 | place<<placeShift
	k[3] = uint64(f.Point) << 32
	k[4], k[5] = words(&in.Src)
	k[6], k[7] = words(&in.Dst)
	k[8] = uint64(in.Segment)
	if i == 0 || !tunnel {
		k[9], k[10], k[11], k[12] = 0, 0, 0, 0
		return
	}
	out := &p.Levels[i-1]
	k[2] |= uint64(in.TunnelType)<<8 | uint64(out.Proto)
	k[9], k[10] = words(&out.Src)
	k[11], k[12] = words(&out.Dst)
}

// setPorts gives the key of a fragment the ports of its packet, or the ICMP type and code.
func (k *key) setPorts(ports uint32) { k[2] = k[2]&0xffffffff | uint64(ports)<<32 }

func (k *key) ports() uint32 { return uint32(k[2] >> 32) }
func (k *key) proto() uint8  { return uint8(k[2] >> 24) }
func (k *key) point() uint32 { return uint32(k[3] >> 32) }
func (k *key) v6() bool      { return k[2]&(placeV6<<placeShift) != 0 }

func (k *key) dir() frame.Direction {
	if d := k[2] >> placeShift & dirMask; d != dirMask {
		return frame.Direction(d)
	}
	return frame.Unknown
}

// setLabel puts an MPLS label into the key: two VPNs may have the same addresses.
func (k *key) setLabel(label uint32) { k[8] |= uint64(label&labelMask) << 32 }

// put writes what the key says to a record.
func (k *key) put(r *flow.Record) {
	r.SrcMAC, r.VLAN = flow.MAC(k[0]>>16), uint16(k[0])
	r.DstMAC, r.InnerVLAN = flow.MAC(k[1]>>16), uint16(k[1])
	r.Proto, r.Direction, r.EtherType = k.proto(), uint8(k.dir()), wire.TypeIPv4
	if k.v6() {
		r.EtherType = wire.TypeIPv6
	}
	if icmp(r.Proto) {
		r.ICMPTypeCode = uint16(k[2] >> 32)
	} else {
		r.SrcPort, r.DstPort = uint16(k[2]>>48), uint16(k[2]>>32)
	}
	r.Src, r.Dst = addr(k[4], k[5]), addr(k[6], k[7])
	r.MPLS = uint32(k[8]>>32) & labelMask
	r.Segment = flow.Segment(k[8] &^ (labelMask << 32))
	r.Tunnel.Type, r.Tunnel.Proto = uint8(k[2]>>8), uint8(k[2])
	r.Tunnel.Src, r.Tunnel.Dst = addr(k[9], k[10]), addr(k[11], k[12])
}

func icmp(proto uint8) bool { return proto == wire.ProtoICMP || proto == wire.ProtoICMPv6 }

// reverse writes the key of the other direction. It returns false for a packet that has no answer of its own: an ICMP
// message that is neither request nor reply.
func (k *key) reverse(r *key) bool {
	const vlan = 0xffff
	r[0], r[1] = k[1]&^vlan|k[0]&vlan, k[0]&^vlan|k[1]&vlan
	ports := bits.RotateLeft32(k.ports(), 16)
	if icmp(k.proto()) {
		other, ok := answer(k.proto(), uint8(k[2]>>40))
		if !ok {
			return false
		}
		ports = uint32(other)<<8 | k.ports()&0xff
	}
	r[2] = uint64(ports)<<32 | k[2]&0xffffffff
	if k.dir() != frame.Unknown {
		r[2] ^= 1 << placeShift
	}
	r[3], r[8] = k[3], k[8]
	r[4], r[5], r[6], r[7] = k[6], k[7], k[4], k[5]
	r[9], r[10], r[11], r[12] = k[11], k[12], k[9], k[10]
	return true
}

// answer returns the ICMP type that answers another one, or that it answers.
func answer(proto, kind uint8) (uint8, bool) {
	pairs := answers4
	if proto == wire.ProtoICMPv6 {
		pairs = answers6
	}
	for _, p := range pairs {
		switch kind {
		case p[0]:
			return p[1], true
		case p[1]:
			return p[0], true
		}
	}
	return 0, false
}

// Requests and their replies: echo, router solicitation, time stamp, information, address mask (RFC 792, 1256, 950); echo,
// router and neighbour solicitation (RFC 4443, 4861).
var (
	answers4 = [][2]uint8{{8, 0}, {10, 9}, {13, 14}, {15, 16}, {17, 18}}
	answers6 = [][2]uint8{{128, 129}, {133, 134}, {135, 136}}
)

func words(a *flow.Addr) (uint64, uint64) {
	return binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])
}

func addr(hi, lo uint64) (a flow.Addr) {
	binary.LittleEndian.PutUint64(a[:8], hi)
	binary.LittleEndian.PutUint64(a[8:], lo)
	return a
}

// hasher hashes keys with secret numbers, so that nobody outside can aim at one slot of the table.
type hasher [14]uint64

func newHasher() (h hasher) {
	for i := range h {
		h[i] = rand.Uint64()
	}
	return h
}

// hash multiplies the words in pairs, which the processor does side by side. The words of a tunnel
// count only when there is one.
func (s *hasher) hash(k *key) uint64 {
	if k.brief() {
		return s.brief(k[0], k[1], k.briefPlace(), k.briefAddrs())
	}
	h := fold(k[0]^s[0], k[1]^s[1]) ^ fold(k[2]^s[2], k[3]^s[3])
	h ^= fold(k[4]^s[4], k[5]^s[5]) ^ fold(k[6]^s[6], k[7]^s[7])
	if k[9]|k[10] != 0 {
		h ^= fold(k[9]^s[9], k[10]^s[10]) ^ fold(k[11]^s[11], k[12]^s[12])
	}
	return fold(h^s[8], k[8]^s[13])
}

// pair hashes what both directions of a flow and all fragments of its packets have in common: the two addresses, whichever
// comes first, and the segment.
func (s *hasher) pair(k *key) uint64 {
	a, b := fold(k[4]^s[4], k[5]^s[5]), fold(k[6]^s[4], k[7]^s[5])
	return fold(a+b^s[6], k[8]<<32^s[7])
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
