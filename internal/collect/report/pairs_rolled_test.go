package report_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

// TestPairsRolled: roll-ups give the same pairs, sums and names as rows, whatever the order; flows are counted by the hour, here with clients
// that change from row to row.
func TestPairsRolled(t *testing.T) {
	r := stored(t, listedRecords())
	f := func(filter, sort string, limit int) {
		t.Helper()
		q := report.Query{Since: times[0].Since, Until: times[0].Until, Filter: filter, Sort: sort, Limit: limit, Resolution: "raw"}
		want, err := r.Pairs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		q.Resolution = "1h"
		got, err := r.Pairs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Rows) == 0 || len(want.Rows) != len(got.Rows) {
			t.Fatalf("%q by %s: %d pairs from roll-ups, %d from rows", filter, sort, len(got.Rows), len(want.Rows))
		}
		for i := range want.Rows {
			w, g := &want.Rows[i], &got.Rows[i]
			if g.Flows == 0 || g.Flows > 2*w.Flows {
				t.Errorf("pair %d: %d flows, by rows %d", i, g.Flows, w.Flows)
			}
			g.Flows, g.Conversations, w.Spark, g.Spark = w.Flows, w.Conversations, nil, nil // a roll-up's octets are spread over its time
		}
		compare(t, "pairs "+filter+" by "+sort, got.Rows, want.Rows)
		w, g := want.Meta.Total, got.Meta.Total
		if w.Rows != g.Rows || w.Octets != g.Octets || w.Packets != g.Packets || got.Meta.Resolution != "1h" || want.Meta.Resolution != "raw" {
			t.Errorf("%q by %s: total %+v, by rows %+v; resolutions %s and %s", filter, sort, g, w, got.Meta.Resolution, want.Meta.Resolution)
		}
	}
	f("", "", 0)
	f("", "", 3)
	f("", "-packets", 5)
	f("", "first_seen", 5)
	f("", "src_vm", 5)
	f("vni = 5001", "-octets_rev", 4)
	f("tenant = blue and not vm like \"db%\"", "", 0)
}

// TestRollupsSayWhatTheyLack: what roll-ups count otherwise than rows stands in the answer: a pair with flows of which each was seen in one
// direction only, and a machine that moved to another tunnel endpoint.
func TestRollupsSayWhatTheyLack(t *testing.T) {
	one := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.UnixNano() + 1e9, RecvNS: t0.UnixNano() + 2e9, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Src: flow.V4([]byte{10, 0, 0, 1}), Dst: flow.V4([]byte{10, 0, 0, 2}),
		SrcPort: 40001, DstPort: 80, Proto: 6, Packets: 10, Octets: 1000, Client: flow.ClientSrc, Tenant: "blue", Fabric: "default", Observer: "port", ObserverID: 1, FlowID: 1, Role: flow.RolePort, Marks: flow.MarkCanonical}
	other, tunnel := one, one
	other.Src, other.Dst, other.SrcPort, other.DstPort, other.Client, other.FlowID = one.Dst, one.Src, 80, 40002, flow.ClientDst, 2 // another conversation's answers
	tunnel.Observer, tunnel.ObserverID, tunnel.Role, tunnel.Marks = "tunnel", 2, flow.RoleTunnel, 0
	tunnel.Tunnel = flow.Tunnel{Src: flow.V4([]byte{10, 200, 0, 1}), Dst: flow.V4([]byte{10, 200, 0, 2}), Type: 1}
	later, moved := one, tunnel
	for _, r := range []*flow.Record{&later, &moved} {
		r.SrcPort, r.FlowID, r.StartNS, r.EndNS, r.RecvNS = 40003, 3, r.StartNS+60e9, r.EndNS+60e9, r.RecvNS+60e9
	}
	moved.Tunnel.Src = flow.V4([]byte{10, 200, 0, 3})
	r := stored(t, []flow.Record{one, other, tunnel, later, moved})
	f := func(resolution string, flows uint64, vteps int, notes ...string) {
		t.Helper()
		q := report.Query{Since: t0.Add(-time.Hour), Until: t0.Add(time.Hour), Resolution: resolution}
		p, err := r.Pairs(t.Context(), q)
		n, errN := r.Networks(t.Context(), q)
		tenants, errT := r.Things(t.Context(), "tenants", q)
		if err := errors.Join(err, errN, errT); err != nil {
			t.Fatal(err)
		}
		if p.Rows[0].Conversations != flows || len(n.Rows[0].VTEPs) != vteps {
			t.Errorf("%s: %d conversations, VTEPs %v", resolution, p.Rows[0].Conversations, n.Rows[0].VTEPs)
		}
		got := append(slices.Concat(p.Meta.Notes, n.Meta.Notes[1:]), tenants.Meta.Notes...)
		compare(t, resolution+": notes", got, notes)
		if tenants.Rows[0].OctetsSent != 2000 || tenants.Rows[0].OctetsReceived != 1000 {
			t.Errorf("%+v", tenants.Rows[0])
		}
	}
	const sent = "sent is what clients sent, received what servers sent back"
	f("raw", 3, 3, sent)
	f("1h", 2, 2, "flows and conversations are counted by hour and direction: one that lives in two hours counts in both, one that was seen in one direction only may not count",
		"of each pair the VTEPs that it had last in each hour are named; raw rows may know more", sent)
}
