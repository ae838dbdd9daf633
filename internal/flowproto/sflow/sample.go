package sflow

import (
	"strconv"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/frame"
)

// The kinds of sample; enterprise 0.
const (
	sampleFlow         = 1
	sampleCounters     = 2
	sampleFlowExpanded = 3
	sampleCountersExp  = 4
	sampleDiscarded    = 5
)

// The structures of a packet that fill a record; enterprise 0.
const (
	recordHeader    = 1
	recordPortName  = 1005 // beside counters
	recordEthernet  = 2
	recordIPv4      = 3
	recordIPv6      = 4
	recordSwitch    = 1001
	recordMPLS      = 1006
	recordVLANStack = 1012
	recordL2Out     = 1021 // from here on odd numbers are of the packet as it leaves, even ones as it came
	recordIPv6In    = 1026
	recordDecapOut  = 1027
	recordDecapIn   = 1028
	recordVNIOut    = 1029
	recordVNIIn     = 1030
	recordTimestamp = 1043
)

// walk is one sample under way.
type walk struct {
	s      *Session
	info   Info
	recvNS int64
	off    int // of the sample's body in the datagram
	c      cursor
	class  uint32 // of the source
	index  uint32

	r       flow.Record
	packet  dissect.Packet
	header  []byte // the sampled header
	origLen int
	tunnel  [2]outside // as it leaves, as it came
	dropped bool

	showing bool
	values  []decode.Value
}

// outside is what the tunnel structures say of one direction.
type outside struct {
	tunnel flow.Tunnel
	vni    uint32
	hasVNI bool
	decap  int
}

func (w *walk) sample(format uint32) {
	w.showing = w.s.Showing()
	switch format {
	case sampleFlow, sampleFlowExpanded:
		w.flowSample(format == sampleFlowExpanded)
	case sampleCounters, sampleCountersExp:
		w.counterSample(format == sampleCountersExp)
	case sampleDiscarded:
		w.discarded()
	default:
		w.s.Problem(decode.UnknownSet, uint16(format), w.off, 0, 0)
	}
	if w.c.bad {
		w.s.Problem(decode.BadSample, uint16(format), w.off, w.c.off, len(w.c.b))
	}
}

// source reads the data source of a sample and follows its number.
func (w *walk) source(sequence uint32, expanded bool, kind uint8) *account {
	if expanded {
		w.class, w.index = w.c.u32(), w.c.u32()
	} else {
		id := w.c.u32()
		w.class, w.index = id>>24, id&0xffffff
	}
	if w.c.bad {
		return nil
	}
	return w.s.follow(source{w.info.Agent, w.info.SubAgent, w.class, w.index, kind}, sequence)
}

// The uses of an interface field; the upper two bits of the compact form.
const (
	ifIndex     = 0
	ifDiscarded = 1
	ifInternal  = 0x3fffffff
)

func (w *walk) port(expanded bool) (kind, value uint32) {
	if expanded {
		return w.c.u32(), w.c.u32()
	}
	v := w.c.u32()
	return v >> 30, v & ifInternal
}

func (w *walk) flowSample(expanded bool) {
	sequence := w.c.u32()
	a := w.source(sequence, expanded, sampleFlow)
	rate, pool, drops := w.c.u32(), w.c.u32(), w.c.u32()
	inKind, in := w.port(expanded)
	outKind, out := w.port(expanded)
	if w.c.bad {
		return
	}
	w.s.drop(a, drops)
	w.begin()
	at := w.showSource("flow_sample", sequence, expanded)
	w.show("flow_sample", "sampling_rate", rate, at)
	w.show("flow_sample", "sample_pool", pool, at+4)
	w.show("flow_sample", "drops", drops, at+8)
	if expanded {
		w.show("flow_sample", "input", in, at+16)
		w.show("flow_sample", "output", out, at+24)
	} else {
		w.show("flow_sample", "input", in, at+12)
		w.show("flow_sample", "output", out, at+16)
	}
	r := &w.r
	r.Sampling, r.Packets = rate, 1
	if rate > 1 {
		r.Marks |= flow.MarkSampled
	}
	if inKind == ifIndex && in != ifInternal {
		r.InIf = in
	}
	switch {
	case outKind == ifIndex && out != ifInternal:
		r.OutIf = out
	case outKind == ifDiscarded:
		r.Extra = forwarding(out)
	}
	switch {
	case w.class == 0 && w.index == r.InIf:
		r.Direction = 0
	case w.class == 0 && w.index == r.OutIf:
		r.Direction = 1
	}
	w.records()
	w.finish(decode.KindRecord)
}

// discarded reads a packet that the switch threw away. It counts as no traffic: a flow sample may tell of it, too.
func (w *walk) discarded() {
	sequence := w.c.u32()
	a := w.source(sequence, true, sampleDiscarded)
	drops, in, out, reason := w.c.u32(), w.c.u32(), w.c.u32(), w.c.u32()
	if w.c.bad {
		return
	}
	w.s.drop(a, drops)
	w.begin()
	at := w.showSource("discarded_packet", sequence, true)
	w.show("discarded_packet", "drops", drops, at)
	w.show("discarded_packet", "inputifindex", in, at+4)
	w.show("discarded_packet", "outputifindex", out, at+8)
	w.show("discarded_packet", "reason", reason, at+12)
	w.dropped = true
	w.r.InIf, w.r.OutIf, w.r.Direction, w.r.Extra = in, out, 0, forwarding(reason)
	w.records()
	w.finish(decode.KindDiscard)
}

