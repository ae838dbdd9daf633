package clickhouse

import (
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// field is a column of the rows: its name and type in the views' SQL, its type and codec on the server, and how it is filled.
type field struct {
	name, view string
	stored     string
	make       func() filler
}

// kind is the type on the server, without the codec.
func (f field) kind() string {
	kind, _, _ := strings.Cut(f.stored, " CODEC(")
	return kind
}

// filler collects the values of a column.
type filler interface {
	add(*flow.Record)
	input() proto.ColInput
	reset()
}

// fields are the columns of the rows, in their order. They are those of the embedded store's views.
var fields = []field{
	u64("segment", "ZSTD(1)", func(r *flow.Record) uint64 { return uint64(r.Segment) }),
	addr("src", func(r *flow.Record) flow.Addr { return r.Src }),
	addr("dst", func(r *flow.Record) flow.Addr { return r.Dst }),
	at("t_end", func(r *flow.Record) int64 { return r.EndNS }),
	at("t_start", func(r *flow.Record) int64 { return r.StartNS }),
	at("t_recv", func(r *flow.Record) int64 { return r.RecvNS }),
	addr("exporter", func(r *flow.Record) flow.Addr { return r.Exporter }),
	u32("domain", func(r *flow.Record) uint32 { return r.Domain }),
	u64("point", "ZSTD(1)", func(r *flow.Record) uint64 { return r.Point }),
	u32("in_if", func(r *flow.Record) uint32 { return r.InIf }),
	u32("out_if", func(r *flow.Record) uint32 { return r.OutIf }),
	u32("sampling", func(r *flow.Record) uint32 { return r.Sampling }),
	u8("direction", func(r *flow.Record) uint8 { return r.Direction }),
	u8("role", func(r *flow.Record) uint8 { return uint8(r.Role) }),
	u8("end_reason", func(r *flow.Record) uint8 { return uint8(r.EndReason) }),
	u8("client", func(r *flow.Record) uint8 { return uint8(r.Client) }),
	u16("marks", func(r *flow.Record) uint16 { return uint16(r.Marks) }),
	u8("proto", func(r *flow.Record) uint8 { return r.Proto }),
	u8("tos", func(r *flow.Record) uint8 { return r.ToS }),
	u8("min_ttl", func(r *flow.Record) uint8 { return r.MinTTL }),
	u8("max_ttl", func(r *flow.Record) uint8 { return r.MaxTTL }),
	u16("tcp_flags", func(r *flow.Record) uint16 { return r.TCPFlags }),
	u16("icmp", func(r *flow.Record) uint16 { return r.ICMPTypeCode }),
	u16("src_port", func(r *flow.Record) uint16 { return r.SrcPort }),
	u16("dst_port", func(r *flow.Record) uint16 { return r.DstPort }),
	u16("ethertype", func(r *flow.Record) uint16 { return r.EtherType }),
	u16("vlan", func(r *flow.Record) uint16 { return r.VLAN }),
	u64("src_mac", "ZSTD(1)", func(r *flow.Record) uint64 { return uint64(r.SrcMAC) }),
	u64("dst_mac", "ZSTD(1)", func(r *flow.Record) uint64 { return uint64(r.DstMAC) }),
	addr("outer_src", func(r *flow.Record) flow.Addr { return r.Tunnel.Src }),
	addr("outer_dst", func(r *flow.Record) flow.Addr { return r.Tunnel.Dst }),
	u16("outer_src_port", func(r *flow.Record) uint16 { return r.Tunnel.SrcPort }),
	u16("outer_dst_port", func(r *flow.Record) uint16 { return r.Tunnel.DstPort }),
	u8("outer_proto", func(r *flow.Record) uint8 { return r.Tunnel.Proto }),
	u8("tunnel_type", func(r *flow.Record) uint8 { return r.Tunnel.Type }),
	u64("packets", "T64, ZSTD(1)", func(r *flow.Record) uint64 { return r.Packets }),
	u64("octets", "T64, ZSTD(1)", func(r *flow.Record) uint64 { return r.Octets }),
	u64("l2_octets", "T64, ZSTD(1)", func(r *flow.Record) uint64 { return r.L2Octets }),
	u64("flow_id", "ZSTD(1)", func(r *flow.Record) uint64 { return r.FlowID }),
	u64("observer_id", "ZSTD(1)", func(r *flow.Record) uint64 { return r.ObserverID }),
	name("fabric", func(r *flow.Record) string { return r.Fabric }),
	name("observer", func(r *flow.Record) string { return r.Observer }),
	name("observer_host", func(r *flow.Record) string { return r.ObserverHost }),
	name("tenant", func(r *flow.Record) string { return r.Tenant }),
	name("src_vm", func(r *flow.Record) string { return r.SrcVM }),
	name("dst_vm", func(r *flow.Record) string { return r.DstVM }),
	name("src_host", func(r *flow.Record) string { return r.SrcHost }),
	name("dst_host", func(r *flow.Record) string { return r.DstHost }),
	name("app", func(r *flow.Record) string { return r.App }),
	name("src_vm_id", func(r *flow.Record) string { return r.SrcVMID }),
	name("dst_vm_id", func(r *flow.Record) string { return r.DstVMID }),
	u16("min_len", func(r *flow.Record) uint16 { return r.MinLen }),
	u16("max_len", func(r *flow.Record) uint16 { return r.MaxLen }),
	u16("inner_vlan", func(r *flow.Record) uint16 { return r.InnerVLAN }),
	u16("src_vif", func(r *flow.Record) uint16 { return r.SrcVIF }),
	u16("dst_vif", func(r *flow.Record) uint16 { return r.DstVIF }),
	u32("mpls", func(r *flow.Record) uint32 { return r.MPLS }),
	u32("fragments", func(r *flow.Record) uint32 { return r.Fragments }),
	u32("rtt_us", func(r *flow.Record) uint32 { return r.RTTUS }),
	u32("retransmits", func(r *flow.Record) uint32 { return r.Retransmits }),
	u32("zero_windows", func(r *flow.Record) uint32 { return r.ZeroWindows }),
	u8("app_how", func(r *flow.Record) uint8 { return uint8(r.AppHow) }),
	long("app_name", func(r *flow.Record) string { return r.AppName }),
	long("extra", func(r *flow.Record) string { return r.Extra }),
	name("src_tenant", func(r *flow.Record) string { return r.SrcTenant }),
	name("dst_tenant", func(r *flow.Record) string { return r.DstTenant }),
	name("in_if_name", func(r *flow.Record) string { return r.InIfName }),
	name("out_if_name", func(r *flow.Record) string { return r.OutIfName }),
	name("vrf", func(r *flow.Record) string { return r.VRF }),
}

// flowColumns are name and type of each column of the rows, as the views' SQL has them.
var flowColumns = func() (out []store.Column) {
	for _, f := range fields {
		out = append(out, store.Column{Name: f.name, Type: f.view})
	}
	return out
}()

// numbers is a column of plain values.
type numbers[T any, C any] struct {
	col   *C
	of    func(*flow.Record) T
	put   func(*C, T)
	in    func(*C) proto.ColInput
	clear func(*C)
}

func (n *numbers[T, C]) add(r *flow.Record)    { n.put(n.col, n.of(r)) }
func (n *numbers[T, C]) input() proto.ColInput { return n.in(n.col) }
func (n *numbers[T, C]) reset()                { n.clear(n.col) }

func u8(column string, of func(*flow.Record) uint8) field {
	return field{column, "UTINYINT", "UInt8 CODEC(ZSTD(1))", func() filler {
		return &numbers[uint8, proto.ColUInt8]{new(proto.ColUInt8), of, (*proto.ColUInt8).Append, func(c *proto.ColUInt8) proto.ColInput { return c }, (*proto.ColUInt8).Reset}
	}}
}

func u16(column string, of func(*flow.Record) uint16) field {
	return field{column, "USMALLINT", "UInt16 CODEC(ZSTD(1))", func() filler {
		return &numbers[uint16, proto.ColUInt16]{new(proto.ColUInt16), of, (*proto.ColUInt16).Append, func(c *proto.ColUInt16) proto.ColInput { return c }, (*proto.ColUInt16).Reset}
	}}
}

func u32(column string, of func(*flow.Record) uint32) field {
	return field{column, "UINTEGER", "UInt32 CODEC(ZSTD(1))", func() filler {
		return &numbers[uint32, proto.ColUInt32]{new(proto.ColUInt32), of, (*proto.ColUInt32).Append, func(c *proto.ColUInt32) proto.ColInput { return c }, (*proto.ColUInt32).Reset}
	}}
}

func u64(column, codec string, of func(*flow.Record) uint64) field {
	return field{column, "UBIGINT", "UInt64 CODEC(" + codec + ")", func() filler {
		return &numbers[uint64, proto.ColUInt64]{new(proto.ColUInt64), of, (*proto.ColUInt64).Append, func(c *proto.ColUInt64) proto.ColInput { return c }, (*proto.ColUInt64).Reset}
	}}
}

func addr(column string, of func(*flow.Record) flow.Addr) field {
	return field{column, "UUID", "IPv6 CODEC(ZSTD(1))", func() filler {
		return &numbers[flow.Addr, proto.ColIPv6]{new(proto.ColIPv6), of, func(c *proto.ColIPv6, a flow.Addr) { *c = append(*c, proto.IPv6(a)) },
			func(c *proto.ColIPv6) proto.ColInput { return c }, (*proto.ColIPv6).Reset}
	}}
}

// at is a time in nanoseconds, which is stored in whole milliseconds.
func at(column string, of func(*flow.Record) int64) field {
	return field{column, "TIMESTAMP", "DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))", func() filler {
		return &numbers[int64, proto.ColDateTime64]{new(proto.ColDateTime64).WithPrecision(proto.PrecisionMilli), of,
			func(c *proto.ColDateTime64, ns int64) { c.AppendRaw(proto.DateTime64(floorMS(ns))) },
			func(c *proto.ColDateTime64) proto.ColInput { return c }, (*proto.ColDateTime64).Reset}
	}}
}

// name is a text of which there are few.
func name(column string, of func(*flow.Record) string) field {
	return field{column, "VARCHAR", "LowCardinality(String) CODEC(ZSTD(1))", func() filler {
		type texts = proto.ColLowCardinality[string]
		return &numbers[string, texts]{new(proto.ColStr).LowCardinality(), of, (*texts).Append, func(c *texts) proto.ColInput { return c }, (*texts).Reset}
	}}
}

// long is a text that may be different in each row.
func long(column string, of func(*flow.Record) string) field {
	return field{column, "VARCHAR", "String CODEC(ZSTD(1))", func() filler {
		return &numbers[string, proto.ColStr]{new(proto.ColStr), of, (*proto.ColStr).Append, func(c *proto.ColStr) proto.ColInput { return c }, (*proto.ColStr).Reset}
	}}
}

// floorMS gives whole milliseconds, also before 1970.
func floorMS(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}

// block is rows in columns, ready to be sent.
type block struct {
	fillers []filler
	in      proto.Input
	rows    int
}

func newBlock() *block {
	b := &block{}
	for _, f := range fields {
		fill := f.make()
		b.fillers = append(b.fillers, fill)
		b.in = append(b.in, proto.InputColumn{Name: f.name, Data: fill.input()})
	}
	return b
}

func (b *block) add(recs []flow.Record) {
	for _, f := range b.fillers { // column by column: each stays in the cache
		for i := range recs {
			f.add(&recs[i])
		}
	}
	b.rows += len(recs)
}

func (b *block) reset() {
	for _, f := range b.fillers {
		f.reset()
	}
	b.rows = 0
}
