package decode

import (
	"math"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// dissector reads the packet headers that exporters send along, with the usual ports of the tunnels.
var dissector = dissect.New(dissect.Config{})

// Header fills a record from the start of a packet: addresses, ports and flags of the innermost IP header, tags, and the tunnel around
// it. data are the bytes that came, origLen the length that the packet had. What p is left with can be looked at. Octets
// are not touched; length is the IP total length, 0 when there is no IP header.
func Header(p *dissect.Packet, r *flow.Record, link frame.LinkType, data []byte, origLen int) (length int) {
	dissector.Dissect(p, link, data, max(origLen, len(data)))
	i := p.NLevels - 1
	for i > 0 && !p.Levels[i].HasIP {
		i--
	}
	in := &p.Levels[max(i, 0)]
	if !in.HasIP {
		in = p.Inner()
		i = p.NLevels - 1
	}
	inner(r, in)
	if i > 0 {
		out := &p.Levels[i-1]
		r.Tunnel = flow.Tunnel{Src: out.Src, Dst: out.Dst, SrcPort: out.SrcPort, DstPort: out.DstPort, Proto: out.Proto, Type: in.TunnelType}
	}
	r.MPLS = label(p, i, data)
	if p.Issues&dissect.Truncated != 0 && in.TransOff == 0 && in.Proto != 0 {
		r.Marks |= flow.MarkTruncated
	}
	return int(in.IPLen32)
}

// inner takes over what one level says.
func inner(r *flow.Record, in *dissect.Flow) {
	r.SrcMAC, r.DstMAC, r.Src, r.Dst = in.SrcMAC, in.DstMAC, in.Src, in.Dst
	r.EtherType, r.VLAN, r.InnerVLAN, r.Segment = in.EtherType, in.VLAN, in.InnerVLAN, in.Segment
	if !in.HasIP {
		return
	}
	r.Proto, r.ToS, r.MinTTL, r.MaxTTL = in.Proto, in.ToS, in.TTL, in.TTL
	r.SrcPort, r.DstPort, r.ICMPTypeCode, r.TCPFlags = in.SrcPort, in.DstPort, in.ICMPTypeCode, in.TCPFlags
	n := uint16(min(in.IPLen32, math.MaxUint16))
	r.MinLen, r.MaxLen = n, n
	if in.FragOff != 0 || in.MoreFrags {
		r.Fragments = 1
		r.Marks |= flow.MarkFragments
	}
}

// label returns the label on top of the stack that stands before the IP header of level i.
func label(p *dissect.Packet, i int, data []byte) uint32 {
	for _, l := range p.Layers[:p.NLayers] {
		if l.Kind == dissect.KindMPLS && int(l.Level) == i && int(l.Off)+wire.MPLSLen <= len(data) {
			return wire.MPLS(data[l.Off:]).Label()
		}
	}
	return 0
}
