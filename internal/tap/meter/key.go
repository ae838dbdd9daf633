package meter

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// key is the metering key (design, section 4) in 64-bit words, so that it is compared and hashed without a
// look at its parts:
//
//	0  source MAC << 16 | VLAN
//	1  destination MAC << 16 | inner VLAN
//	2  source port << 48 | destination port << 32 | protocol << 24 | direction << 16 | tunnel type << 8 | tunnel's IP protocol
//	3  observation point << 32 | ICMP type and code << 16 | ethertype
//	4  source address, 6 destination address, 8 segment, 9 and 11 the tunnel's addresses
type key [13]uint64

// keyOf writes the key of the packet at level i of a frame.
func keyOf(k *key, f *frame.Frame, p *dissect.Packet, i int) {
	in := &p.Levels[i]
	k[0] = uint64(in.SrcMAC)<<16 | uint64(in.VLAN)
	k[1] = uint64(in.DstMAC)<<16 | uint64(in.InnerVLAN)
	k[2] = uint64(in.SrcPort)<<48 | uint64(in.DstPort)<<32 | uint64(in.Proto)<<24 | uint64(f.Dir)<<16
	k[3] = uint64(f.Point)<<32 | uint64(in.ICMPTypeCode)<<16 | uint64(in.EtherType)
	k[4], k[5] = words(&in.Src)
	k[6], k[7] = words(&in.Dst)
	k[8] = uint64(in.Segment)
	if i == 0 {
		k[9], k[10], k[11], k[12] = 0, 0, 0, 0
		return
	}
	out := &p.Levels[i-1]
	k[2] |= uint64(in.TunnelType)<<8 | uint64(out.Proto)
	k[9], k[10] = words(&out.Src)
	k[11], k[12] = words(&out.Dst)
}

// setPorts gives the key of a fragment the ports of its packet.
func (k *key) setPorts(ports uint32, icmp uint16) {
	k[2] = k[2]&0xffffffff | uint64(ports)<<32
	k[3] = k[3]&^0xffff0000 | uint64(icmp)<<16
}

func (k *key) ports() uint32 { return uint32(k[2] >> 32) }
func (k *key) icmp() uint16  { return uint16(k[3] >> 16) }
func (k *key) proto() uint8  { return uint8(k[2] >> 24) }
func (k *key) point() uint32 { return uint32(k[3] >> 32) }

// put writes what the key says to a record.
func (k *key) put(r *flow.Record) {
	r.SrcMAC, r.VLAN = flow.MAC(k[0]>>16), uint16(k[0])
	r.DstMAC = flow.MAC(k[1] >> 16)
	r.SrcPort, r.DstPort = uint16(k[2]>>48), uint16(k[2]>>32)
	r.Proto, r.Direction = k.proto(), uint8(k[2]>>16)
	r.ICMPTypeCode, r.EtherType = k.icmp(), uint16(k[3])
	r.Src, r.Dst = addr(k[4], k[5]), addr(k[6], k[7])
	r.Segment = flow.Segment(k[8])
	r.Tunnel.Type, r.Tunnel.Proto = uint8(k[2]>>8), uint8(k[2])
	r.Tunnel.Src, r.Tunnel.Dst = addr(k[9], k[10]), addr(k[11], k[12])
}

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
	h := fold(k[0]^s[0], k[1]^s[1]) ^ fold(k[2]^s[2], k[3]^s[3])
	h ^= fold(k[4]^s[4], k[5]^s[5]) ^ fold(k[6]^s[6], k[7]^s[7])
	if k[9]|k[10] != 0 {
		h ^= fold(k[9]^s[9], k[10]^s[10]) ^ fold(k[11]^s[11], k[12]^s[12])
	}
	return fold(h^s[8], k[8]^s[13])
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
