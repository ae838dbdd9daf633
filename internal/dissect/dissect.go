package dissect

import (
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// maxOffset is the greatest offset a Layer holds. MaxLayers headers of any kind end far before it; what
// a frame has beyond is payload.
const maxOffset = 0xffff

// Dissector dissects frames by one configuration. It has no state: any number of goroutines may use it at
// once, each with its own Packet.
type Dissector struct {
	ports portTable
	nvgre bool
}

// New returns a dissector for c.
func New(c Config) *Dissector {
	return &Dissector{ports: newPortTable(c), nvgre: c.NVGRE}
}

// Dissect fills p with the layers of a frame of link type link. data are the bytes captured, which it borrows
// until it returns; origLen is the length the frame had, len(data) when nothing was cut.
func (d *Dissector) Dissect(p *Packet, link frame.LinkType, data []byte, origLen int) {
	var w walk
	w.start(d, p, data, origLen)
	for k := w.first(link); k != KindNone; {
		if k == KindEthernet {
			if k = w.plain(); k == KindNone {
				return
			}
		}
		if p.NLayers == MaxLayers {
			p.Issues |= Deep
			return
		}
		k = w.step(k)
	}
}

// walk is one dissection under way: the place it has reached and what the next level will be.
type walk struct {
	d        *Dissector
	p        *Packet
	lv       *Flow  // the level being filled
	data     []byte // captured bytes up to the end of the packet around off
	off      int    // where the next header begins; never beyond len(data)
	wire     int    // end of the packet around off, had the frame not been cut
	captured int    // len(data) at the start
	seg      flow.Segment
	tunnel   uint8
	tags     uint8  // VLAN tags seen at this level
	vlanID   uint16 // the VLAN that ERSPAN took off the frame to come
	vlanOff  bool   // vlanID is such a VLAN
	linked   bool   // the level has a link header
	fragment bool   // a packet around off is a first fragment: lengths inside may exceed it
}

// start empties p and begins at the frame's start, in the first level.
func (w *walk) start(d *Dissector, p *Packet, data []byte, origLen int) {
	w.d, w.p, w.wire = d, p, max(origLen, len(data))
	w.data = data[:min(len(data), maxOffset)]
	w.captured = len(w.data)
	p.NLayers, p.NLevels, p.Issues = 0, 1, 0
	p.Levels[0] = Flow{}
	w.lv = &p.Levels[0]
}

// first returns the kind of the frame's first header.
func (w *walk) first(link frame.LinkType) Kind {
	if link == frame.LinkEthernet {
		return KindEthernet
	}
	switch link {
	case frame.LinkSLL:
		return KindSLL
	case frame.LinkSLL2:
		return KindSLL2
	case frame.LinkNull, frame.LinkLoop:
		return KindNull
	case frame.LinkRaw:
		return KindRaw
	case frame.LinkIPv4:
		return KindIPv4
	case frame.LinkIPv6:
		return KindIPv6
	}
	return w.unsupported()
}

// step reads one header of kind k and returns the kind of the next, KindNone when there is none.
func (w *walk) step(k Kind) Kind {
	switch k {
	case KindEthernet:
		return w.ethernet()
	case KindVXLAN:
		return w.vxlan()
	case KindVLAN:
		return w.vlan()
	case KindARP:
		return w.arp()
	case KindIPv4:
		return w.ipv4()
	case KindIPv6:
		return w.ipv6()
	case KindHopByHop, KindRouting, KindDestOpts, KindMobility, KindHIP, KindShim6:
		return w.extension(k)
	case KindFragment:
		return w.fragmentHeader()
	case KindTCP:
		return w.tcp()
	case KindUDP:
		return w.udp()
	case KindUDPLite, KindDCCP:
		return w.ports(k)
	case KindSCTP:
		return w.sctp()
	case KindICMP, KindICMPv6:
		return w.icmp(k)
	case KindAH:
		return w.authentication()
	case KindESP:
		return w.esp()
	case KindGRE:
		return w.gre()
	case KindERSPAN1:
		return KindEthernet
	case KindERSPAN2, KindERSPAN3:
		return w.erspan(k)
	case KindEtherIP:
		return w.etherIP()
	}
	return w.stepRare(k)
}

// stepRare is step for tunnels over UDP, tags and the links that are not Ethernet.
func (w *walk) stepRare(k Kind) Kind {
	switch k {
	case KindVXLANGPE:
		return w.vxlanGPE()
	case KindGeneve:
		return w.geneve()
	case KindNSH:
		return w.nsh()
	case KindGTPU:
		return w.gtpu()
	case KindTZSP:
		return w.tzsp()
	case KindVNTag:
		return w.vnTag()
	case KindETag:
		return w.eTag()
	case KindPBB:
		return w.pbb()
	case KindMPLS:
		return w.mpls()
	case KindControlWord:
		return w.controlWord()
	case KindPPPoE:
		return w.pppoe()
	case KindPPP:
		return w.ppp()
	case KindLLC:
		return w.llc()
	case KindSNAP:
		return w.snap()
	case KindNull:
		return w.null()
	case KindSLL:
		return w.sll()
	case KindSLL2:
		return w.sll2()
	case KindRaw:
		return w.raw()
	}
	return w.unsupported()
}

// open begins the next level of encapsulation. Beyond MaxLevels it reuses the last one.
func (w *walk) open() {
	i := min(w.p.NLevels, MaxLevels-1)
	w.p.NLevels = i + 1
	lv := &w.p.Levels[i]
	*lv = Flow{}
	lv.Segment, lv.TunnelType = w.seg, w.tunnel
	w.lv, w.seg, w.tunnel, w.tags, w.linked = lv, 0, 0, 0, false
}

// enclose says what the encapsulation around the next level is.
func (w *walk) enclose(tunnel uint8, seg flow.Segment) { w.tunnel, w.seg = tunnel, seg }

// rest returns the bytes from the next header to the end of the packet around it.
func (w *walk) rest() []byte { return w.data[w.off:] }

// push records a layer of n bytes, all of them there, and moves behind it.
func (w *walk) push(k Kind, n int) {
	l := &w.p.Layers[w.p.NLayers]
	l.Kind, l.Level, l.Off, l.Len = k, uint8(w.p.NLevels-1), uint16(w.off), uint16(n)
	w.p.NLayers++
	w.off += n
}

// short ends the dissection at a header of kind k that needs n bytes and has fewer.
func (w *walk) short(k Kind, n int) Kind {
	if w.off+n > w.captured || w.fragment {
		w.p.Issues |= Truncated
	} else {
		w.p.Issues |= Malformed
	}
	if have := len(w.data) - w.off; have > 0 {
		w.push(k, have)
	}
	return KindNone
}

// malformed ends the dissection at a header of kind k of which n bytes can be read.
func (w *walk) malformed(k Kind, n int) Kind {
	if n = min(n, len(w.data)-w.off); n > 0 {
		w.push(k, n)
	}
	w.p.Issues |= Malformed
	return KindNone
}

// unsupported ends the dissection at something that has no reader here.
func (w *walk) unsupported() Kind {
	w.p.Issues |= Unsupported
	return KindNone
}

// limit sets the end of the packet around off, as its own header gives it: what stands behind is
// padding or a trailer. A packet longer than the one around it is malformed, unless that one is a fragment.
func (w *walk) limit(end int) {
	if end > w.wire {
		if !w.fragment {
			w.p.Issues |= Malformed
		}
		return
	}
	w.wire = end
	if end < len(w.data) {
		w.data = w.data[:max(end, w.off)]
	}
}
