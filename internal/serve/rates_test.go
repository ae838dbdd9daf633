package serve

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/control/platform"
)

// told is a store that has seen 6,000 packets of 1,000 bytes in the last ten minutes, most of them in one.
type told struct {
	report.Reporter
	filter string
}

func (r *told) Top(_ context.Context, q report.Query) (report.Top, error) {
	r.filter = q.Filter
	var t report.Top
	t.Rows = append(t.Rows, report.TopRow{})
	t.Rows[0].L2Octets, t.Rows[0].Packets = 6_000_000, 6000
	return t, nil
}

func (r *told) Series(_ context.Context, q report.Query) (report.Series, error) {
	s := report.Series{Lines: []report.Line{{Max: 1e6}}}
	for at := q.Since; at.Before(q.Until); at = at.Add(q.Step) {
		s.Times = append(s.Times, at)
		value := 0.0
		if q.Until.Sub(at) <= 10*time.Minute {
			value = 1
		}
		s.Lines[0].Values = append(s.Lines[0].Values, value)
	}
	return s, nil
}

func TestExpectedRates(t *testing.T) {
	store := &told{}
	f := func(vms int, dir platform.Direction, packets, filter, of string, bps, peak float64) {
		t.Helper()
		var names []string
		for i := range vms {
			names = append(names, fmt.Sprintf("vm%03d", i))
		}
		r, ok := rates{store}.Expect(names, nil, dir, packets)
		near := func(got, want float64) bool { return got > 0.99*want && got < 1.01*want }
		if !ok || !strings.HasPrefix(store.filter, filter) || r.Of != of || !near(r.BPS, bps) || !near(r.Peak, peak) || !near(r.PPS, bps/8000) {
			t.Errorf("%s: %+v, %v", store.filter, r, ok)
		}
	}
	// 48 Mbit in ten minutes
	f(2, platform.Both, "", `vm in ("vm000", "vm001")`, "flows of the last 10 min", 80e3, 1e6)
	f(1, platform.Ingress, "udp port 53", `src.vm in ("vm000") and (udp port 53)`, "flows of the last 10 min", 80e3, 1e6)
	f(1, platform.Egress, "", `dst.vm in ("vm000")`, "flows of the last 10 min", 80e3, 1e6)
	f(400, platform.Both, "", `vm in ("vm000", "vm001", `, "flows of the last 10 min, of 200 of 400 machines", 160e3, 2e6)
	if r, ok := (rates{store}).Expect([]string{"a"}, nil, platform.Both, "tcp[20] = 5"); ok {
		t.Errorf("a filter that flows cannot tell: %+v", r)
	}
}
