package filter

import (
	"slices"
	"strings"

	"crosstap/internal/flow"
	"crosstap/internal/nearest"
)

// Kind says what the values of a field are.
type Kind uint8

// The kinds of values.
const (
	Text     Kind = iota
	Addr          // IP address
	MAC           // IEEE 802 address
	Number        // count
	Port          // TCP, UDP or SCTP port, also by service name
	Bytes         // count with units KB, MB, GiB, …
	Duration      // time with units ms, s, m, h, d
	VNI           // number of a segment
	Segment       // kind:number
	Proto         // IP protocol, by name or number
	Enum          // one of a fixed list
	Flag          // set of bits, each with a name
	ID            // 64-bit number in hexadecimal
	Bool
	Micros // time in microseconds, with units us, ms, s
)

// Level says for what a field holds.
type Level uint8

// The levels.
const (
	// Key: the same in every row of a flow, whoever observed it.
	Key Level = iota
	// Row: a fact of the row that is counted, with what others know filled in.
	Row
	// Observation: differs between the observers of a flow. In reports it selects the flows of
	// which one observer's rows fit.
	Observation
)

// Field is something a filter can ask about.
type Field struct {
	Name    string   // as it is documented
	Aliases []string // also accepted
	Columns []string // names of columns, see Dialect.Column; two for "either end"
	Kind    Kind
	Level   Level
	Max     uint64            // of numbers; 0 for no limit
	Names   map[string]uint64 // of Enum and Flag
	Protos  []uint64          // only packets of these IP protocols have it; nil for any
	Told    bool              // 0 stands for "nobody told", which is below no value
	Doc     string
}

// Either reports whether the field stands for both ends.
func (f *Field) Either() bool { return len(f.Columns) > 1 }

