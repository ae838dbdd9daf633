package groom

import (
	"encoding/binary"

	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// length returns what a header says of the bytes from its own start to the end of its packet, and whether it
// says anything: 0 in a length field means that it does not.
func length(b []byte, l dissect.Layer) (int, bool) {
	h := b[l.Off:]
	if len(h) < 8 {
		return 0, false // cut short
	}
	switch l.Kind {
	case dissect.KindIPv4:
		n := int(wire.IPv4(h).TotalLen())
		return n, n != 0
	case dissect.KindIPv6:
		n := int(wire.IPv6(h).PayloadLen())
		return n + wire.IPv6Len, n != 0
	case dissect.KindUDP:
		n := int(wire.UDP(h).Length())
		return n, n >= wire.UDPLen
	case dissect.KindGTPU:
		return wire.GTPULen + int(wire.GTPU(h).Length()), true
	case dissect.KindPPPoE:
		return wire.PPPoELen + int(wire.PPPoE(h).Length()), true
	case dissect.KindControlWord:
		n := wire.ControlWord(h).Length()
		return n, n != 0
	case dissect.KindLLC: // the length field ends the header in front
		if l.Off < 2 {
			return 0, false
		}
		n := binary.BigEndian.Uint16(b[l.Off-2:])
		return int(n), n < wire.MinType
	case dissect.KindGRE:
		if g := wire.GRE(h); g.Version() == 1 && g.HasKey() {
			return int(l.Len) + int(g.Key()>>16), true
		}
	}
	return 0, false
}

// setLength writes what length reads.
func setLength(b []byte, l dissect.Layer, n int) {
	h := b[l.Off:]
	switch l.Kind {
	case dissect.KindIPv4:
		wire.IPv4(h).SetTotalLen(uint16(n))
	case dissect.KindIPv6:
		wire.IPv6(h).SetPayloadLen(uint16(n - wire.IPv6Len))
	case dissect.KindUDP:
		wire.UDP(h).SetLength(uint16(n))
	case dissect.KindGTPU:
		binary.BigEndian.PutUint16(h[2:], uint16(n-wire.GTPULen))
	case dissect.KindPPPoE:
		wire.PPPoE(h).SetLength(uint16(n - wire.PPPoELen))
	case dissect.KindControlWord:
		const most = 63 // longer ones say 0 (RFC 4385, section 3)
		if n > most {
			n = 0
		}
		h[1] = h[1]&0xc0 | byte(n)
	case dissect.KindLLC:
		binary.BigEndian.PutUint16(b[l.Off-2:], uint16(n))
	case dissect.KindGRE:
		binary.BigEndian.PutUint16(h[wire.GRELen:], uint16(n-int(l.Len)))
	}
}

// covered is a header with a checksum: where the checksum stands and what it covers.
type covered struct {
	at    int    // offset of the checksum in the frame
	start int    // what is covered begins here
	stop  int    // and ends here
	init  uint16 // sum of the pseudo-header
	udp   bool   // 0 means that there is none, and a sum of 0 is sent as 0xffff
}

// checksum describes the checksum of layer i, if it has one of the Internet kind. ip is the index of the IP layer
// that it belongs to, -1 for none; total is the length of the frame on the wire.
func checksum(b []byte, ls []dissect.Layer, i, ip, total int) (covered, bool) {
	l := ls[i]
	h := b[l.Off:]
	c := covered{start: int(l.Off), stop: total}
	switch l.Kind {
	case dissect.KindIPv4:
		c.at, c.stop = c.start+10, end(l)
		return c, int(l.Len) >= wire.IPv4Len && int(l.Len) == wire.IPv4(h).HeaderLen()
	case dissect.KindGRE, dissect.KindNVGRE:
		c.at = c.start + wire.GRELen
		return c, l.Len >= 8 && wire.GRE(h).HasChecksum() && greEnd(b, ls, i, ip, &c.stop)
	case dissect.KindTCP:
		c.at = c.start + 16
		return c, int(l.Len) >= wire.TCPLen && pseudo(b, ls, i, ip, wire.ProtoTCP, &c)
	case dissect.KindUDP:
		c.at, c.udp = c.start+6, true
		return c, int(l.Len) == wire.UDPLen && pseudo(b, ls, i, ip, wire.ProtoUDP, &c)
	case dissect.KindICMPv6:
		c.at = c.start + 2
		return c, int(l.Len) >= 4 && pseudo(b, ls, i, ip, wire.ProtoICMPv6, &c)
	case dissect.KindICMP:
		c.at = c.start + 2
		return c, int(l.Len) >= 4 && ip >= 0 && ipEnd(b, ls[ip], &c.stop)
	}
	return covered{}, false
}

// ipEnd lowers stop to the end of a packet, as its header of IP or UDP gives it.
func ipEnd(b []byte, ip dissect.Layer, stop *int) bool {
	if n, ok := length(b, ip); ok {
		*stop = min(*stop, int(ip.Off)+n)
	}
	return true
}

// greEnd lowers stop to the end of what GRE carries: in IP, or in UDP (RFC 8086).
func greEnd(b []byte, ls []dissect.Layer, i, ip int, stop *int) bool {
	if ip >= 0 {
		return ipEnd(b, ls[ip], stop)
	}
	return i > 0 && ls[i-1].Kind == dissect.KindUDP && ipEnd(b, ls[i-1], stop)
}

// pseudo fills in the pseudo-header of a transport header. It reports false for what has no checksum that can be
// followed: without its IP header, and a fragment, whose checksum is over all of them.
func pseudo(b []byte, ls []dissect.Layer, i, ip int, proto uint8, c *covered) bool {
	if ip < 0 {
		return false
	}
	ipEnd(b, ls[ip], &c.stop)
	if n, ok := length(b, ls[i]); ok && c.udp {
		c.stop = min(c.stop, c.start+n)
	}
	h := b[ls[ip].Off:]
	n := max(c.stop-c.start, 0)
	if ls[ip].Kind == dissect.KindIPv4 {
		v4 := wire.IPv4(h)
		if v4.MoreFragments() || v4.FragOff() != 0 {
			return false
		}
		c.init = wire.PseudoSum(v4.Src(), v4.Dst(), proto, n)
		return true
	}
	dst := wire.IPv6(h).Dst()
	for _, l := range ls[ip+1 : i] {
		switch x := b[l.Off:]; l.Kind {
		case dissect.KindFragment:
			if f := wire.IPv6Fragment(x); f.MoreFragments() || f.FragOff() != 0 {
				return false
			}
		case dissect.KindRouting:
			if r := wire.IPv6Ext(x); r.SegmentsLeft() > 0 {
				if dst = finalDestination(x[:l.Len]); dst == nil {
					return false
				}
			}
		}
	}
	c.init = wire.PseudoSum(wire.IPv6(h).Src(), dst, proto, n)
	return true
}

// finalDestination returns the address in a routing header that the packet is meant for (RFC 8200, section 8.1), nil when
// it cannot be read.
func finalDestination(h wire.IPv6Ext) []byte {
	list := routes(h)
	switch {
	case len(list) == 0:
		return nil
	case h.RoutingType() == segmentRouting: // listed from the last to the first (RFC 8754, section 2)
		return list[:16]
	}
	return list[len(list)-16:]
}

const segmentRouting = 4

// routes returns the addresses that a routing header lists, in whole.
func routes(h wire.IPv6Ext) []byte {
	const first = 8
	if !h.Valid() || h.Len() > len(h) {
		return nil
	}
	n := (h.Len() - first) / 16
	switch h.RoutingType() {
	case 0, 2:
	case segmentRouting:
		n = min(n, int(h[4])+1) // TLVs follow
	default:
		return nil
	}
	return h[first : first+16*n]
}

// network returns the index of the IP layer that layer i stands on, -1 for none.
func network(ls []dissect.Layer, i int) int {
	for i--; i >= 0; i-- {
		switch ls[i].Kind {
		case dissect.KindIPv4, dissect.KindIPv6:
			return i
		case dissect.KindHopByHop, dissect.KindRouting, dissect.KindFragment, dissect.KindDestOpts, dissect.KindAH,
			dissect.KindMobility, dissect.KindHIP, dissect.KindShim6:
		default:
			return -1
		}
	}
	return -1
}

// compute writes the checksums of the given layers anew, from the innermost outwards. A UDP checksum of 0 stays, as nobody
// computed one. It reports false when one could not be computed because bytes of the frame are missing.
func compute(b []byte, ls []dissect.Layer, total int) bool {
	whole := true
	for i := len(ls) - 1; i >= 0; i-- {
		c, ok := checksum(b, ls, i, network(ls, i), total)
		if !ok || c.udp && get(b, c.at) == 0 {
			continue
		}
		if c.stop > len(b) {
			whole = false
			continue
		}
		binary.BigEndian.PutUint16(b[c.at:], 0)
		put(b, c, wire.ChecksumWith(c.init, b[c.start:c.stop]))
	}
	return whole
}

// follow changes the checksums of a frame after bytes that they cover have changed: each by the difference, from the
// innermost outwards, so that one that was wrong stays wrong. before are the frame's bytes and layers as they were, after
// and now those as they are; layer i of now was layer was(i) of before. An error of the network must not look like ours,
// or be healed.
func follow(before []byte, old []dissect.Layer, oldTotal int, after []byte, now []dissect.Layer, total int, was func(int) int) {
	for i := len(now) - 1; i >= 0; i-- {
		j := was(i)
		o, ok := checksum(before, old, j, network(old, j), oldTotal)
		if !ok || o.udp && get(before, o.at) == 0 {
			continue
		}
		n, ok := checksum(after, now, i, network(now, i), total)
		if !ok {
			continue
		}
		s := sumOver(before, o)
		t := sumOver(after, n)
		put(after, n, ^add(add(^get(before, o.at), ^s), t))
	}
}

// sumOver sums what a checksum covers, as far as it is there, without the checksum.
func sumOver(b []byte, c covered) uint16 {
	stop := max(min(c.stop, len(b)), c.start)
	s := ^wire.ChecksumWith(c.init, b[c.start:stop])
	return add(s, ^get(b, c.at))
}

// add is the one's complement sum.
func add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s + s>>16)
}

func get(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }

func put(b []byte, c covered, sum uint16) {
	if c.udp && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[c.at:], sum)
}
