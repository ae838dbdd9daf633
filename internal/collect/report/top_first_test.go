package report_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

// TestTopByAddress: an answer of which the first rows are found first is the one that is worked out at once, whatever is counted, also for ranges that cut hours.
func TestTopByAddress(t *testing.T) {
	r, _ := offHourOf(t, func(r *flow.Record) { // inventory does not know some
		if strings.HasSuffix(r.SrcVM, "-0") {
			r.SrcVM, r.SrcVMID = "", ""
		}
		if strings.HasSuffix(r.DstVM, "-0") {
			r.DstVM, r.DstVMID = "", ""
		}
	})
	f := func(metric, filter string, limit int, by ...string) {
		t.Helper()
		q := report.Query{By: by, Metric: metric, Filter: filter, Limit: limit, Since: t0.Add(-16*time.Hour + 9*time.Minute), Until: t0.Add(3*time.Hour - 20*time.Minute)}
		want, err := r.Top(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer report.Slice(20)()
		got, err := r.Top(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, fmt.Sprint(metric, " by ", by, " ", filter), document(t, got), document(t, want))
	}
	f("", "", 5, "src.ip")
	f("packets", `src.vm like "%-1"`, 16, "src.ip")
	f("rows", "vni = 5001", 50, "ip", "app")
	f("octets", "tenant = nobody", 3, "dst.ip")
	f("retransmits", "", 4, "src.ip", "dst.ip", "dst.port")
}
