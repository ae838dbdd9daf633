package report_test

import (
	"encoding/json"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"
)

// t0 is the start of the test's time: 2026-11-21 10:00:00 UTC.
var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func stored(t testing.TB, recs []flow.Record) *report.Reports {
	t.Helper()
	s, err := segment.Open(segment.Config{Dir: t.TempDir(), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return report.New(s)
}

func TestThreeObserversCountOnce(t *testing.T) {
	web, db := flow.V4([]byte{10, 0, 0, 1}), flow.V4([]byte{10, 0, 0, 2})
	vtep1, vtep2 := flow.V4([]byte{10, 200, 0, 1}), flow.V4([]byte{10, 200, 0, 2})
	fwd := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(10 * time.Second).UnixNano(), Proto: 6, Src: web, Dst: db, SrcPort: 40000, DstPort: 5432,
		Packets: 10, Octets: 1000, FlowID: 1, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1",
		SrcHost: "h1", DstHost: "h2", Tenant: "blue", Fabric: "default", App: "postgres", Observer: "h1 mirror", Role: flow.RoleMirror, Marks: flow.MarkCanonical, TCPFlags: 0x1b}
	tun := fwd
	tun.Observer, tun.Role, tun.Marks, tun.Tunnel, tun.Segment = "h2 tunnel", flow.RoleTunnel, 0, flow.Tunnel{Src: vtep1, Dst: vtep2}, fwd.Segment
	vnic := fwd
	vnic.Observer, vnic.Role, vnic.Marks, vnic.SrcVM, vnic.Segment = "db-1 agent", flow.RoleVNIC, 0, "", 0
	rev := fwd
	rev.Src, rev.Dst, rev.SrcPort, rev.DstPort, rev.SrcVM, rev.DstVM, rev.SrcHost, rev.DstHost = db, web, 5432, 40000, "db-1", "web-1", "h2", "h1"
	rev.FlowID, rev.Packets, rev.Octets, rev.Client = 2, 5, 5000, flow.ClientDst
	r := stored(t, []flow.Record{fwd, tun, vnic, rev})
	got, err := r.Pairs(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.MarshalIndent(got, "", " ")
	t.Logf("%s", text)
	f, err := r.Flows(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	text, _ = json.MarshalIndent(f.Meta, "", " ")
	t.Logf("%s %v", text, f.Rows[0])
}
