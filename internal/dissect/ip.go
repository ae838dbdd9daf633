package dissect

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// ipv4 reads an IPv4 header. One inside another IP packet begins a level of its own.
func (w *walk) ipv4() Kind {
	h := wire.IPv4(w.rest())
	if len(h) < wire.IPv4Len {
		return w.short(KindIPv4, wire.IPv4Len)
	}
	if !h.Valid() {
		return w.malformed(KindIPv4, wire.IPv4Len)
	}
	lv := w.network()
	total := int(h.TotalLen())
	lv.IPLen = uint16(total)
	if total == 0 {
		total = w.wire - w.off
	}
	lv.IPLen32 = uint32(total)
	lv.addresses4(h)
	lv.fill4(h)
	lv.FragOff, lv.MoreFrags = h.FragOff(), h.MoreFragments()
	n := h.HeaderLen()
	if n > len(h) {
		return w.short(KindIPv4, n)
	}
	if total < n {
		return w.malformed(KindIPv4, n)
	}
	w.limit(w.off + total)
	w.push(KindIPv4, n)
	if lv.FragOff != 0 || lv.MoreFrags {
		if w.fragmented(); lv.FragOff != 0 {
			return KindNone
		}
	}
	return w.protocol(h.Protocol())
}

// putV4 writes an IPv4 address to a, which holds zeros, in one piece: the same as flow.V4 without a copy that
// waits for its own bytes.
func putV4(a *flow.Addr, b []byte) {
	binary.LittleEndian.PutUint64(a[8:], 0xffff0000|uint64(binary.LittleEndian.Uint32(b))<<32)
}

// network begins the network layer of a level: of the present one, or of a new one inside another IP packet.
func (w *walk) network() *Flow {
	if w.lv.HasIP {
		w.open()
	}
	lv := w.lv
	lv.HasIP, lv.NetOff = true, uint16(w.off)
	return lv
}

func (w *walk) fragmented() {
	w.fragment = true
	if w.lv.FragOff != 0 {
		w.p.Issues |= FragmentTail
	}
}

// ipv6 reads an IPv6 header. One inside another IP packet begins a level of its own.
func (w *walk) ipv6() Kind {
	h := wire.IPv6(w.rest())
	if len(h) < wire.IPv6Len {
		return w.short(KindIPv6, wire.IPv6Len)
	}
	if !h.Valid() {
		return w.malformed(KindIPv6, wire.IPv6Len)
	}
	lv := w.network()
	lv.fill6(h)
	total := int(h.PayloadLen()) + wire.IPv6Len
	if total == wire.IPv6Len {
		total = w.jumbo(h)
	}
	lv.IPLen, lv.IPLen32 = uint16(min(total, 0xffff)), uint32(total)
	w.limit(w.off + total)
	w.push(KindIPv6, wire.IPv6Len)
	return w.protocol(h.NextHeader())
}

// jumbo returns the total length of a packet whose payload length is 0: by its jumbo payload option (RFC 2675), or as much as the frame
// holds when it is a super-frame of segmentation offload, which carries no option. Otherwise the packet is as empty as it says.
func (w *walk) jumbo(h wire.IPv6) int {
	next, rest := h.NextHeader(), w.wire-w.off
	if next == wire.ProtoHopByHop {
		if ext := wire.IPv6Ext(h[wire.IPv6Len:]); ext.Valid() {
			if n := ext.Jumbo(); n > 0xffff && n < 1<<31 {
				return int(n) + wire.IPv6Len
			}
		}
	}
	if next == wire.ProtoTCP || next == wire.ProtoUDP || rest > 0xffff+wire.IPv6Len {
		return rest
	}
	return wire.IPv6Len
}

// extension reads an IPv6 extension header of the common shape.
func (w *walk) extension(k Kind) Kind {
	h := wire.IPv6Ext(w.rest())
	if !h.Valid() {
		return w.short(k, wire.IPv6ExtMin)
	}
	if h.Len() > len(h) {
		return w.short(k, h.Len())
	}
	w.push(k, h.Len())
	return w.protocol(h.NextHeader())
}

// authentication reads an AH, which stands between IP and the transport header in either version.
func (w *walk) authentication() Kind {
	h := wire.AH(w.rest())
	if !h.Valid() {
		return w.short(KindAH, wire.AHMin)
	}
	n := h.Len()
	if n < wire.AHMin {
		return w.malformed(KindAH, wire.AHMin)
	}
	if n > len(h) {
		return w.short(KindAH, n)
	}
	w.push(KindAH, n)
	return w.protocol(h.NextHeader())
}

func (w *walk) fragmentHeader() Kind {
	h := wire.IPv6Fragment(w.rest())
	if !h.Valid() {
		return w.short(KindFragment, wire.IPv6FragmentLen)
	}
	lv := w.lv
	lv.IPID, lv.FragOff, lv.MoreFrags = h.ID(), h.FragOff(), h.MoreFragments()
	w.push(KindFragment, wire.IPv6FragmentLen)
	if lv.FragOff != 0 || lv.MoreFrags {
		if w.fragmented(); lv.FragOff != 0 {
			lv.Proto = h.NextHeader()
			return KindNone
		}
	}
	return w.protocol(h.NextHeader())
}

// protocol takes the number of what follows an IP or extension header.
func (w *walk) protocol(number uint8) Kind {
	w.lv.Proto = number
	k := protocols[number]
	if k.extension() {
		if w.lv.EtherType == wire.TypeIPv6 || k == KindAH {
			return k
		}
		k = KindNone
	}
	if w.off < len(w.data) {
		w.lv.TransOff = uint16(w.off)
	}
	if k == KindNone && number != wire.ProtoNoNext {
		return w.unsupported()
	}
	return k
}

// protocols holds the kind of header each IP protocol number stands for.
var protocols = [256]Kind{
	wire.ProtoHopByHop: KindHopByHop, wire.ProtoICMP: KindICMP, wire.ProtoIPv4: KindIPv4, wire.ProtoTCP: KindTCP,
	wire.ProtoUDP: KindUDP, wire.ProtoDCCP: KindDCCP, wire.ProtoIPv6: KindIPv6, wire.ProtoRouting: KindRouting,
	wire.ProtoFragment: KindFragment, wire.ProtoICMPv6: KindICMPv6, wire.ProtoDestOpts: KindDestOpts,
	wire.ProtoSCTP: KindSCTP, wire.ProtoMobility: KindMobility, wire.ProtoUDPLite: KindUDPLite, wire.ProtoHIP: KindHIP,
	wire.ProtoShim6: KindShim6, wire.ProtoGRE: KindGRE, wire.ProtoESP: KindESP, wire.ProtoAH: KindAH,
	wire.ProtoEtherIP: KindEtherIP, wire.ProtoMPLS: KindMPLS, wire.ProtoEthernet: KindEthernet,
}
