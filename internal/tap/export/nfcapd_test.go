package export

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/testkit"
)

// nfcapd stores what we export without complaint, in both profiles, and nfdump reads the same flows.
func TestNfcapdStoresOurExport(t *testing.T) {
	f := func(p ipfix.Profile, src, dst string, proto, dstPort int) {
		t.Helper()
		port := testkit.Port(t)
		stop := testkit.Nfcapd(t, "nfcapd", port)
		l := start(t, t.Context(), config(Target{Host: "127.0.0.1", Port: uint16(port), Profile: p, Domain: 7, Refresh: time.Minute}))
		l.in <- overlay(100)
		l.end(t)
		text, got := stop()
		if !strings.Contains(text, "Flows: 100, Packets: 300, Bytes: 15000, Sequence Errors: 0, Bad Packets: 0") {
			t.Errorf("%s: nfcapd says:\n%s", p, text)
		}
		for line := range strings.Lines(text) {
			if known := strings.HasPrefix(line, "Process_ipfix: New ipfix exporter") || strings.HasPrefix(line, "Ident:") ||
				strings.HasPrefix(line, "Terminating") || strings.TrimSpace(line) == ""; !known {
				t.Errorf("%s: nfcapd complains: %s", p, line)
			}
		}
		if len(got) != 100 {
			t.Fatalf("%s: nfdump has %d flows", p, len(got))
		}
		want := map[string]any{
			"src4_addr": src, "dst4_addr": dst, "proto": float64(proto), "dst_port": float64(dstPort), "in_packets": 3.0, "in_bytes": 150.0,
			"input_snmp": 4.0, "in_src_mac": "02:00:00:00:00:01", "in_dst_mac": "02:00:00:00:00:02", "src_vlan": 10.0, "direction": 1.0,
			"first": "2026-03-01T12:00:01.250", "last": "2026-03-01T12:00:02.500",
		}
		for k := range got[0] {
			if _, ok := want[k]; !ok {
				delete(got[0], k)
			}
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s: (-sent +nfdump):\n%s", p, diff)
		}
	}
	t.Setenv("TZ", "UTC") // nfdump prints local times
	f(ipfix.OVS, "10.0.0.1", "10.0.0.2", 6, 443)
	f(ipfix.VMware, "192.0.2.1", "192.0.2.2", 17, 4789)
}

// overlay returns n flows of a VXLAN tenant.
func overlay(n int) []flow.Record {
	recs := records(n)
	for i := range recs {
		r := &recs[i]
		at := time.Date(2026, 3, 1, 12, 0, 1, 250e6, time.UTC).UnixNano()
		r.StartNS, r.EndNS, r.InIf, r.VLAN, r.Direction = at, at+1250e6, 4, 10, 1
		r.SrcMAC, r.DstMAC = 0x020000000001, 0x020000000002
		r.Proto, r.DstPort, r.Packets, r.Octets = 6, 443, 3, 150
		r.Segment = flow.NewSegment(flow.KindVXLAN, 5001)
		r.Tunnel = flow.Tunnel{
			Src: flow.FromNetip(netip.MustParseAddr("192.0.2.1")), Dst: flow.FromNetip(netip.MustParseAddr("192.0.2.2")),
			SrcPort: 50000, DstPort: 4789, Proto: 17, Type: 1,
		}
	}
	return recs
}