var (
	roles      = map[string]uint64{"unknown": 0, "vnic": 1, "agent": 1, "port": 2, "mirror": 3, "tunnel": 4, "underlay": 5}
	directions = map[string]uint64{"ingress": 0, "in": 0, "egress": 1, "out": 1, "unknown": 255}
	reasons    = map[string]uint64{"unknown": 0, "idle": 1, "active": 2, "detected": 3, "forced": 4, "resource": 5}
	clients    = map[string]uint64{"unknown": 0, "src": 1, "dst": 2}
	marks      = map[string]uint64{"canonical": 1, "sampled": 2, "assumed": 4, "ambiguous": 8, "truncated": 16, "fragments": 32, "guess": 64, "reverse": 128, "gap": 256, "borrowed": 512}
	appHows    = func() map[string]uint64 {
		m := map[string]uint64{"unknown": uint64(flow.AppUnknown)}
		for h := flow.AppProto; h <= flow.AppQUIC; h++ {
			m[h.String()] = uint64(h)
		}
		return m
	}()
	icmps    = []uint64{1, 58} // ICMP (RFC 792) and ICMPv6 (RFC 4443)
	tcpFlags = map[string]uint64{"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
)

const (
	max8, max16, max32 = 1<<8 - 1, 1<<16 - 1, 1<<32 - 1
	seenBy             = "seen_by"
	history            = "new" // the pcap-like word of "new within 24h"
)

// fields lists all fields, those of everyday use first.
var fields = []Field{
	{Name: "vm", Columns: both("src_vm", "dst_vm"), Level: Row, Doc: "virtual machine at either end"},
	{Name: "ip", Aliases: []string{"addr", "address"}, Columns: both("src", "dst"), Kind: Addr, Doc: "address at either end, inside the tunnel"},
	{Name: "port", Columns: both("src_port", "dst_port"), Kind: Port, Max: max16, Told: true, Doc: "port at either end"},
	{Name: "tenant", Columns: one("tenant"), Level: Row, Doc: "tenant of the segment"},
	{Name: "vni", Aliases: []string{"vsid"}, Columns: one("vni"), Kind: VNI, Level: Row, Max: max32, Doc: "number of the segment, of any kind"},
	{Name: "src.tenant", Aliases: []string{"src_tenant"}, Columns: one("src_tenant"), Level: Row, Doc: "tenant of the client's virtual machine; in flows of the sender's"},
	{Name: "dst.tenant", Aliases: []string{"dst_tenant"}, Columns: one("dst_tenant"), Level: Row, Doc: "tenant of the server's virtual machine; in flows of the receiver's"},
	{Name: "segment", Columns: one("segment"), Kind: Segment, Level: Row, Doc: "segment as kind:number, such as vxlan:5001"},
	{Name: "app", Aliases: []string{"application", "service"}, Columns: one("app"), Level: Row, Doc: "application"},
	{Name: "proto", Aliases: []string{"protocol"}, Columns: one("proto"), Kind: Proto, Max: max8, Doc: "IP protocol, by name or number"},
	{Name: "vtep", Columns: both("outer_src", "outer_dst"), Kind: Addr, Level: Row, Doc: "tunnel endpoint at either end"},
	{Name: "host", Columns: both("src_host", "dst_host"), Level: Row, Doc: "hypervisor at either end"},
	{Name: "mac", Columns: both("src_mac", "dst_mac"), Kind: MAC, Doc: "Ethernet address at either end, inside the tunnel"},
	{Name: "src.vm", Aliases: []string{"src_vm"}, Columns: one("src_vm"), Level: Row, Doc: "virtual machine of the client, which opened the conversation; in flows the one that sent"},
	{Name: "dst.vm", Aliases: []string{"dst_vm"}, Columns: one("dst_vm"), Level: Row, Doc: "virtual machine of the server; in flows the one that received"},
	{Name: "vm_id", Aliases: []string{"vm.id"}, Columns: both("src_vm_id", "dst_vm_id"), Level: Row, Doc: "stable id of the virtual machine at either end"},
	{Name: "src.vm_id", Aliases: []string{"src_vm_id", "src.vm.id"}, Columns: one("src_vm_id"), Level: Row, Doc: "stable id of the client's virtual machine; in flows of the sender's"},
	{Name: "dst.vm_id", Aliases: []string{"dst_vm_id", "dst.vm.id"}, Columns: one("dst_vm_id"), Level: Row, Doc: "stable id of the server's virtual machine; in flows of the receiver's"},
	{Name: "src.ip", Aliases: []string{"src.addr", "src_addr"}, Columns: one("src"), Kind: Addr, Doc: "address of the client, inside the tunnel; in flows of the sender"},
	{Name: "dst.ip", Aliases: []string{"dst.addr", "dst_addr"}, Columns: one("dst"), Kind: Addr, Doc: "address of the server, inside the tunnel; in flows of the receiver"},
	{Name: "src.port", Aliases: []string{"src_port", "sport"}, Columns: one("src_port"), Kind: Port, Max: max16, Told: true, Doc: "port of the client; in flows of the sender"},
	{Name: "dst.port", Aliases: []string{"dst_port", "dport"}, Columns: one("dst_port"), Kind: Port, Max: max16, Told: true, Doc: "port of the server; in flows of the receiver"},
	{Name: "src.host", Aliases: []string{"src_host"}, Columns: one("src_host"), Level: Row, Doc: "hypervisor of the client; in flows of the sender"},
	{Name: "dst.host", Aliases: []string{"dst_host"}, Columns: one("dst_host"), Level: Row, Doc: "hypervisor of the server; in flows of the receiver"},
	{Name: "src.mac", Aliases: []string{"src_mac"}, Columns: one("src_mac"), Kind: MAC, Doc: "Ethernet address on the side of the client; in flows of the sender"},
	{Name: "dst.mac", Aliases: []string{"dst_mac"}, Columns: one("dst_mac"), Kind: MAC, Doc: "Ethernet address on the side of the server; in flows of the receiver"},
	{Name: "src.vtep", Aliases: []string{"src_vtep", "outer.src", "outer.src.ip"}, Columns: one("outer_src"), Kind: Addr, Level: Row, Doc: "tunnel endpoint on the side of the client; in flows of the sender"},
	{Name: "dst.vtep", Aliases: []string{"dst_vtep", "outer.dst", "outer.dst.ip"}, Columns: one("outer_dst"), Kind: Addr, Level: Row, Doc: "tunnel endpoint on the side of the server; in flows of the receiver"},
	{Name: "outer.ip", Aliases: []string{"outer.addr"}, Columns: both("outer_src", "outer_dst"), Kind: Addr, Level: Row, Doc: "address in the outer header, either end"},
	{Name: "outer.port", Columns: both("outer_src_port", "outer_dst_port"), Kind: Port, Level: Observation, Max: max16, Told: true, Doc: "port of the outer header, either end"},
	{Name: "outer.src.port", Columns: one("outer_src_port"), Kind: Port, Level: Observation, Max: max16, Told: true, Doc: "port of the outer header on the side of the client; in flows of the sender"},
	{Name: "outer.dst.port", Columns: one("outer_dst_port"), Kind: Port, Level: Observation, Max: max16, Told: true, Doc: "port of the outer header on the side of the server; in flows of the receiver"},
	{Name: "outer.proto", Columns: one("outer_proto"), Kind: Proto, Level: Observation, Max: max8, Doc: "IP protocol of the outer header"},
	{Name: "octets", Aliases: []string{"bytes"}, Columns: one("octets"), Kind: Bytes, Level: Row, Doc: "IP octets of one stored row"},
	{Name: "l2_octets", Aliases: []string{"l2_bytes", "l2.octets"}, Columns: one("l2_octets"), Kind: Bytes, Level: Row, Told: true, Doc: "layer 2 octets of one stored row"},
	{Name: "packets", Columns: one("packets"), Kind: Number, Level: Row, Doc: "packets of one stored row"},
	{Name: "duration", Columns: one("duration"), Kind: Duration, Level: Row, Doc: "time from first to last packet of one stored row"},
	{Name: seenBy, Aliases: []string{"seen.by"}, Columns: one("observer"), Level: Observation, Doc: "observer, or role of one, that saw the flow"},
	{Name: "observer", Columns: one("observer"), Level: Observation, Doc: "name of the observer of a row"},
	{Name: "role", Columns: one("role"), Kind: Enum, Names: roles, Level: Observation, Doc: "kind of place the observer is"},
	{Name: "exporter", Columns: one("exporter"), Kind: Addr, Level: Observation, Doc: "address of the exporting process"},
	{Name: "domain", Columns: one("domain"), Kind: Number, Level: Observation, Max: max32, Doc: "observation domain"},
	{Name: "direction", Columns: one("direction"), Kind: Enum, Names: directions, Level: Observation, Doc: "ingress or egress, as the observer saw it"},
	{Name: "in_if", Aliases: []string{"input"}, Columns: one("in_if"), Kind: Number, Level: Observation, Max: max32, Doc: "ingress interface"},
	{Name: "out_if", Aliases: []string{"output"}, Columns: one("out_if"), Kind: Number, Level: Observation, Max: max32, Doc: "egress interface"},
	{Name: "vlan", Columns: one("vlan"), Kind: Number, Level: Observation, Max: 4095, Doc: "802.1Q identifier"},
	{Name: "fabric", Columns: one("fabric"), Level: Row, Doc: "fabric of the segment"},
	{Name: "tcp_flags", Aliases: []string{"flags", "tcp.flags"}, Columns: one("tcp_flags"), Kind: Flag, Names: tcpFlags, Level: Row, Max: max16, Doc: "TCP flag seen: syn, ack, fin, rst, psh, urg, ece, cwr"},
	{Name: "icmp.type", Columns: one("icmp_type"), Kind: Number, Level: Row, Max: max8, Protos: icmps, Doc: "ICMP type"},
	{Name: "icmp.code", Columns: one("icmp_code"), Kind: Number, Level: Row, Max: max8, Protos: icmps, Doc: "ICMP code"},
	{Name: "ethertype", Columns: one("ethertype"), Kind: Number, Level: Row, Max: max16, Doc: "EtherType; 0x and hexadecimal digits are understood"},
	{Name: "tos", Columns: one("tos"), Kind: Number, Level: Row, Max: max8, Doc: "type of service or traffic class"},
	{Name: "dscp", Columns: one("dscp"), Kind: Number, Level: Row, Max: 63, Doc: "differentiated services code point"},
	{Name: "ttl", Columns: one("min_ttl"), Kind: Number, Level: Row, Max: max8, Told: true, Doc: "least time to live or hop limit"},
	{Name: "sampling", Columns: one("sampling"), Kind: Number, Level: Row, Max: max32, Doc: "one packet in that many was seen"},
	{Name: "mark", Aliases: []string{"marks"}, Columns: one("marks"), Kind: Flag, Names: marks, Level: Row, Max: max16, Doc: "fact about a row: sampled, ambiguous, truncated, …"},
	{Name: "retransmits", Aliases: []string{"retransmissions", "retrans"}, Columns: one("retransmits"), Kind: Number, Level: Row, Max: max32, Doc: "TCP segments of one stored row that carried bytes a second time"},
	{Name: "zero_windows", Columns: one("zero_windows"), Kind: Number, Level: Row, Max: max32, Doc: "TCP segments of one stored row that closed the window"},
	{Name: "fragments", Columns: one("fragments"), Kind: Number, Level: Row, Max: max32, Doc: "packets of one stored row that were fragments"},
	{Name: "rtt", Columns: one("rtt_us"), Kind: Micros, Level: Observation, Max: max32, Told: true, Doc: "round-trip time of the handshake as one observer saw it"},
	{Name: "min_len", Columns: one("min_len"), Kind: Bytes, Level: Row, Max: max16, Told: true, Doc: "IP length of the shortest packet"},
	{Name: "max_len", Columns: one("max_len"), Kind: Bytes, Level: Row, Max: max16, Told: true, Doc: "IP length of the longest packet"},
	{Name: "inner_vlan", Columns: one("inner_vlan"), Kind: Number, Level: Observation, Max: 4095, Doc: "identifier of the second 802.1Q tag"},
	{Name: "vif", Columns: both("src_vif", "dst_vif"), Kind: Number, Level: Observation, Max: max16, Doc: "virtual interface of a VN-Tag, either end"},
	{Name: "src.vif", Aliases: []string{"src_vif"}, Columns: one("src_vif"), Kind: Number, Level: Observation, Max: max16, Doc: "virtual interface of a VN-Tag on the side of the client; in flows of the sender"},
	{Name: "dst.vif", Aliases: []string{"dst_vif"}, Columns: one("dst_vif"), Kind: Number, Level: Observation, Max: max16, Doc: "virtual interface of a VN-Tag on the side of the server; in flows of the receiver"},
	{Name: "mpls", Columns: one("mpls"), Kind: Number, Level: Observation, Max: 1<<20 - 1, Doc: "label on top of the MPLS stack"},
	{Name: "app.name", Aliases: []string{"app_name", "sni"}, Columns: one("app_name"), Level: Row, Doc: "name that the payload told: TLS server name, HTTP host, DNS question"},
	{Name: "app.how", Aliases: []string{"app_how"}, Columns: one("app_how"), Kind: Enum, Names: appHows, Level: Row, Doc: "how the application is known"},
	{Name: "extra", Columns: one("extra"), Level: Observation, Doc: "elements that no other field holds, as in 0.225=0a000001"},
	{Name: "end_reason", Columns: one("end_reason"), Kind: Enum, Names: reasons, Level: Row, Doc: "why the row ended: idle, active, detected, …"},
	{Name: "client", Columns: one("client"), Kind: Enum, Names: clients, Level: Row, Doc: "which end opened the conversation"},
	{Name: "flow_id", Columns: one("flow_id"), Kind: ID, Doc: "identifier of the flow, 16 hexadecimal digits"},
	{Name: "same_host", Columns: one("same_host"), Kind: Bool, Level: Row, Doc: "both ends on one host"},
}

func one(c string) []string { return []string{c} }

func both(a, b string) []string { return []string{a, b} }

var byName = func() map[string]*Field {
	m := map[string]*Field{}
	for i := range fields {
		for _, n := range append([]string{fields[i].Name}, fields[i].Aliases...) {
			m[n] = &fields[i]
		}
	}
	return m
}()

// Lookup finds a field by name or alias, whatever the case.
func Lookup(name string) *Field { return byName[strings.ToLower(name)] }

// Fields lists all fields, those of everyday use first.
func Fields() []Field { return slices.Clone(fields) }

// notRecorded are names that people try, with what to do instead.
var notRecorded = map[string]string{
	"group":   "use tenant, app or vm like",
	"src.vni": "both ends are in one segment: use vni",
	"dst.vni": "both ends are in one segment: use vni",
	"src.app": "use app",
	"dst.app": "use app",
	"src":     "use src.ip, src.vm or src.port",
	"dst":     "use dst.ip, dst.vm or dst.port",
}

// nearestTo gives the name most like s, "" when none is near.
func nearestTo(s string, names []string) string {
	if len(s) <= 3 {
		return nearest.Within(strings.ToLower(s), names, 2)
	}
	return nearest.Within(strings.ToLower(s), names, 3)
}
