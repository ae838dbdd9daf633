package dissect

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// plain reads the most frequent headers in one go: Ethernet, at most one 802.1Q tag, IPv4 without options or IPv6
// without extension headers, no fragment, TCP or UDP, all there and with lengths that fit. The readers of the single headers give the
// same result in twice the time. When anything is out of the ordinary it reports false and has changed nothing.
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
	h := b[n:]
	switch {
	case t == wire.TypeIPv4 && h[0] == 0x45 && binary.BigEndian.Uint16(h[6:])&0x3fff == 0: // 5 words, no fragment
		head, total, proto = wire.IPv4Len, int(wire.IPv4(h).TotalLen()), wire.IPv4(h).Protocol()
	case t == wire.TypeIPv6 && h[0]>>4 == 6 && len(h) >= wire.IPv6Len+wire.UDPLen:
		head, total, proto = wire.IPv6Len, wire.IPv6Len+int(wire.IPv6(h).PayloadLen()), wire.IPv6(h).NextHeader()
	default:
		return KindNone, false
	}
	k, size := KindUDP, wire.UDPLen
	if proto == wire.ProtoTCP && len(h) >= head+wire.TCPLen {
		k, size = KindTCP, wire.TCP(h[head:]).HeaderLen()
	} else if proto != wire.ProtoUDP {
		return KindNone, false
	}
	end := head + size
	if k == KindTCP && size < wire.TCPLen || end > len(h) || end > total || w.off+n+total > w.wire {
		return KindNone, false
	}
	return w.take(b, n, head, size, total, k), true
}

// take records what plain has found in b: n bytes of link header, an IP header of head bytes in a packet of total bytes, and
// a transport header of kind k and size bytes. It returns the tunnel behind it.
func (w *walk) take(b []byte, n, head, size, total int, k Kind) Kind {
	if w.linked || w.lv.HasIP {
		w.open()
	}
	w.linked = true
	lv, off := w.lv, w.off
	lv.LinkOff, lv.NetOff, lv.HasIP = uint16(off), uint16(off+n), true
	lv.DstMAC = flow.MAC(binary.BigEndian.Uint64(b) >> 16)
	lv.SrcMAC = flow.MAC(binary.BigEndian.Uint64(b[6:]) >> 16)
	lv.IPLen, lv.IPLen32 = uint16(min(total, 0xffff)), uint32(total)
	h := b[n:]
	kind := KindIPv4
	if head == wire.IPv4Len {
		h4 := wire.IPv4(h[:wire.IPv4Len])
		lv.addresses4(h4)
		lv.fill4(h4)
	} else {
		kind = KindIPv6
		lv.fill6(h)
	}
	p, level := w.p, uint8(w.p.NLevels-1)
	l := p.Layers[p.NLayers:][:4] // plain has looked
	l[0] = Layer{KindEthernet, level, uint16(off), wire.EthernetLen}
	i := 1
	if n > wire.EthernetLen {
		lv.VLAN = wire.VLAN(b[wire.EthernetLen:]).ID()
		l[1] = Layer{KindVLAN, level, uint16(off + wire.EthernetLen), wire.VLANLen}
		i = 2
	}
	l[i] = Layer{kind, level, uint16(off + n), uint16(head)}
	l[i+1] = Layer{k, level, uint16(off + n + head), uint16(size)}
	p.NLayers += i + 2
	h = h[head:]
	ports := binary.BigEndian.Uint32(h)
	lv.SrcPort, lv.DstPort = uint16(ports>>16), uint16(ports)
	lv.TransOff, lv.PayloadOff = uint16(off+n+head), uint16(off+n+head+size)
	if k == KindTCP {
		lv.TCPFlags = wire.TCP(h).Flags()
		return KindNone
	}
	tunnel := w.d.ports.kind(lv.DstPort)
	if tunnel != KindNone { // otherwise nothing is read behind
		w.limit(off + n + total)
		if length := int(wire.UDP(h).Length()); length >= wire.UDPLen {
			w.limit(off + n + head + length)
		}
		w.off = off + n + head + size
	}
	return tunnel
}

// addresses4 takes the addresses of an IPv4 header.
func (f *Flow) addresses4(h wire.IPv4) {
	putV4(&f.Src, h.Src())
	putV4(&f.Dst, h.Dst())
}

// fill4 takes the other fields of an IPv4 header but for lengths and fragmentation.
func (f *Flow) fill4(h wire.IPv4) {
	f.EtherType = wire.TypeIPv4
	f.ToS, f.TTL, f.Proto, f.IPID = h.ToS(), h.TTL(), h.Protocol(), uint32(h.ID())
}

// fill6 takes the fields of an IPv6 header but for the length.
func (f *Flow) fill6(h wire.IPv6) {
	h = h[:wire.IPv6Len]
	f.EtherType = wire.TypeIPv6
	copy(f.Src[:], h.Src())
	copy(f.Dst[:], h.Dst())
	f.ToS, f.TTL, f.Proto = h.TrafficClass(), h.HopLimit(), h.NextHeader()
}
