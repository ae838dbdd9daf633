package message

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/internal/protocheck"
	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

// full has a value of its own in every field.
func full() flow.Record {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC).UnixNano()
	return flow.Record{
		StartNS: at, EndNS: at + 1500e6, RecvNS: at + 2e9 + 5, Exporter: addr("192.0.2.7"), Domain: 70000, Point: 8, InIf: 21, OutIf: 22, Sampling: 64,
		Direction: 1, Role: flow.RoleTunnel, EndReason: flow.EndDetected, Client: flow.ClientDst,
		Marks: flow.MarkCanonical | flow.MarkSampled | flow.MarkGap | flow.MarkBorrowed,
		Proto: 6, ToS: 0x48, MinTTL: 62, MaxTTL: 64, TCPFlags: 0x1b, FirstTCPFlags: 2, SrcPort: 50123, DstPort: 443, EtherType: 0x86dd, VLAN: 100,
		Src: addr("2001:db8::1"), Dst: addr("2001:db8::2"), SrcMAC: 0x020000000001, DstMAC: 0x0200000000ff, Segment: flow.NewSegment(flow.KindGeneve, 5001),
		Tunnel:  flow.Tunnel{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), SrcPort: 51000, DstPort: 6081, Proto: 17, Type: 7},
		Packets: 640, Octets: 64000, L2Octets: 72960, MinLen: 40, MaxLen: 1500, InnerVLAN: 7, SrcVIF: 3, DstVIF: 4, MPLS: 16001, Fragments: 5,
		RTTUS: 1200, Retransmits: 6, ZeroWindows: 9, AppHow: flow.AppTLS, AppName: "db.example", Extra: "0.225=0a000001",
		FlowID: 0x0123456789abcdef, ObserverID: 0xfedcba9876543210, Fabric: "default", Observer: `esx1 "vSwitch0"`, InIfName: "eth1", OutIfName: "eth2", VRF: "red-vrf",
		ObserverHost: "esx1", Tenant: "red", SrcTenant: "red", DstTenant: "blue", SrcVM: "web-1", DstVM: "db-1", SrcVMID: "id-1", DstVMID: "id-2", SrcHost: "esx1",
		DstHost: "esx2", App: "https",
	}
}

