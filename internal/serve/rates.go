package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/report/filter"
	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// rates tells what machines send and receive from stored flows.
type rates struct {
	reports report.Reporter
	sums    *sums
}

func newRates(r report.Reporter) rates {
	return rates{reports: r, sums: &sums{known: map[sumsKey]sumsAnswer{}}}
}

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
	flows, asked, all := vmFilter(vms, dir)
	if packets != "" {
		flows += " and (" + packets + ")"
		if report.CheckFilter(flows) != nil {
			return plan.Rate{}, false // said in words that flows have not
		}
	}
	now := time.Now()
	q := report.Query{Since: now.Add(-ratesFrom), Until: now, Filter: flows, By: []string{"proto"}, Limit: 100}
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

// passingFor is how long an answer of Passing stands: consoles ask every few seconds.
const passingFor = time.Minute

// sums are the octets that machines have sent or received under filters, as they were told last.
type sums struct {
	mu    sync.Mutex
	known map[sumsKey]sumsAnswer
}

type sumsKey struct {
	dir    platform.Direction
	filter string
}

type sumsAnswer struct {
	at     time.Time
	first  time.Time // flow
	octets map[string]float64
}

// maxSums bounds the answers that are kept, and mostMachines those in one.
const (
	maxSums      = 1000
	mostMachines = 100_000
)

// Passing implements plan.Rates: by the machines' flows of the last day. Where adapters are counted too, what flows have not seen of a machine
// may pass or not; where they are not, flows that all pass tell nothing: perhaps others are not metered.
func (r rates) Passing(dir platform.Direction, packets string) plan.Passing {
	ctx, cancel := context.WithTimeout(context.Background(), ratesWait)
	defer cancel()
	if !byFlows(packets) {
		return plan.Passing{Why: "flows do not tell it"}
	}
	all, err := r.octets(ctx, dir, "")
	if err == nil && len(all.octets) == 0 {
		return plan.Passing{Why: "no flows are stored of any machine"}
	}
	some, again := r.octets(ctx, dir, packets)
	if err = errors.Join(err, again); err != nil {
		return plan.Passing{Why: "stored flows could not be asked: " + err.Error()}
	}
	seen := r.metered(ctx)
	out := plan.Passing{VMs: make(map[string]plan.Within, len(all.octets)), Of: "flows of the last " + spanText(max(all.at.Sub(all.first), time.Minute))}
	for vm, total := range all.octets {
		part := 1.0
		if total > 0 {
			part = min(1, some.octets[vm]/total)
		}
		switch m, counted := seen[vm]; {
		case counted:
			out.VMs[vm] = plan.Within{Least: m * part, Most: m*part + 1 - m}
		case part == 1:
			out.VMs[vm] = plan.Within{Most: 1}
		default:
			out.VMs[vm] = plan.Within{Least: part, Most: part}
		}
	}
	return out
}

// byFlows reports whether stored flows tell what a packet filter asks for. What depends on the observer is not told of every flow.
func byFlows(packets string) bool {
	e, err := filter.Parse(packets)
	return err == nil && !slices.ContainsFunc(e.Fields(), func(f *filter.Field) bool { return f.Level == filter.Observation })
}

// octets returns what each machine has sent or received under a filter since a day.
func (r rates) octets(ctx context.Context, dir platform.Direction, packets string) (sumsAnswer, error) {
	key, now := sumsKey{dir, packets}, time.Now()
	r.sums.mu.Lock()
	old, ok := r.sums.known[key]
	r.sums.mu.Unlock()
	if ok && now.Sub(old.at) < passingFor {
		return old, nil
	}
	by := map[platform.Direction]string{platform.Ingress: "src.vm", platform.Egress: "dst.vm"}[dir]
	t, err := r.reports.Top(ctx, report.Query{Since: now.Add(-ratesFrom), Until: now, Filter: packets, By: []string{by}, Metric: "l2_octets", Limit: mostMachines})
	if err != nil {
		return sumsAnswer{}, err
	}
	if len(t.Rows) == mostMachines {
		return sumsAnswer{}, fmt.Errorf("there are more than %d machines", mostMachines-1)
	}
	out := sumsAnswer{at: now, first: now, octets: make(map[string]float64, len(t.Rows))}
	for _, row := range t.Rows {
		if row.Key[0] == "" {
			continue
		}
		out.octets[row.Key[0]] += float64(max(row.L2Octets, row.Octets))
		if row.FirstSeen.Before(out.first) {
			out.first = row.FirstSeen
		}
	}
	r.sums.mu.Lock()
	defer r.sums.mu.Unlock()
	if len(r.sums.known) >= maxSums {
		clear(r.sums.known)
	}
	r.sums.known[key] = out
	return out, nil
}

// metered returns which part of the octets of machines flows have seen, of those whose adapters are counted.
func (r rates) metered(ctx context.Context) map[string]float64 {
	now := time.Now()
	c, err := r.reports.Coverage(ctx, report.Query{Since: now.Add(-ratesFrom), Until: now, By: []string{"vm"}, Limit: mostMachines})
	out := map[string]float64{}
	if err != nil || c.Counted == nil {
		return out
	}
	for _, row := range c.Rows {
		if row.VM != "" && row.Ratio != nil {
			out[row.VM] = min(1, *row.Ratio)
		}
	}
	return out
}
