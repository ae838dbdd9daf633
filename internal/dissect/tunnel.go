package dissect

import (
	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

func (w *walk) vxlan() Kind {
	h := wire.VXLAN(w.rest())
	if len(h) < wire.VXLANLen {
		return w.short(KindVXLAN, wire.VXLANLen)
	}
	if !h.Valid() {
		return w.malformed(KindVXLAN, wire.VXLANLen)
	}
	w.enclose(TunnelVXLAN, flow.NewSegment(flow.KindVXLAN, h.VNI()))
	w.push(KindVXLAN, wire.VXLANLen)
	return KindEthernet
}

// vxlanGPE reads a VXLAN header with the generic protocol extension; the VNI may be absent.
func (w *walk) vxlanGPE() Kind {
	h := wire.VXLAN(w.rest())
	if len(h) < wire.VXLANLen {
		return w.short(KindVXLANGPE, wire.VXLANLen)
	}
	if h.GPEVersion() != 0 {
		return w.malformed(KindVXLANGPE, wire.VXLANLen)
	}
	var seg flow.Segment
	if h.Valid() {
		seg = flow.NewSegment(flow.KindVXLAN, h.VNI())
	}
	w.enclose(TunnelVXLAN, seg)
	w.push(KindVXLANGPE, wire.VXLANLen)
	return w.nextProtocol(h.GPENext())
}

// nextProtocol takes a next protocol as VXLAN-GPE and NSH number it.
func (w *walk) nextProtocol(number uint8) Kind {
	switch number {
	case wire.GPEIPv4:
		return KindIPv4
	case wire.GPEIPv6:
		return KindIPv6
	case wire.GPEEthernet:
		return KindEthernet
	case wire.GPENSH:
		return KindNSH
	case wire.GPEMPLS:
		return KindMPLS
	}
	return w.unsupported()
}

func (w *walk) geneve() Kind {
	h := wire.Geneve(w.rest())
	if len(h) < wire.GeneveLen {
		return w.short(KindGeneve, wire.GeneveLen)
	}
	if !h.Valid() {
		return w.malformed(KindGeneve, wire.GeneveLen)
	}
	if h.Len() > len(h) {
		return w.short(KindGeneve, h.Len())
	}
	w.enclose(TunnelGeneve, flow.NewSegment(flow.KindGeneve, h.VNI()))
	w.push(KindGeneve, h.Len())
	return w.under(h.Protocol())
}

func (w *walk) nsh() Kind {
	h := wire.NSH(w.rest())
	if len(h) < wire.NSHLen {
		return w.short(KindNSH, wire.NSHLen)
	}
	if !h.Valid() {
		return w.malformed(KindNSH, wire.NSHLen)
	}
	if h.Len() > len(h) {
		return w.short(KindNSH, h.Len())
	}
	w.push(KindNSH, h.Len())
	return w.nextProtocol(h.Next())
}

// gtpu reads a GTP-U header; only a user's packet leads further.
func (w *walk) gtpu() Kind {
	h := wire.GTPU(w.rest())
	if len(h) < wire.GTPULen {
		return w.short(KindGTPU, wire.GTPULen)
	}
	n := 0
	if h.Valid() {
		w.limit(w.off + wire.GTPULen + int(h.Length()))
		h = w.rest()
		n = h.Len()
	}
	switch {
	case n == 0:
		return w.malformed(KindGTPU, wire.GTPULen)
	case n > len(h):
		return w.short(KindGTPU, n)
	}
	w.push(KindGTPU, n)
	if h.Type() == wire.GTPUPacket {
		return KindRaw
	}
	return KindNone
}

// tzsp reads a TZSP header; only a received or transmitted Ethernet frame leads further.
func (w *walk) tzsp() Kind {
	h := wire.TZSP(w.rest())
	if len(h) < wire.TZSPLen {
		return w.short(KindTZSP, wire.TZSPLen)
	}
	if !h.Valid() {
		return w.malformed(KindTZSP, wire.TZSPLen)
	}
	if h.Type() > wire.TZSPTransmit {
		w.push(KindTZSP, wire.TZSPLen)
		return KindNone
	}
	if h.Len() > len(h) {
		return w.short(KindTZSP, h.Len())
	}
	w.push(KindTZSP, h.Len())
	if h.Protocol() == wire.TZSPEthernet {
		return KindEthernet
	}
	return w.unsupported()
}

func (w *walk) etherIP() Kind {
	const length, version = 2, 3 // RFC 3378, section 3
	b := w.rest()
	if len(b) < length {
		return w.short(KindEtherIP, length)
	}
	if b[0]>>4 != version {
		return w.malformed(KindEtherIP, length)
	}
	w.push(KindEtherIP, length)
	return KindEthernet
}
