package netflow9

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
)

// shape is what decides the template of a record.
type shape struct {
	net, transport     uint8
	macs, sampled, app bool
	rare               bool // inner VLAN, label
}

// What a record has above the network layer.
const (
	bare = iota
	ports
	icmp
	tcp
)

func shapeOf(r *flow.Record) shape {
	s := shape{
		net: family(r.Src, r.Dst), macs: r.SrcMAC|r.DstMAC != 0, sampled: r.Sampling > 1,
		app: r.AppHow != flow.AppUnknown, rare: r.InnerVLAN != 0 || r.MPLS != 0,
	}
	switch {
	case s.net == 0:
	case r.Proto == 1 || r.Proto == 58:
		s.transport = icmp
	case r.Proto == 6:
		s.transport = tcp
	case r.SrcPort|r.DstPort != 0 || r.Proto == 17 || r.Proto == 132:
		s.transport = ports
	}
	return s
}

func family(a, b flow.Addr) uint8 {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.Is4() || b.Is4() && a.IsZero():
		return 4
	}
	return 6
}

// id returns the template identifier, the same in every run.
func (s shape) id() uint16 {
	n := uint16(s.net/2)<<2 | uint16(s.transport)
	for _, b := range []bool{s.macs, s.sampled, s.app, s.rare} {
		n <<= 1
		if b {
			n++
		}
	}
	return firstDataSet + n
}

// column is one field of a template.
type column struct {
	id, n uint16
	put   func(b []byte, r *flow.Record) []byte
}

// The columns behind the two times.
var (
	counters = []column{
		{2, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.Packets) }},
		{1, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.Octets) }},
		{352, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.L2Octets) }},
		{10, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.InIf) }},
		{14, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.OutIf) }},
		{61, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.Direction) }},
		{136, 1, func(b []byte, r *flow.Record) []byte { return append(b, byte(r.EndReason)) }},
		{256, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.EtherType) }},
		{58, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.VLAN) }},
		{351, 8, func(b []byte, r *flow.Record) []byte { return put64(b, uint64(r.Segment)) }},
	}
	network = []column{
		{4, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.Proto) }},
		{5, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.ToS) }},
		{25, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.MinLen) }},
		{26, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.MaxLen) }},
		{52, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.MinTTL) }},
		{53, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.MaxTTL) }},
	}
	addresses4 = []column{
		{8, 4, func(b []byte, r *flow.Record) []byte { return append(b, r.Src[12:]...) }},
		{12, 4, func(b []byte, r *flow.Record) []byte { return append(b, r.Dst[12:]...) }},
	}
	addresses6 = []column{
		{27, 16, func(b []byte, r *flow.Record) []byte { return append(b, r.Src[:]...) }},
		{28, 16, func(b []byte, r *flow.Record) []byte { return append(b, r.Dst[:]...) }},
	}
	transportPorts = []column{
		{7, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.SrcPort) }},
		{11, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.DstPort) }},
	}
	flags  = column{6, 1, func(b []byte, r *flow.Record) []byte { return append(b, byte(r.TCPFlags)) }}
	icmpV4 = column{32, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.ICMPTypeCode) }}
	icmpV6 = column{139, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.ICMPTypeCode) }}
	link   = []column{
		{56, 6, func(b []byte, r *flow.Record) []byte { return putMAC(b, r.SrcMAC) }},
		{80, 6, func(b []byte, r *flow.Record) []byte { return putMAC(b, r.DstMAC) }},
	}
	sampled = column{34, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.Sampling) }}
	layer2  = []column{
		{245, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.InnerVLAN) }},
		{70, 3, func(b []byte, r *flow.Record) []byte { return putLabel(b, r.MPLS) }},
	}
	application = column{95, 4, putApplication}
)

// columns returns the fields of a shape behind the times.
func (s shape) columns() []column {
	c := append([]column(nil), counters...)
	if s.macs {
		c = append(c, link...)
	}
	if s.sampled {
		c = append(c, sampled)
	}
	switch s.net {
	case 4:
		c = append(append(c, network...), addresses4...)
	case 6:
		c = append(append(c, network...), addresses6...)
	}
	switch {
	case s.transport == icmp && s.net == 4:
		c = append(c, icmpV4)
	case s.transport == icmp:
		c = append(c, icmpV6)
	case s.transport != bare:
		c = append(c, transportPorts...)
	}
	if s.transport == tcp {
		c = append(c, flags)
	}
	if s.rare {
		c = append(c, layer2...)
	}
	if s.app {
		c = append(c, application)
	}
	return c
}

func put16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func putMAC(b []byte, m flow.MAC) []byte { return put32(put16(b, uint16(m>>32)), uint32(m)) }

// putLabel writes MPLS_LABEL_1: label, no class, bottom of the stack; zero for none.
func putLabel(b []byte, label uint32) []byte {
	v := label<<4 | 1
	if label == 0 {
		v = 0
	}
	return append(b, byte(v>>16), byte(v>>8), byte(v))
}

// putApplication writes APPLICATION_ID; the options table tells the names.
func putApplication(b []byte, r *flow.Record) []byte { return put32(b, about.ApplicationID(r)) }
