package dissect

import (
	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// gre reads a GRE header with everything its flags announce.
func (w *walk) gre() Kind {
	h := wire.GRE(w.rest())
	if len(h) < wire.GRELen {
		return w.short(KindGRE, wire.GRELen)
	}
	if !h.Valid() {
		return w.malformed(KindGRE, wire.GRELen)
	}
	n := h.Len()
	if n > len(h) {
		return w.short(KindGRE, n)
	}
	k, seg := w.greKey(h)
	w.enclose(TunnelGRE, seg)
	w.push(k, n)
	return w.greProtocol(h, n)
}

// greKey returns what the key says: a segment in version 0, in PPTP only a call.
func (w *walk) greKey(h wire.GRE) (Kind, flow.Segment) {
	switch {
	case !h.HasKey() || h.Version() != 0:
		return KindGRE, 0
	case w.d.nvgre && h.Protocol() == wire.TypeTEB && !h.HasSeq() && !h.HasChecksum():
		return KindNVGRE, flow.NewSegment(flow.KindNVGRE, h.VSID())
	}
	return KindGRE, flow.NewSegment(flow.KindGRE, h.Key())
}

func (w *walk) greProtocol(h wire.GRE, n int) Kind {
	switch t := h.Protocol(); {
	case n == len(h) && w.off == w.wire: // a keepalive, or an acknowledgment of PPTP
		return KindNone
	case t == wire.TypeERSPAN && !h.HasSeq():
		return KindERSPAN1
	case t == wire.TypeERSPAN:
		return KindERSPAN2
	case t == wire.TypeERSPAN3:
		return KindERSPAN3
	default:
		return w.under(t)
	}
}

// erspan reads an ERSPAN header of type II or III, whichever its version names, and the platform
// sub-header as a part of it. k only says what to call one that is too short.
func (w *walk) erspan(k Kind) Kind {
	h := wire.ERSPAN(w.rest())
	if len(h) < wire.ERSPAN2Len {
		return w.short(k, wire.ERSPAN2Len)
	}
	switch h.Version() {
	case wire.ERSPANVersion2:
		k = KindERSPAN2
	case wire.ERSPANVersion3:
		k = KindERSPAN3
	default:
		return w.malformed(k, wire.ERSPAN2Len)
	}
	if !h.Valid() {
		return w.short(k, wire.ERSPAN3Len)
	}
	if h.Len() > len(h) {
		return w.short(k, h.Len())
	}
	w.push(k, h.Len())
	w.vlanOff = k == KindERSPAN2 && (h.Encap() == 1 || h.Encap() == 2)
	w.vlanID = h.VLAN()
	return w.erspanFrame(h)
}

// erspanFrame returns the kind of frame that was copied.
func (w *walk) erspanFrame(h wire.ERSPAN) Kind {
	if h.Version() == wire.ERSPANVersion2 {
		return KindEthernet
	}
	switch h.FrameType() {
	case wire.ERSPANFrameEthernet:
		return KindEthernet
	case wire.ERSPANFrameIP:
		return KindRaw
	case wire.ERSPANFrameTime:
		return KindNone
	}
	return w.unsupported()
}
