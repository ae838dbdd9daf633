package dissect

import (
	"encoding/binary"
	"math/bits"

	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// plain reads the most frequent headers in one go: Ethernet, at most one 802.1Q tag, IPv4 without options or IPv6
// without extension headers, no fragment, TCP or UDP, all there and with lengths that fit; and behind VXLAN the same again. It
// stops in front of what is out of the ordinary and returns the kind of that header, KindNone at the end of what
// can be read. The readers of the single headers give the same result in twice the time: here the place reached is kept in
// registers, and fields that stand side by side are written in one piece. That is why it is one function.
func (w *walk) plain() Kind {
	const (
		tagged   = wire.EthernetLen + wire.VLANLen
		shortest = tagged + wire.IPv4Len + wire.UDPLen
		layers   = 5 // with the VXLAN header
	)
	if w.vlanOff {
		return KindEthernet
	}
	p, lv, data, at, stop := w.p, w.lv, w.data, w.off, w.wire
	k, count := KindEthernet, p.NLayers
	for {
		b := data[at:]
		if len(b) < shortest || count > MaxLayers-layers {
			break
		}
		eth := (*[shortest]byte)(b)
		n, t := wire.EthernetLen, wire.Ethernet(eth[:]).Type()
		if t == wire.TypeVLAN {
			n, t = tagged, wire.VLAN(eth[wire.EthernetLen:]).Type()
		}
		h := (*[wire.IPv4Len + wire.UDPLen]byte)(b[n:])
		var head, total int
		var proto uint8
		if t == wire.TypeIPv4 && h[0] == 0x45 && binary.BigEndian.Uint16(h[6:])&0x3fff == 0 { // 5 words, no fragment
			head, total, proto = wire.IPv4Len, int(wire.IPv4(h[:]).TotalLen()), wire.IPv4(h[:]).Protocol()
		} else if t == wire.TypeIPv6 && h[0]>>4 == 6 && len(b) >= n+wire.IPv6Len+wire.UDPLen {
			head, total, proto = wire.IPv6Len, wire.IPv6Len+int(wire.IPv6(h[:]).PayloadLen()), wire.IPv6(h[:]).NextHeader()
		} else {
			break
		}
		trans, size := n+head, wire.UDPLen
		if proto == wire.ProtoTCP && len(b) >= trans+wire.TCPLen {
			if size = wire.TCP(b[trans:]).HeaderLen(); size < wire.TCPLen {
				break
			}
		} else if proto != wire.ProtoUDP {
			break
		}
		end := trans + size
		if end > len(b) || end > n+total || at+n+total > stop {
			break
		}

		if w.linked || lv.HasIP {
			w.open()
			lv = w.lv
		}
		w.linked = true
		level := uint8(p.NLevels - 1)
		l := p.Layers[count:MaxLayers]
		l[0].set(KindEthernet, level, at, wire.EthernetLen)
		lv.DstMAC = flow.MAC(binary.BigEndian.Uint64(eth[:]) >> 16)
		lv.SrcMAC = flow.MAC(binary.BigEndian.Uint64(eth[6:]) >> 16)
		if l, count = l[1:], count+1; n == tagged {
			lv.VLAN = wire.VLAN(eth[wire.EthernetLen:]).ID()
			l[0].set(KindVLAN, level, at+wire.EthernetLen, wire.VLANLen)
			l, count = l[1:], count+1
		}
		lv.place(at, at+n, at+trans, at+end)
		lv.HasIP, lv.IPLen, lv.IPLen32 = true, uint16(min(total, 0xffff)), uint32(total)
		if head == wire.IPv4Len {
			l[0].set(KindIPv4, level, at+n, wire.IPv4Len)
			lv.addresses4(h[:])
			lv.fill4(h[:])
		} else {
			l[0].set(KindIPv6, level, at+n, wire.IPv6Len)
			lv.fill6(b[n:])
		}
		count += 2
		u := (*[wire.UDPLen]byte)(b[trans:])
		ports := bits.RotateLeft32(binary.BigEndian.Uint32(u[:]), 16)
		lv.SrcPort, lv.DstPort = uint16(ports), uint16(ports>>16)
		if proto == wire.ProtoTCP {
			l[1].set(KindTCP, level, at+trans, size)
			lv.TCPFlags = wire.TCP(b[trans:]).Flags()
			k = KindNone
			break
		}
		l[1].set(KindUDP, level, at+trans, size)
		if k = w.d.ports.kind(uint16(ports >> 16)); k == KindNone {
			break
		}

		stop = at + n + total
		if length := int(wire.UDP(u[:]).Length()); length >= wire.UDPLen {
			if trans+length <= n+total {
				stop = at + trans + length
			} else if !w.fragment {
				p.Issues |= Malformed
			}
		}
		if at += end; stop < len(data) {
			data = data[:max(stop, at)]
		}
		if k != KindVXLAN {
			break
		}
		v := wire.VXLAN(data[at:])
		if !v.Valid() {
			break
		}
		l[2].set(KindVXLAN, level, at, wire.VXLANLen)
		count++
		w.enclose(TunnelVXLAN, flow.NewSegment(flow.KindVXLAN, v.VNI()))
		k, at = KindEthernet, at+wire.VXLANLen
	}
	w.data, w.off, w.wire = data, at, stop
	p.NLayers = count
	return k
}

// set writes a layer, its first three fields in one piece.
func (l *Layer) set(k Kind, level uint8, off, n int) {
	v := uint32(k) | uint32(level)<<8 | uint32(off)<<16
	l.Kind, l.Level, l.Off, l.Len = Kind(v), uint8(v>>8), uint16(v>>16), uint16(n)
}

// place writes the offsets of the headers in one piece.
func (f *Flow) place(link, net, trans, payload int) {
	v := uint64(uint16(net)) | uint64(uint16(trans))<<16 | uint64(uint16(payload))<<32 | uint64(link)<<48
	f.NetOff, f.TransOff, f.PayloadOff, f.LinkOff = uint16(v), uint16(v>>16), uint16(v>>32), uint16(v>>48)
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
