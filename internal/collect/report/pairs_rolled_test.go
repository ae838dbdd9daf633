package report_test

import (
	"testing"

	"crosstap/internal/collect/report"
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
