package ipfix

import (
	"encoding/binary"
	"unicode/utf8"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/encode"
	"crosstap/internal/ie"
)

// column is one field of a template: how it is announced and how a record's value is appended.
type column struct {
	Field
	put  func(b []byte, r *flow.Record) []byte
	back bool // the value is of the reverse half of a biflow
}

func col(id, n uint16, put func([]byte, *flow.Record) []byte) column {
	return column{Field: field(0, id, n), put: put}
}

func vmw(id, n uint16, put func([]byte, *flow.Record) []byte) column {
	return column{Field: field(ie.VMware, id, n), put: put}
}

// The columns, by what they are for.
var (
	start = []column{
		col(152, 8, func(b []byte, r *flow.Record) []byte { return put64(b, unixMS(r.StartNS)) }),
		col(153, 8, func(b []byte, r *flow.Record) []byte { return put64(b, unixMS(r.EndNS)) }),
		col(2, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.Packets) }),
		col(1, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.Octets) }),
		col(352, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.L2Octets) }),
		col(138, 8, func(b []byte, r *flow.Record) []byte { return put64(b, r.Point) }),
		col(10, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.InIf) }),
		col(14, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.OutIf) }),
		col(61, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.Direction) }),
		endReason,
		col(239, 1, putClient),
		col(256, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.EtherType) }),
		col(58, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.VLAN) }),
	}
	endReason = col(136, 1, func(b []byte, r *flow.Record) []byte { return append(b, byte(r.EndReason)) })
	link      = []column{
		col(56, 6, func(b []byte, r *flow.Record) []byte { return encode.PutMAC(b, r.SrcMAC) }),
		col(80, 6, func(b []byte, r *flow.Record) []byte { return encode.PutMAC(b, r.DstMAC) }),
	}
	network = []column{
		col(25, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.MinLen) }),
		col(26, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.MaxLen) }),
		col(5, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.ToS) }),
		col(52, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.MinTTL) }),
		col(53, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.MaxTTL) }),
	}
	flags = []column{
		col(6, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.TCPFlags) }),
		{Field: field(ie.CERT, 14, 1), put: func(b []byte, r *flow.Record) []byte { return append(b, r.FirstTCPFlags) }},
	}
	icmpV4      = col(32, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.ICMPTypeCode) })
	icmpV6      = col(139, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.ICMPTypeCode) })
	sampled     = col(34, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.Sampling) })
	segmentCol  = col(351, 8, func(b []byte, r *flow.Record) []byte { return put64(b, uint64(r.Segment)) })
	observerCol = col(82, ie.Variable, func(b []byte, r *flow.Record) []byte { return putName(b, r.Observer) })

	protocol = col(4, 1, putProto)
	srcPort  = col(7, 2, putSrcPort)
	dstPort  = col(11, 2, putDstPort)

	ovsVTEPs = []column{
		vmw(893, 4, func(b []byte, r *flow.Record) []byte { return putV4(b, r.Tunnel.Src) }),
		vmw(894, 4, func(b []byte, r *flow.Record) []byte { return putV4(b, r.Tunnel.Dst) }),
	}
	ovsTunnel = []column{
		vmw(891, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.Tunnel.Type) }),
		vmw(895, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.Tunnel.Proto) }),
		vmw(896, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.Tunnel.SrcPort) }),
		vmw(897, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.Tunnel.DstPort) }),
		vmw(892, ie.Variable, putKey),
	}
	vmwareTunnel = []column{
		col(4, 1, func(b []byte, r *flow.Record) []byte { return append(b, r.Tunnel.Proto) }),
		col(7, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.Tunnel.SrcPort) }),
		col(11, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.Tunnel.DstPort) }),
	}
	vmwareProto = vmw(880, 1, putProto)
	vmwarePorts = []column{vmw(886, 2, putSrcPort), vmw(887, 2, putDstPort)}
)

