package netflow9

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/encode"
)

// shape is what decides the template of a record.
type shape struct {
	net                uint8 // 0 not IP, 4 or 6
	transport          encode.Transport
	macs, sampled, app bool
	rare               bool // inner VLAN, label
}

func shapeOf(r *flow.Record) shape {
	s := shape{
		net: encode.Family(r.Src, r.Dst), macs: r.SrcMAC|r.DstMAC != 0, sampled: r.Sampling > 1,
		app: r.AppHow != flow.AppUnknown, rare: r.InnerVLAN != 0 || r.MPLS != 0,
	}
	s.transport = encode.TransportOf(r, s.net)
	return s
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
		{56, 6, func(b []byte, r *flow.Record) []byte { return encode.PutMAC(b, r.SrcMAC) }},
		{80, 6, func(b []byte, r *flow.Record) []byte { return encode.PutMAC(b, r.DstMAC) }},
	}
	sampled = column{34, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.Sampling) }}
	layer2  = []column{
		{245, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.InnerVLAN) }},
		{70, 3, encode.PutLabel},
	}
	application = column{95, 4, encode.PutApplication}
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
	case s.transport == encode.ICMP && s.net == 4:
		c = append(c, icmpV4)
	case s.transport == encode.ICMP:
		c = append(c, icmpV6)
	case s.transport != encode.Bare:
		c = append(c, transportPorts...)
	}
	if s.transport == encode.TCP {
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
