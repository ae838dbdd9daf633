package tunnel

import (
	"encoding/binary"
	"net/netip"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Outer is what a sink wraps its copies in, for whoever makes them in its place.
type Outer struct {
	Source, Tool netip.Addr
	Device       string // to send through, "" to follow the routes
	Protocol     uint8  // of the outer IP header
	Port         uint16 // of the tool, over UDP
	TTL, DSCP    int
	DontFragment bool
	Head         []byte // behind the UDP header, or behind the IP header
	Seq          int    // offset of the sequence number in Head, -1 for none
	ERSPAN       int    // offset of an ERSPAN header in Head, -1 for none
	Type3        bool   // that header is of type III; its time stamp, direction and port are still to be filled in
	Granularity  Granularity
	Index        uint32 // of a header of type II
	Fits         int    // most bytes of a frame that fit into one packet of the path
	Slice        bool   // frames that are longer are cut; else they do not leave
	Rate         uint64 // most bits each second, with their encapsulation; 0 for no bound
}

// Outer returns what the copies are wrapped in, and "" or why others cannot wrap them in the sink's place. Call it after Open.
func (s *Sink) Outer() (o Outer, why string) {
	t, r := &s.cfg.Target, s.Report()
	if why = t.OnlyHere(); why != "" {
		return o, why
	}
	o = Outer{
		Source: s.way.source.WithZone(""), Tool: s.way.tool.WithZone(""), Device: t.Device, Protocol: wire.ProtoGRE, Port: t.Port, TTL: t.TTL, DSCP: t.DSCP,
		DontFragment: t.MTU != Fragment, Head: append([]byte(nil), s.encap.head[:s.encap.n]...), Seq: -1, ERSPAN: -1, Index: t.Index, Fits: r.Fits, Slice: t.MTU == Slice, Rate: t.Rate,
	}
	if t.Kind.overUDP() {
		o.Protocol = wire.ProtoUDP
	}
	if s.encap.seqAt != 0 {
		o.Seq = s.encap.seqAt
	}
	if t.Kind == ERSPAN2 {
		o.ERSPAN = greSeqLen
		binary.BigEndian.PutUint32(o.Head[greSeqLen:], wire.ERSPANVersion2<<28|uint32(t.Session))
	}
	if t.Kind == ERSPAN3 {
		o.ERSPAN, o.Type3, o.Granularity = greSeqLen, true, t.Granularity
		s.encap.erspan3(o.Head[greSeqLen:], &frame.Frame{}, false)
	}
	if t.MTU == Fragment && r.Largest > r.Fits {
		return o, "long frames have to be fragmented: raise the MTU of the path, or give mtu=slice"
	}
	return o, ""
}

// minKernelRate is the least rate, in bits each second, that others than a Sink keep.
const minKernelRate = 1000

// OnlyHere says what of a target has to be done by a Sink; "" when others can make its copies.
func (t *Target) OnlyHere() string {
	switch {
	case t.Kind == Interface:
		return t.Kind.String() + " is made in user space"
	case t.Rate != 0 && t.Rate < minKernelRate:
		return "so low a rate is kept in user space"
	case t.Absent != Send:
		return "absent=" + absents[t.Absent] + " needs the tool's answers, which user space sees"
	}
	return ""
}