// columns returns the fields of a shape under a profile.
func (s shape) columns(p Profile) []column {
	c := append([]column(nil), start...)
	if s.macs {
		c = append(c, link...)
	}
	if s.sampled {
		c = append(c, sampled)
	}
	if p == VMware && s.underlay != 0 {
		c = append(c, pair(s.underlay, 0, 8, 27, vtep)...)
		c = append(c, vmwareTunnel...)
		c = append(c, vmwareProto)
		c = append(c, s.tenant(ie.VMware, 881, 883)...)
	} else {
		if s.net != 0 {
			c = append(c, protocol)
		}
		c = append(c, s.tenant(ie.IANA, 8, 27)...)
	}
	c = append(c, segmentCol)
	switch {
	case p == OVS && s.underlay == 4:
		c = append(append(c, ovsVTEPs...), ovsTunnel...)
	case p == OVS && s.underlay == hidden:
		c = append(c, ovsTunnel...)
	}
	c = append(c, observerCol)
	if s.rare {
		c = append(append(c, layer2...), s.rareColumns()...)
	}
	if s.vms {
		c = append(c, machines...)
	}
	c = append(c, applications[s.name]...)
	if s.biflow {
		c = append(c, s.backwards()...)
	}
	return c
}

// tenant returns the columns of the tenant's network and transport header. v4 and v6 are the elements of the
// source addresses.
func (s shape) tenant(pen uint32, v4, v6 uint16) []column {
	if s.net == 0 {
		return nil
	}
	c := append([]column(nil), network...)
	c = append(c, pair(s.net, pen, v4, v6, address)...)
	switch {
	case s.transport == encode.ICMP && s.net == 4:
		return append(c, icmpV4)
	case s.transport == encode.ICMP:
		return append(c, icmpV6)
	case s.transport == encode.Bare:
		return c
	case pen == ie.VMware:
		c = append(c, vmwarePorts...)
	default:
		c = append(c, srcPort, dstPort)
	}
	if s.transport == encode.TCP {
		c = append(c, flags...)
	}
	return c
}

func address(r *flow.Record) (src, dst *flow.Addr) { return &r.Src, &r.Dst }
func vtep(r *flow.Record) (src, dst *flow.Addr)    { return &r.Tunnel.Src, &r.Tunnel.Dst }

// pair returns the two address columns of a family.
func pair(family uint8, pen uint32, v4, v6 uint16, of func(*flow.Record) (src, dst *flow.Addr)) []column {
	id, n, put, next := v4, uint16(4), putV4, uint16(1)
	if v4 == 8 {
		next = 4 // 8 and 12
	}
	if family == 6 {
		id, n, put, next = v6, 16, putV6, 1
	}
	return []column{
		{Field: field(pen, id, n), put: func(b []byte, r *flow.Record) []byte { s, _ := of(r); return put(b, *s) }},
		{Field: field(pen, id+next, n), put: func(b []byte, r *flow.Record) []byte { _, d := of(r); return put(b, *d) }},
	}
}

func put16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func putV4(b []byte, a flow.Addr) []byte { return append(b, a[12:]...) }
func putV6(b []byte, a flow.Addr) []byte { return append(b, a[:]...) }

func putProto(b []byte, r *flow.Record) []byte   { return append(b, r.Proto) }
func putSrcPort(b []byte, r *flow.Record) []byte { return put16(b, r.SrcPort) }
func putDstPort(b []byte, r *flow.Record) []byte { return put16(b, r.DstPort) }

// putClient writes biflowDirection (RFC 5103, section 6.3).
func putClient(b []byte, r *flow.Record) []byte {
	switch r.Client {
	case flow.ClientSrc:
		return append(b, 1)
	case flow.ClientDst:
		return append(b, 2)
	}
	return append(b, 0)
}

// putKey writes tunnelKey: four bytes for GRE, three for the others, none when the segment is not known.
func putKey(b []byte, r *flow.Record) []byte {
	n := r.Segment.Number()
	switch {
	case r.Segment == 0:
		return append(b, 0)
	case r.Tunnel.Type == tunnelGRE:
		return put32(append(b, 4), n)
	}
	return append(b, 3, byte(n>>16), byte(n>>8), byte(n))
}

// putName writes a name with its length before it, cut between two runes when it is too long.
func putName(b []byte, name string) []byte {
	if len(name) > maxName {
		n := maxName
		for n > 0 && !utf8.RuneStart(name[n]) {
			n--
		}
		name = name[:n]
	}
	return append(append(b, byte(len(name))), name...)
}

// unixMS turns nanoseconds into milliseconds, both since the epoch; times before it become 0.
func unixMS(ns int64) uint64 { return uint64(max(ns, 0) / 1e6) }
