package dissect

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// plain reads the most frequent headers in one go: Ethernet, at most one 802.1Q tag, IPv4 without options or IPv6
// without extension headers, no fragment, TCP or UDP, all there and with lengths that fit. The readers of the single headers give the
// same result for about twice the time. When anything is out of the ordinary it reports false and has changed nothing.
func (w *walk) plain() (Kind, bool) {
	const tagged = wire.EthernetLen + wire.VLANLen
	b := w.rest()
	if len(b) < tagged+wire.IPv4Len+wire.UDPLen || w.p.NLayers > MaxLayers-4 || w.vlanOff {
		return KindNone, false
	}
	n, t := wire.EthernetLen, wire.Ethernet(b).Type()
	if t == wire.TypeVLAN {
		n, t = tagged, wire.VLAN(b[wire.EthernetLen:]).Type()
	}
	var head, total int
	var proto uint8
	switch t {
	case wire.TypeIPv4:
		h := wire.IPv4(b[n:])
		head, total, proto = wire.IPv4Len, int(h.TotalLen()), h.Protocol()
		if h[0] != 0x45 || h.MoreFragments() || h.FragOff() != 0 {
			return KindNone, false
		}
	case wire.TypeIPv6:
		h := wire.IPv6(b[n:])
		head, total, proto = wire.IPv6Len, wire.IPv6Len+int(h.PayloadLen()), h.NextHeader()
		if h.Version() != 6 {
			return KindNone, false
		}
	default:
		return KindNone, false
	}
	k, size := plainTransport(b[min(n+head, len(b)):], proto, total-head)
	if k == KindNone || w.off+n+total > w.wire {
		return KindNone, false
	}
	w.plainLink(b, n)
	w.plainNetwork(b[n:], t, total)
	return w.plainEnd(b[n+head:], k, size), true
}

// plainTransport returns the kind and the length of a whole TCP or UDP header at the start of b, in a packet
// that has room bytes for it and its data.
func plainTransport(b []byte, proto uint8, room int) (Kind, int) {
	k, n := KindUDP, wire.UDPLen
	switch {
	case proto == wire.ProtoTCP && len(b) >= wire.TCPLen:
		if k, n = KindTCP, wire.TCP(b).HeaderLen(); n < wire.TCPLen {
			return KindNone, 0
		}
	case proto != wire.ProtoUDP:
		return KindNone, 0
	}
	if n > len(b) || n > room {
		return KindNone, 0
	}
	return k, n
}

// plainLink takes an Ethernet header and its tag, n bytes together.
func (w *walk) plainLink(b []byte, n int) {
	w.link()
	lv, h := w.lv, wire.Ethernet(b)
	lv.LinkOff = uint16(w.off)
	lv.DstMAC, lv.SrcMAC = flow.MACFrom(h.Dst()), flow.MACFrom(h.Src())
	w.push(KindEthernet, wire.EthernetLen)
	if n > wire.EthernetLen {
		lv.VLAN = wire.VLAN(b[wire.EthernetLen:]).ID()
		w.push(KindVLAN, wire.VLANLen)
		w.tags = 1
	}
}

// plainNetwork takes an IP header of the shortest kind.
func (w *walk) plainNetwork(b []byte, t uint16, total int) {
	lv := w.lv
	lv.HasIP, lv.NetOff, lv.EtherType = true, uint16(w.off), t
	lv.IPLen, lv.IPLen32 = uint16(min(total, 0xffff)), uint32(total)
	w.limit(w.off + total)
	if t == wire.TypeIPv4 {
		h := wire.IPv4(b[:wire.IPv4Len])
		putV4(&lv.Src, h.Src())
		putV4(&lv.Dst, h.Dst())
		lv.ToS, lv.TTL, lv.Proto, lv.IPID = h.ToS(), h.TTL(), h.Protocol(), uint32(h.ID())
		w.push(KindIPv4, wire.IPv4Len)
		return
	}
	h := wire.IPv6(b[:wire.IPv6Len])
	copy(lv.Src[:], h.Src())
	copy(lv.Dst[:], h.Dst())
	lv.ToS, lv.TTL, lv.Proto = h.TrafficClass(), h.HopLimit(), h.NextHeader()
	w.push(KindIPv6, wire.IPv6Len)
}

// plainEnd takes a transport header of kind k and n bytes and returns the tunnel behind it.
func (w *walk) plainEnd(b []byte, k Kind, n int) Kind {
	lv := w.lv
	ports := binary.BigEndian.Uint32(b)
	lv.SrcPort, lv.DstPort = uint16(ports>>16), uint16(ports)
	lv.TransOff, lv.PayloadOff = uint16(w.off), uint16(w.off+n)
	tunnel := KindNone
	if k == KindTCP {
		lv.TCPFlags = wire.TCP(b).Flags()
	} else if tunnel = w.d.ports.kind(lv.DstPort); tunnel != KindNone {
		if length := int(wire.UDP(b).Length()); length >= wire.UDPLen {
			w.limit(w.off + length)
		}
	}
	w.push(k, n)
	return tunnel
}