// protoc's reading of docs/formats/flow.proto decodes every field.
func TestFlow(t *testing.T) {
	f := protocheck.Flow(t)
	r := full()
	want := map[string]any{
		"start_ns": "1772600767890000000", "end_ns": "1772600769390000000", "received_ns": "1772600769890000005", "exporter": "wAACBw==", "domain": 70000., "point": "8",
		"observer": `esx1 "vSwitch0"`, "observer_host": "esx1", "role": "ROLE_TUNNEL", "direction": "DIRECTION_EGRESS", "canonical": true,
		"marks": []any{"MARK_SAMPLED", "MARK_GAP", "MARK_BORROWED"}, "flow_id": "81985529216486895", "observer_id": "18364758544493064720",
		"segment_kind": "SEGMENT_GENEVE", "segment": 5001., "fabric": "default", "tenant": "red", "src_tenant": "red", "dst_tenant": "blue",
		"src_vtep": "CgAAAQ==", "dst_vtep": "CgAAAg==", "tunnel_src_port": 51000., "tunnel_dst_port": 6081., "tunnel_proto": 17., "tunnel_type": 7.,
		"src_addr": "IAENuAAAAAAAAAAAAAAAAQ==", "dst_addr": "IAENuAAAAAAAAAAAAAAAAg==", "src_port": 50123., "dst_port": 443., "proto": 6., "tos": 72.,
		"min_ttl": 62., "max_ttl": 64., "tcp_flags": 27., "ethertype": 34525., "vlan": 100., "inner_vlan": 7., "src_mac": "2199023255553", "dst_mac": "2199023255807",
		"in_if": 21., "out_if": 22., "in_if_name": "eth1", "out_if_name": "eth2", "vrf": "red-vrf", "packets": "640", "octets": "64000", "l2_octets": "72960",
		"sampling": 64., "end_reason": "END_DETECTED", "client": "CLIENT_DST", "min_len": 40., "max_len": 1500., "mpls_label": 16001., "fragments": 5., "rtt_us": 1200.,
		"retransmits": 6., "zero_windows": 9., "src_vm": "web-1", "dst_vm": "db-1", "src_vm_id": "id-1", "dst_vm_id": "id-2", "src_host": "esx1", "dst_host": "esx2",
		"app": "https", "app_how": "APP_TLS", "app_name": "db.example", "extra": "0.225=0a000001", "src_vif": 3., "dst_vif": 4., "first_tcp_flags": 2.,
	}
	if diff := cmp.Diff(want, f.Read(t, "Flow", AppendFlow(nil, &r))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r = flow.Record{Proto: 1, ICMPTypeCode: 0x0304, Direction: 255, Segment: flow.NewSegment(0x77, 9), Src: addr("10.1.2.3")}
	want = map[string]any{"segment_kind": "SEGMENT_OTHER", "segment": 9., "segment_id": "8574853690513424393", "src_addr": "CgECAw==", "proto": 1., "icmp_type": 3., "icmp_code": 4., "sampling": 1.}
	if diff := cmp.Diff(want, f.Read(t, "Flow", AppendFlow(nil, &r))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var batch, room []byte
	for range 3 {
		batch, room = AppendBatchFlow(batch, room, &r)
	}
	if diff := cmp.Diff(map[string]any{"flows": []any{want, want, want}}, f.Read(t, "FlowBatch", batch)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every field of a record has a place in the message: a record with one field set is longer than one without.
func TestFlowTellsEveryField(t *testing.T) {
	one := reflect.ValueOf(full())
	empty := AppendFlow(nil, &flow.Record{Direction: 255})
	for i := range one.NumField() {
		if one.Field(i).IsZero() {
			continue // ICMP, in another test
		}
		r := flow.Record{Direction: 255}
		reflect.ValueOf(&r).Elem().Field(i).Set(one.Field(i))
		if got := AppendFlow(nil, &r); string(got) == string(empty) {
			t.Errorf("%s is not told", one.Type().Field(i).Name)
		}
	}
}

// goflow2's own file, read by protoc, decodes the message.
func TestGoflow2(t *testing.T) {
	f := protocheck.Goflow2(t)
	r := full()
	want := map[string]any{
		"type": "IPFIX", "time_received_ns": "1772600769890000005", "sampling_rate": "64", "sampler_address": "wAACBw==", "time_flow_start_ns": "1772600767890000000",
		"time_flow_end_ns": "1772600769390000000", "bytes": "64000", "packets": "640", "src_addr": "IAENuAAAAAAAAAAAAAAAAQ==", "dst_addr": "IAENuAAAAAAAAAAAAAAAAg==",
		"etype": 34525., "proto": 6., "src_port": 50123., "dst_port": 443., "in_if": 21., "out_if": 22., "src_mac": "2199023255553", "dst_mac": "2199023255807",
		"src_vlan": 100., "vlan_id": 100., "ip_tos": 72., "ip_ttl": 62., "tcp_flags": 27., "mpls_label": []any{16001.}, "observation_domain_id": 70000., "observation_point_id": 8.,
	}
	if diff := cmp.Diff(want, f.Read(t, "FlowMessage", AppendGoflow2(nil, &r))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r = flow.Record{Proto: 1, ICMPTypeCode: 0x0800}
	if diff := cmp.Diff(map[string]any{"type": "IPFIX", "sampling_rate": "1", "proto": 1., "icmp_type": 8.}, f.Read(t, "FlowMessage", AppendGoflow2(nil, &r))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The fields are those of the flows report, in its order.
func TestJSON(t *testing.T) {
	r := full()
	const want = `{"start":"2026-03-04T05:06:07.89Z","end":"2026-03-04T05:06:09.39Z","received":"2026-03-04T05:06:09.89Z","exporter":"192.0.2.7","domain":70000,` +
		`"observer":"esx1 \"vSwitch0\"","role":"tunnel","direction":"egress","canonical":true,"segment":"geneve:5001","vni":5001,"fabric":"default","tenant":"red",` +
		`"src_vtep":"10.0.0.1","dst_vtep":"10.0.0.2","src_host":"esx1","dst_host":"esx2","src_vm":"web-1","dst_vm":"db-1","src_vm_id":"id-1","dst_vm_id":"id-2",` +
		`"src_addr":"2001:db8::1","dst_addr":"2001:db8::2","src_port":50123,"dst_port":443,"proto":"tcp","app":"https","src_mac":"02:00:00:00:00:01",` +
		`"dst_mac":"02:00:00:00:00:ff","vlan":100,"ethertype":34525,"tos":72,"min_ttl":62,"max_ttl":64,"tcp_flags":"SAPF","icmp":"","in_if":21,"out_if":22,"packets":640,` +
		`"octets":64000,"l2_octets":72960,"sampling":64,"end_reason":"detected","flow_id":"0123456789abcdef","marks":["sampled","gap","borrowed"],` +
		`"in_if_name":"eth1","out_if_name":"eth2","vrf":"red-vrf","src_tenant":"red","dst_tenant":"blue","app_how":"tls","app_name":"db.example","min_len":40,"max_len":1500,"rtt_us":1200,"retransmits":6,"zero_windows":9,"fragments":5,"inner_vlan":7,"src_vif":3,"dst_vif":4,"mpls":16001,"extra":["postNATSourceIPv4Address=10.0.0.1"]}`
	got := string(AppendJSON(nil, &r))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var names, reported []string
	d := json.NewDecoder(strings.NewReader(got))
	for depth := 0; ; {
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch v := tok.(type) {
		case json.Delim:
			depth += map[json.Delim]int{'{': 1, '[': 1, '}': -1, ']': -1}[v]
		case string:
			if depth == 1 && strings.Contains(got, `"`+v+`":`) && !slices.Contains(names, v) {
				names = append(names, v)
			}
		}
	}
	for i := range reflect.TypeFor[report.Flow]().NumField() {
		reported = append(reported, reflect.TypeFor[report.Flow]().Field(i).Tag.Get("json"))
	}
	if diff := cmp.Diff(reported, names); diff != "" {
		t.Errorf("names (-report +line):\n%s", diff)
	}
	for name, r := range map[string]flow.Record{"empty": {}, "odd names": {Observer: "\x00\xff<é\u2028\\", SrcVM: "\n"}, "icmp6": {Proto: 58, ICMPTypeCode: 0x8700}} {
		var f report.Flow
		if err := json.Unmarshal(AppendJSON(nil, &r), &f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDoNotAllocate(t *testing.T) {
	r := full()
	r.MPLS, r.Observer = 0, "esx1"
	b, room := make([]byte, 0, 4096), make([]byte, 0, 4096)
	f := func(name string, do func()) {
		t.Helper()
		if n := testkit.Allocs(100, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	f("Flow", func() { b = AppendFlow(b[:0], &r) })
	f("FlowBatch", func() { b, room = AppendBatchFlow(b[:0], room, &r) })
	f("goflow2", func() { b = AppendGoflow2(b[:0], &r) })
	r.Extra = ""
	f("JSON", func() { b = AppendJSON(b[:0], &r) })
}

func BenchmarkFlow(b *testing.B) {
	r := full()
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = AppendFlow(buf[:0], &r)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkJSON(b *testing.B) {
	r := full()
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = AppendJSON(buf[:0], &r)
	}
	b.SetBytes(int64(len(buf)))
}
