package dissect

import "crosstap/internal/wire"

// pppoe reads a PPPoE header; only the session stage leads further.
func (w *walk) pppoe() Kind {
	h := wire.PPPoE(w.rest())
	if len(h) < wire.PPPoELen {
		return w.short(KindPPPoE, wire.PPPoELen)
	}
	if !h.Valid() {
		return w.malformed(KindPPPoE, wire.PPPoELen)
	}
	w.limit(w.off + wire.PPPoELen + int(h.Length()))
	w.push(KindPPPoE, wire.PPPoELen)
	if h.Code() == 0 && w.lv.EtherType == wire.TypePPPoE {
		return KindPPP
	}
	return KindNone
}

func (w *walk) ppp() Kind {
	h := wire.PPP(w.rest())
	n := h.Len()
	if n == 0 {
		return w.short(KindPPP, len(h)+1)
	}
	w.push(KindPPP, n)
	switch h.Protocol() {
	case wire.PPPIPv4:
		return KindIPv4
	case wire.PPPIPv6:
		return KindIPv6
	case wire.PPPMPLS, wire.PPPMPLSMulti:
		return KindMPLS
	}
	return w.unsupported()
}
