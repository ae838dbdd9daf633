package serve

import (
	"context"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// rates tells what machines send and receive from stored flows.
type rates struct{ reports report.Reporter }

// ratesFrom is how far back rates are looked for, and ratesWait how long one may take.
const (
	ratesFrom = 24 * time.Hour
	ratesWait = 10 * time.Second
)

// Expect implements plan.Rates: the machines' flows of the last day, those under the filter when the flow language can say it. The average is
// that since the first of them.
func (r rates) Expect(vms []string, _ []flow.MAC, dir platform.Direction, packets string) (plan.Rate, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), ratesWait)
	defer cancel()
	filter, asked, all := vmFilter(vms, dir)
	if packets != "" {
		filter += " and (" + packets + ")"
		if report.CheckFilter(filter) != nil {
			return plan.Rate{}, false // said in words that flows have not
		}
	}
	now := time.Now()
	q := report.Query{Since: now.Add(-ratesFrom), Until: now, Filter: filter, By: []string{"proto"}, Limit: 100}
	t, err := r.reports.Top(ctx, q)
	if err != nil || len(t.Rows) == 0 {
		return plan.Rate{}, false
	}
	var bits, count float64
	for _, row := range t.Rows {
		bits += 8 * float64(max(row.L2Octets, row.Octets))
		count += float64(row.Packets)
	}
	q.By, q.Step, q.Metric, q.Limit = nil, time.Minute, "l2_octets", 0
	span, peak := ratesFrom, 0.0
	if series, err := r.reports.Series(ctx, q); err == nil {
		span, peak = busy(&series, now)
	}
	out := plan.Rate{BPS: bits / span.Seconds(), PPS: count / span.Seconds(), Of: "flows of the last " + spanText(span)}
	out.Peak = max(out.BPS, peak)
	if asked < all {
		part := float64(all) / float64(asked)
		out.BPS, out.PPS, out.Peak = out.BPS*part, out.PPS*part, out.Peak*part
		out.Of += fmt.Sprintf(", of %d of %d machines", asked, all)
	}
	return out, true
}

// busy returns for how long there have been flows, and the rate of the busiest minute.
func busy(s *report.Series, now time.Time) (span time.Duration, peak float64) {
	first := now.Add(-ratesFrom)
	for i := range s.Lines {
		peak = max(peak, s.Lines[i].Max)
	}
	for i, at := range s.Times {
		if slices.ContainsFunc(s.Lines, func(l report.Line) bool { return i < len(l.Values) && l.Values[i] > 0 }) {
			first = at
			break
		}
	}
	return min(max(now.Sub(first), time.Minute), ratesFrom), peak
}

// spanText writes a time as people do: "24 h", "35 min".
func spanText(d time.Duration) string {
	if d >= 2*time.Hour {
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// vmFilter is the flow filter for what machines by name send, receive, or both. A filter has its limits: of many the first are asked for and
// stand for all.
func vmFilter(vms []string, dir platform.Direction) (text string, asked, all int) {
	const most = 200
	names := slices.Clone(vms)
	slices.Sort(names)
	names = slices.Compact(names)
	all, asked = len(names), min(len(names), most)
	text = map[platform.Direction]string{platform.Ingress: "src.vm", platform.Egress: "dst.vm"}[dir]
	if text == "" {
		text = "vm"
	}
	text += " in ("
	for i, n := range names[:asked] {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", n)
	}
	return text + ")", asked, all
}
