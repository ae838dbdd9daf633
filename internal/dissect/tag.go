package dissect

import "crosstap/internal/wire"

func (w *walk) vlan() Kind {
	h := wire.VLAN(w.rest())
	if !h.Valid() {
		return w.short(KindVLAN, wire.VLANLen)
	}
	w.begin()
	switch w.tags {
	case 0:
		w.lv.VLAN = h.ID()
	case 1:
		w.lv.InnerVLAN = h.ID()
	}
	w.tags++
	w.push(KindVLAN, wire.VLANLen)
	return w.typed(h.Type())
}

func (w *walk) vnTag() Kind {
	h := wire.VNTag(w.rest())
	if !h.Valid() {
		return w.short(KindVNTag, wire.VNTagLen)
	}
	w.begin()
	w.push(KindVNTag, wire.VNTagLen)
	return w.typed(h.Type())
}

func (w *walk) eTag() Kind {
	h := wire.ETag(w.rest())
	if !h.Valid() {
		return w.short(KindETag, wire.ETagLen)
	}
	w.begin()
	w.push(KindETag, wire.ETagLen)
	return w.typed(h.Type())
}

// pbb reads an I-TAG; the customer's frame behind it is a level of its own.
func (w *walk) pbb() Kind {
	h := wire.ITag(w.rest())
	if !h.Valid() {
		return w.short(KindPBB, wire.ITagLen)
	}
	w.push(KindPBB, wire.ITagLen)
	return KindEthernet
}

// mpls reads one label stack entry.
func (w *walk) mpls() Kind {
	h := wire.MPLS(w.rest())
	if !h.Valid() {
		return w.short(KindMPLS, wire.MPLSLen)
	}
	w.push(KindMPLS, wire.MPLSLen)
	if !h.Bottom() {
		return KindMPLS
	}
	return w.labelled()
}

// labelled guesses what follows a label stack, which names nothing, as routers do for load balancing
// (RFC 4928, section 2): by the first four bits. Addresses of Ethernet begin with any: a type that is known behind them says more than a length of IP that
// does not fit, or than a control word, which would have the same place in the middle of the source address.
func (w *walk) labelled() Kind {
	b := w.rest()
	if len(b) == 0 {
		return w.short(KindNone, 1)
	}
	version := b[0] >> 4
	if version != 4 && version != 6 || !w.fits(b) {
		if typedEthernet(b) {
			return KindEthernet
		}
	}
	switch version {
	case 4:
		return KindIPv4
	case 6:
		return KindIPv6
	case 0:
		if !w.looksEthernet(b, wire.ControlWordLen) && w.looksEthernet(b, 0) {
			return KindEthernet
		}
		return KindControlWord
	case 1: // associated channel (RFC 5586): operation of the path
		return w.unsupported()
	}
	if w.looksEthernet(b, 0) {
		return KindEthernet
	}
	return w.unsupported()
}

// fits reports whether the length of an IP header at b, as far as it is there, can be right: what is behind it is padding.
func (w *walk) fits(b []byte) bool {
	const padding = 46 // an empty frame's
	room := w.wire - w.off
	if b[0]>>4 == 6 {
		if len(b) < wire.IPv6Len {
			return true
		}
		n := int(wire.IPv6(b).PayloadLen())
		left := room - wire.IPv6Len - n
		return left >= 0 && left <= padding || n == 0
	}
	if len(b) < wire.IPv4Len {
		return true
	}
	h := wire.IPv4(b)
	total := int(h.TotalLen())
	left := room - total
	return h.HeaderLen() >= wire.IPv4Len && (total >= h.HeaderLen() && left >= 0 && left <= padding || total == 0 && room > 0xffff)
}

// typedEthernet reports whether an Ethernet header at b has a type with a reader, and IP behind it the version that this says.
func typedEthernet(b []byte) bool {
	if len(b) < wire.EthernetLen {
		return false
	}
	t, version := wire.Ethernet(b).Type(), byte(0)
	switch t {
	case wire.TypeIPv4:
		version = 4
	case wire.TypeIPv6:
		version = 6
	default:
		return t >= wire.MinType && known(t) != KindNone
	}
	return len(b) == wire.EthernetLen || b[wire.EthernetLen]>>4 == version
}

// looksEthernet reports whether an Ethernet header at b[off:] would have a type with a reader, or a length that fits.
func (w *walk) looksEthernet(b []byte, off int) bool {
	if len(b) < off+wire.EthernetLen {
		return false
	}
	t := wire.Ethernet(b[off:]).Type()
	if t < wire.MinType {
		return t >= wire.LLCLen && off+wire.EthernetLen+int(t) <= w.wire-w.off
	}
	return known(t) != KindNone
}

// controlWord reads the control word of an Ethernet pseudowire. Its length counts only with the Ethernet header behind it there:
// of a frame cut before that nobody knows that there is a control word.
func (w *walk) controlWord() Kind {
	h := wire.ControlWord(w.rest())
	if !h.Valid() {
		return w.short(KindControlWord, wire.ControlWordLen)
	}
	const least = wire.ControlWordLen + wire.EthernetLen
	if n := h.Length(); n >= least && len(w.rest()) >= least {
		w.limit(w.off + n)
	}
	w.push(KindControlWord, wire.ControlWordLen)
	return KindEthernet
}
