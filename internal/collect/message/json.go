// Package message writes flow records as others read them: as Protocol Buffers of docs/formats/flow.proto, as the message of goflow2,
// and as JSON with the names of the flows report.
package message

import (
	"encoding/json"
	"strconv"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// AppendJSON appends r as one JSON object with the fields of the flows report, in its order.
func AppendJSON(b []byte, r *flow.Record) []byte {
	o := object(append(b, '{'))
	o.time("start", r.StartNS)
	o.time("end", r.EndNS)
	o.time("received", r.RecvNS)
	o.addr("exporter", &r.Exporter)
	o.number("domain", uint64(r.Domain))
	o.text("observer", r.Observer)
	o.text("role", r.Role.String())
	o.text("direction", flow.DirectionText(r.Direction))
	o.key("canonical")
	o = strconv.AppendBool(o, r.Is(flow.MarkCanonical))
	o.key("segment")
	o = appendSegment(o, r.Segment)
	o.number("vni", uint64(r.Segment.Number()))
	o.text("fabric", r.Fabric)
	o.text("tenant", r.Tenant)
	o.addr("src_vtep", &r.Tunnel.Src)
	o.addr("dst_vtep", &r.Tunnel.Dst)
	o.text("src_host", r.SrcHost)
	o.text("dst_host", r.DstHost)
	o.text("src_vm", r.SrcVM)
	o.text("dst_vm", r.DstVM)
	o.text("src_vm_id", r.SrcVMID)
	o.text("dst_vm_id", r.DstVMID)
	o.packet(r)
	o.number("packets", r.Packets)
	o.number("octets", r.Octets)
	o.number("l2_octets", r.L2Octets)
	o.number("sampling", uint64(max(r.Sampling, 1)))
	o.text("end_reason", endText(r.EndReason))
	o.hex("flow_id", r.FlowID, 16)
	o.marks(r.Marks)
	o.text("in_if_name", r.InIfName)
	o.text("out_if_name", r.OutIfName)
	o.text("vrf", r.VRF)
	o.beside(r)
	o.extra(r.Extra)
	return append(o, '}')
}

// beside appends what the packets told beside their addresses.
func (o *object) beside(r *flow.Record) {
	o.text("src_tenant", r.SrcTenant)
	o.text("dst_tenant", r.DstTenant)
	o.text("app_how", r.AppHow.String())
	o.text("app_name", r.AppName)
	o.number("min_len", uint64(r.MinLen))
	o.number("max_len", uint64(r.MaxLen))
	o.number("rtt_us", uint64(r.RTTUS))
	o.number("retransmits", uint64(r.Retransmits))
	o.number("zero_windows", uint64(r.ZeroWindows))
	o.number("fragments", uint64(r.Fragments))
	o.number("inner_vlan", uint64(r.InnerVLAN))
	o.number("src_vif", uint64(r.SrcVIF))
	o.number("dst_vif", uint64(r.DstVIF))
	o.number("mpls", uint64(r.MPLS))
}

// extra appends the elements without a field, by name. Only a record that has some costs allocations.
func (o *object) extra(text string) {
	o.key("extra")
	*o = append(*o, '[')
	if text != "" {
		for i, v := range decode.ExtraTexts(text) {
			if i > 0 {
				*o = append(*o, ',')
			}
			*o = appendText(*o, v)
		}
	}
	*o = append(*o, ']')
}

func (o *object) packet(r *flow.Record) {
	o.addr("src_addr", &r.Src)
	o.addr("dst_addr", &r.Dst)
	o.number("src_port", uint64(r.SrcPort))
	o.number("dst_port", uint64(r.DstPort))
	o.text("proto", flow.ProtoText(r.Proto))
	o.text("app", r.App)
	o.mac("src_mac", r.SrcMAC)
	o.mac("dst_mac", r.DstMAC)
	o.number("vlan", uint64(r.VLAN))
	o.number("ethertype", uint64(r.EtherType))
	o.number("tos", uint64(r.ToS))
	o.number("min_ttl", uint64(r.MinTTL))
	o.number("max_ttl", uint64(r.MaxTTL))
	o.flags("tcp_flags", r.TCPFlags)
	o.icmp(r)
	o.number("in_if", uint64(r.InIf))
	o.number("out_if", uint64(r.OutIf))
}

// object is a JSON object in the making.
type object []byte

func (o *object) key(name string) {
	if b := *o; b[len(b)-1] != '{' {
		*o = append(*o, ',')
	}
	*o = append(append(append(*o, '"'), name...), '"', ':')
}

func (o *object) number(name string, v uint64) {
	o.key(name)
	*o = strconv.AppendUint(*o, v, 10)
}

func (o *object) text(name, v string) {
	o.key(name)
	*o = appendText(*o, v)
}

// appendText appends a JSON string.
func appendText(b []byte, v string) []byte {
	for i := range len(v) {
		if c := v[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			doc, _ := json.Marshal(v) // a string cannot fail
			return append(b, doc...)
		}
	}
	return append(append(append(b, '"'), v...), '"')
}

// time appends a time to the millisecond, as it is stored.
func (o *object) time(name string, ns int64) {
	o.key(name)
	t := time.UnixMilli(ns / 1e6).UTC()
	*o = append(t.AppendFormat(append(*o, '"'), time.RFC3339Nano), '"')
}

func (o *object) addr(name string, a *flow.Addr) {
	o.key(name)
	*o = append(*o, '"')
	if !a.IsZero() {
		*o = a.Netip().AppendTo(*o)
	}
	*o = append(*o, '"')
}

func (o *object) mac(name string, m flow.MAC) {
	o.key(name)
	*o = append(*o, '"')
	for i := 0; m != 0 && i < 6; i++ {
		if i > 0 {
			*o = append(*o, ':')
		}
		c := byte(m >> (40 - 8*i))
		*o = append(*o, digits[c>>4], digits[c&15])
	}
	*o = append(*o, '"')
}

const digits = "0123456789abcdef"

func (o *object) hex(name string, v uint64, n int) {
	o.key(name)
	*o = append(*o, '"')
	for i := n - 1; i >= 0; i-- {
		*o = append(*o, digits[v>>(4*i)&15])
	}
	*o = append(*o, '"')
}

func (o *object) flags(name string, f uint16) {
	o.key(name)
	*o = append(*o, '"')
	for _, x := range [...]struct {
		bit    uint16
		letter byte
	}{{2, 'S'}, {16, 'A'}, {8, 'P'}, {1, 'F'}, {4, 'R'}, {32, 'U'}, {64, 'E'}, {128, 'C'}} {
		if f&x.bit != 0 {
			*o = append(*o, x.letter)
		}
	}
	*o = append(*o, '"')
}

func (o *object) icmp(r *flow.Record) {
	o.key("icmp")
	*o = append(*o, '"')
	if r.Proto == 1 || r.Proto == 58 {
		*o = strconv.AppendUint(*o, uint64(r.ICMPTypeCode>>8), 10)
		*o = strconv.AppendUint(append(*o, '/'), uint64(r.ICMPTypeCode&0xff), 10)
	}
	*o = append(*o, '"')
}

var markNames = [...]struct {
	bit  flow.Mark
	name string
}{
	{flow.MarkSampled, "sampled"}, {flow.MarkAssumed, "assumed"}, {flow.MarkAmbiguous, "ambiguous"}, {flow.MarkTruncated, "truncated"},
	{flow.MarkFragments, "fragments"}, {flow.MarkGuess, "guess"}, {flow.MarkGap, "gap"}, {flow.MarkBorrowed, "borrowed"},
}

func (o *object) marks(m flow.Mark) {
	o.key("marks")
	*o = append(*o, '[')
	for _, k := range markNames {
		if m&k.bit == 0 {
			continue
		}
		if b := *o; b[len(b)-1] != '[' {
			*o = append(*o, ',')
		}
		*o = appendText(*o, k.name)
	}
	*o = append(*o, ']')
}

func appendSegment(b []byte, s flow.Segment) []byte {
	b = append(b, '"')
	if s != 0 {
		b = strconv.AppendUint(append(append(b, s.Kind().String()...), ':'), uint64(s.Number()), 10)
	}
	return append(b, '"')
}

func endText(e flow.EndReason) string {
	names := [...]string{"", "idle", "active", "detected", "forced", "resource"}
	if int(e) < len(names) {
		return names[e]
	}
	return ""
}
