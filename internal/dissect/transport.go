package dissect

import (
	"crosstap/internal/wire"
)

func (w *walk) tcp() Kind {
	h := wire.TCP(w.rest())
	if !h.Valid() {
		return w.cutPorts(KindTCP, wire.TCPLen)
	}
	lv := w.lv
	lv.SrcPort, lv.DstPort, lv.TCPFlags = h.SrcPort(), h.DstPort(), h.Flags()
	n := h.HeaderLen()
	if n < wire.TCPLen {
		return w.malformed(KindTCP, wire.TCPLen)
	}
	if n > len(h) {
		return w.short(KindTCP, n)
	}
	w.push(KindTCP, n)
	lv.PayloadOff = uint16(w.off)
	return KindNone
}

// cutPorts ends at a transport header of kind k that is not all there, and keeps what can be read of it.
func (w *walk) cutPorts(k Kind, n int) Kind {
	const flagsEnd = 14
	b := w.rest()
	if len(b) >= 4 {
		w.lv.SrcPort, w.lv.DstPort = wire.UDP(b).SrcPort(), wire.UDP(b).DstPort()
	}
	if k == KindTCP && len(b) >= flagsEnd {
		w.lv.TCPFlags = wire.TCP(b).Flags()
	}
	return w.short(k, n)
}

// udp reads a UDP header and, on a tunnel's destination port, goes on inside.
func (w *walk) udp() Kind {
	h := wire.UDP(w.rest())
	if !h.Valid() {
		return w.cutPorts(KindUDP, wire.UDPLen)
	}
	lv, dst := w.lv, h.DstPort()
	lv.SrcPort, lv.DstPort = h.SrcPort(), dst
	lv.PayloadOff = uint16(w.off + wire.UDPLen)
	k := w.d.ports.kind(dst)
	if k != KindNone && h.Length() >= wire.UDPLen {
		w.limit(w.off + int(h.Length()))
	}
	w.push(KindUDP, wire.UDPLen)
	return k
}

// ports reads the ports of a protocol that has them where UDP has.
func (w *walk) ports(k Kind) Kind {
	h := wire.UDP(w.rest())
	if !h.Valid() {
		return w.cutPorts(k, wire.UDPLen)
	}
	w.lv.SrcPort, w.lv.DstPort = h.SrcPort(), h.DstPort()
	n := wire.UDPLen
	if k == KindDCCP {
		const dataOffset = 4 // in 4-byte units, RFC 4340, section 5.1
		if n = int(h[dataOffset]) * 4; n < 12 {
			return w.malformed(k, 12)
		}
	}
	if n > len(h) {
		return w.short(k, n)
	}
	w.push(k, n)
	w.lv.PayloadOff = uint16(w.off)
	return KindNone
}

func (w *walk) sctp() Kind {
	h := wire.SCTP(w.rest())
	if !h.Valid() {
		return w.cutPorts(KindSCTP, wire.SCTPLen)
	}
	w.lv.SrcPort, w.lv.DstPort = h.SrcPort(), h.DstPort()
	w.push(KindSCTP, wire.SCTPLen)
	w.lv.PayloadOff = uint16(w.off)
	return KindNone
}

func (w *walk) icmp(k Kind) Kind {
	h := wire.ICMP(w.rest())
	if len(h) >= 2 {
		w.lv.ICMPTypeCode = h.TypeCode()
	}
	if !h.Valid() {
		return w.short(k, wire.ICMPLen)
	}
	w.push(k, wire.ICMPLen)
	w.lv.PayloadOff = uint16(w.off)
	return KindNone
}

func (w *walk) esp() Kind {
	h := wire.ESP(w.rest())
	if !h.Valid() {
		return w.short(KindESP, wire.ESPLen)
	}
	w.push(KindESP, wire.ESPLen)
	w.lv.PayloadOff = uint16(w.off)
	return KindNone
}
