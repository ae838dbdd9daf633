package dissect

import (
	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// ethernet reads an Ethernet header. One inside another packet begins a level of its own.
func (w *walk) ethernet() Kind {
	h := wire.Ethernet(w.rest())
	if !h.Valid() {
		return w.short(KindEthernet, wire.EthernetLen)
	}
	w.link()
	w.lv.LinkOff = uint16(w.off)
	w.lv.DstMAC = flow.MACFrom(h.Dst())
	w.lv.SrcMAC = flow.MACFrom(h.Src())
	w.push(KindEthernet, wire.EthernetLen)
	return w.typed(h.Type())
}

// link begins the link header of a level: of the present one if it has nothing yet, or of a new one.
func (w *walk) link() {
	if w.linked || w.lv.HasIP {
		w.open()
	}
	w.linked = true
	if w.vlanOff {
		w.lv.VLAN, w.vlanOff, w.tags = w.vlanID, false, 1
	}
}

// begin makes sure that what follows is below the network layer of its level.
func (w *walk) begin() {
	if w.lv.HasIP {
		w.open()
	}
}

// typed takes the EtherType of the level's own link header, or the length in its place.
func (w *walk) typed(t uint16) Kind {
	if t < wire.MinType {
		return w.length(t)
	}
	w.lv.EtherType = t
	return w.under(t)
}

// length takes an IEEE 802.3 length: what is behind is padding, and LLC follows.
func (w *walk) length(n uint16) Kind {
	if n > wire.MaxLength {
		w.p.Issues |= Malformed
		return KindNone
	}
	w.limit(w.off + int(n))
	return KindLLC
}

// under returns the kind of header an EtherType stands for.
func (w *walk) under(t uint16) Kind {
	if t == wire.TypeIPv4 {
		return KindIPv4
	}
	k := known(t)
	if k == KindNone {
		return w.unsupported()
	}
	return k
}

// known returns the kind of header an EtherType stands for, KindNone when it has no reader here.
func known(t uint16) Kind {
	switch t {
	case wire.TypeIPv4:
		return KindIPv4
	case wire.TypeIPv6:
		return KindIPv6
	case wire.TypeVLAN, wire.TypeSVLAN, wire.TypeQinQ, wire.TypeQinQ2:
		return KindVLAN
	case wire.TypeARP, wire.TypeRARP:
		return KindARP
	case wire.TypeMPLS, wire.TypeMPLSMulti:
		return KindMPLS
	case wire.TypePPPoE, wire.TypePPPoEDisc:
		return KindPPPoE
	case wire.TypeVNTag:
		return KindVNTag
	case wire.TypeETag:
		return KindETag
	case wire.TypePBB:
		return KindPBB
	case wire.TypeNSH:
		return KindNSH
	case wire.TypeTEB:
		return KindEthernet
	case wire.TypePPP:
		return KindPPP
	}
	return KindNone
}

// llc reads an LLC header; only SNAP and the old IP service access point lead further.
func (w *walk) llc() Kind {
	h := wire.LLC(w.rest())
	if !h.Valid() || len(h) < h.Len() {
		return w.short(KindLLC, wire.LLCLen)
	}
	const rawIPX, sapIP = 0xff, 0x06 // a checksum of all ones in place of LLC: Novell's own use of 802.3
	if h.DSAP() == rawIPX && h.SSAP() == rawIPX {
		return w.unsupported()
	}
	w.push(KindLLC, h.Len())
	switch {
	case h.SNAP():
		return KindSNAP
	case h.DSAP() == sapIP && h.SSAP() == sapIP && h.Control() == 3:
		return KindIPv4
	}
	return w.unsupported()
}

func (w *walk) snap() Kind {
	h := wire.SNAP(w.rest())
	if !h.Valid() {
		return w.short(KindSNAP, wire.SNAPLen)
	}
	w.push(KindSNAP, wire.SNAPLen)
	if oui := h.OUI(); (oui == 0 || oui == 0x0000f8) && h.Protocol() >= wire.MinType {
		return w.typed(h.Protocol())
	}
	return w.unsupported()
}

func (w *walk) arp() Kind {
	h := wire.ARP(w.rest())
	if len(h) < wire.ARPLen {
		return w.short(KindARP, wire.ARPLen)
	}
	if !h.Valid() {
		return w.short(KindARP, h.Len())
	}
	w.begin()
	if w.lv.EtherType == 0 {
		w.lv.EtherType = wire.TypeARP
	}
	w.push(KindARP, h.Len())
	return KindNone
}

// raw looks at the version of a bare IP packet.
func (w *walk) raw() Kind {
	b := w.rest()
	if len(b) == 0 {
		return w.short(KindRaw, 1)
	}
	switch b[0] >> 4 {
	case 4:
		return KindIPv4
	case 6:
		return KindIPv6
	}
	return w.unsupported()
}