// forwarding tells why a packet was discarded as a record's Extra: element 89 (forwardingStatus), "dropped, unknown", and the
// reason of sFlow under its own enterprise number.
func forwarding(reason uint32) string {
	const hex = "0123456789abcdef"
	b := []byte("0.89=80 14706.5=0000")
	for i := range 4 {
		b[len(b)-1-i] = hex[reason>>(4*i)&15]
	}
	return string(b)
}

func (w *walk) begin() {
	w.r = flow.Record{
		StartNS: w.recvNS, EndNS: w.recvNS, RecvNS: w.recvNS, Domain: w.info.SubAgent,
		Point: uint64(w.class)<<24 | uint64(w.index), Direction: 255,
	}
}

// showSource tells the number and the source with which every sample begins, and returns where they end.
func (w *walk) showSource(block string, sequence uint32, expanded bool) int {
	index := 4
	if expanded {
		index = 8
	}
	w.show(block, "sequence_number", sequence, 0)
	w.show(block, "source_id_type", w.class, 4)
	w.show(block, "source_id_index", w.index, index)
	return index + 4
}

// records walks the structures of a sample.
func (w *walk) records() {
	n := int(w.c.u32())
	for range n {
		format, size := w.c.u32(), int(w.c.u32())
		at := w.c.off
		body := w.c.take(size)
		if w.c.bad {
			return
		}
		c := cursor{b: body}
		if w.showing {
			w.showStructure(flowStructures()[format], format, body, w.off+at)
		}
		w.record(format, &c)
		if c.bad {
			w.s.Problem(decode.BadRecord, uint16(format), w.off+at, c.off, size)
		}
	}
}

func (w *walk) record(format uint32, c *cursor) {
	switch {
	case format == recordHeader:
		w.sampledHeader(c)
	case format == recordEthernet:
		w.ethernet(c)
	case format == recordIPv4, format == recordIPv6:
		w.ip(c, format == recordIPv6)
	case format == recordSwitch:
		src, _, dst, _ := c.u32(), c.u32(), c.u32(), c.u32()
		if vlan := src; w.r.VLAN == 0 && (vlan != 0 || dst != 0) {
			if vlan == 0 || w.r.Direction == 1 && dst != 0 {
				vlan = dst
			}
			w.r.VLAN = uint16(vlan & 0xfff)
		}
	case format == recordVLANStack:
		if c.u32() > 0 {
			if outer := uint16(c.u32() & 0xfff); outer != w.r.VLAN {
				w.r.VLAN, w.r.InnerVLAN = outer, w.r.VLAN
			}
		}
	case format == recordMPLS:
		c.address()
		if c.u32() > 0 {
			w.r.MPLS = c.u32() >> 12
		}
	case format > recordL2Out && format <= recordIPv6In:
		w.outer(c, format)
	case format == recordDecapOut, format == recordDecapIn:
		w.tunnel[1-format&1].decap = int(c.u32())
	case format == recordVNIOut, format == recordVNIIn:
		t := &w.tunnel[1-format&1]
		t.vni, t.hasVNI = c.u32(), !c.bad
	case format == recordTimestamp:
		if ns := c.u64(); !c.bad && ns < 1<<63 {
			w.r.StartNS, w.r.EndNS = int64(ns), int64(ns)
		}
	}
}

// finish settles the tunnel and hands out the record.
func (w *walk) finish(kind decode.Kind) {
	if w.c.bad && w.header == nil && w.r.Src.IsZero() {
		return
	}
	w.settle()
	if w.dropped {
		w.r.Packets, w.r.Octets, w.r.L2Octets, w.r.Sampling = 0, 0, 0, 0
	}
	w.s.Sample(kind, w.item(kind), &w.r)
}

func (w *walk) item(kind decode.Kind) decode.Item {
	if !w.showing {
		return decode.Item{}
	}
	return decode.Item{
		Kind: kind, Protocol: decode.SFlow, Domain: w.info.SubAgent, Sequence: w.info.Sequence, Export: time.Unix(0, w.recvNS).UTC(),
		RecvNS: w.recvNS, Data: w.c.b, Offset: w.off, Values: w.values,
	}
}

// settle fills the tunnel from the structures where the sampled header has none. What came is preferred to what leaves.
func (w *walk) settle() {
	for i := len(w.tunnel) - 1; i >= 0; i-- {
		t := &w.tunnel[i]
		if t.decap > 0 && t.decap < len(w.header) && w.packet.NLevels == 1 {
			out := w.r
			decode.Header(&w.packet, &w.r, frame.LinkEthernet, w.header[t.decap:], w.origLen-t.decap)
			w.r.Octets = uint64(w.r.MaxLen)
			w.r.Tunnel = flow.Tunnel{Src: out.Src, Dst: out.Dst, SrcPort: out.SrcPort, DstPort: out.DstPort, Proto: out.Proto}
		}
		if w.r.Tunnel.Src.IsZero() && !t.tunnel.Src.IsZero() {
			w.r.Tunnel = t.tunnel
		}
		if w.r.Segment == 0 && t.hasVNI {
			w.r.Segment = decode.KeySegment(w.r.Tunnel, t.vni)
			w.r.Tunnel.Type = decode.TunnelType(w.r.Segment.Kind())
		}
	}
}

func structureName(format uint32) string {
	return strconv.Itoa(int(format>>12)) + "/" + strconv.Itoa(int(format&0xfff))
}
