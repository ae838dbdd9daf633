package report

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/flow"
)

const (
	topRows = 10
	dayMS   = int64(24 * time.Hour / time.Millisecond)
)

// Overview implements Reporter. A pair is new when it was seen in the last 24 hours before Until
// (inside the time range) and not in the 24 hours before those.
func (r *Reports) Overview(ctx context.Context, q Query) (Overview, error) {
	q.Sort, q.Limit = "", topRows
	a, err := check(q, topRows)
	if err != nil {
		return Overview{}, err
	}
	order, err := a.order(pairSort, "-octets", pairTie)
	if err == nil {
		err = a.rollPairs()
	}
	if err != nil {
		return Overview{}, err
	}
	a.lookbackMS = min(a.backTo(), a.untilMS-2*dayMS)
	var out Overview
	err = r.with(ctx, a, func() error {
		out, err = a.overview(ctx, r, order)
		return err
	})
	if err != nil {
		return Overview{}, err
	}
	return out, r.seen(ctx, q, &out)
}

// seen says how much of what adapters counted is observed, as Coverage does. Where nothing is counted, flows are not read for it.
func (r *Reports) seen(ctx context.Context, q Query, out *Overview) error {
	if r.counters.Load() == nil {
		return nil
	}
	if q.Filter != "" {
		out.CoverageReason = "unknown: not with a filter, as counters tell no flows apart"
		return nil
	}
	c, err := r.coverage(ctx, Query{Since: q.Since, Until: q.Until, Resolution: q.Resolution}, true)
	if err != nil {
		return err
	}
	out.CoverageRatio, out.CoverageReason = c.Ratio, c.Reason
	return nil
}

func (a *ask) overview(ctx context.Context, r *Reports, order string) (Overview, error) {
	top, err := a.pairs(ctx, r, order)
	if err != nil {
		return Overview{}, err
	}
	out := Overview{Meta: top.Meta, Pairs: top.Meta.Total.Rows, TopPairs: top.Rows, CoverageReason: noCounters,
		Observers: []ObserverRow{}, TopSegments: []SegmentTotal{}}
	out.Meta.Report = "overview"
	workloads := []string{"fabric", "segment", "tenant", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id"}
	defer func() { a.rows, a.need = nil, nil }()
	for _, part := range []struct {
		rows, need []string
		ask        func(context.Context, *Overview) error
	}{
		{pairRows, append(workloads, "src_host", "dst_host"), a.headline}, {pairRows, workloads, a.newPairs}, {nil, []string{}, a.lastMinute}, {nil, []string{}, a.observerRows}, {pairRows, workloads[:3], a.topSegments},
	} {
		a.args, a.rows, a.need = nil, part.rows, part.need
		if err := part.ask(ctx, &out); err != nil {
			return Overview{}, err
		}
	}
	return out, nil
}

// sums gives the steps to what sums read in the time range, and its name; addresses of unknown workloads are not in it.
func (a *ask) sums() (steps, table string) {
	if a.step != 0 {
		a.linked = true
		defer func() { a.linked = false }()
		return a.facts(a.sinceMS, a.untilMS), "x"
	}
	return a.logical(a.sinceMS, a.untilMS) + ",\nx AS NOT MATERIALIZED (SELECT * FROM l WHERE " + canonical + ")", "x"
}

// headline counts tenants, segments and VMs and the two shares.
func (a *ask) headline(ctx context.Context, out *Overview) error {
	steps, sums := a.sums()
	query := steps + `,
c AS MATERIALIZED (SELECT fabric, segment, tenant, src_vm, dst_vm, ` + srcWho + ` AS src_who, ` + dstWho + ` AS dst_who, src_host, dst_host, sum(octets) AS octets FROM ` + sums + ` GROUP BY ALL)
SELECT count(DISTINCT (fabric, tenant)) FILTER (tenant <> ''), count(DISTINCT (fabric, segment)) FILTER (segment <> 0),
  (SELECT count(*) FROM (SELECT fabric, src_who FROM c WHERE src_who <> '' UNION SELECT fabric, dst_who FROM c WHERE dst_who <> '')),
  coalesce(sum(octets), 0)::UBIGINT, coalesce(sum(octets) FILTER (src_host = dst_host AND src_host <> ''), 0)::UBIGINT,
  coalesce(sum(octets) FILTER (src_vm = '' OR dst_vm = ''), 0)::UBIGINT FROM c`
	return a.each(ctx, query, func(rows *sql.Rows) error {
		var all, same, unknown uint64
		if err := rows.Scan(&out.Tenants, &out.Segments, &out.VMs, &all, &same, &unknown); err != nil {
			return err
		}
		if all > 0 {
			s, u := share(same, all), share(unknown, all)
			out.SameHostRatio, out.UnknownRatio = &s, &u
		}
		return nil
	})
}

func (a *ask) newPairs(ctx context.Context, out *Overview) error {
	cut := a.untilMS - dayMS
	if a.rollsLong() {
		return a.newRolled(ctx, span{max(a.sinceMS, cut), a.untilMS}, span{cut - dayMS, cut}, &out.NewPairs)
	}
	query := a.logical(min(a.sinceMS, cut-dayMS), a.untilMS) + fmt.Sprintf(`,
p AS (SELECT min(t_end) FILTER (t_end >= %[3]s) AS first, max(t_end) AS last FROM l WHERE %[4]s GROUP BY fabric, segment,
  if((src, %[5]s) > (dst, %[6]s), (dst, %[6]s, src, %[5]s), (src, %[5]s, dst, %[6]s)))
SELECT count(*) FROM p WHERE first >= %[1]s AND last >= %[2]s`, ts(cut), ts(a.sinceMS), ts(cut-dayMS), canonical, srcWho, dstWho)
	return a.each(ctx, query, func(rows *sql.Rows) error { return rows.Scan(&out.NewPairs) })
}

// rollsLong reports whether roll-ups know all that the filter asks for, and there is enough stored for them to pay.
func (a *ask) rollsLong() bool {
	oldest, _, ok := a.view.RollupExtent()
	return ok && a.Resolution != "raw" && a.untilMS-oldest/1e6 >= rollupFrom.Milliseconds() &&
		!slices.ContainsFunc(a.cond.expr.Fields(), func(f *filter.Field) bool { return !inRollup(f) })
}

// newRolled counts the pairs of a time that were not there in the one before.
func (a *ask) newRolled(ctx context.Context, cur, before span, n *uint64) error {
	defer func(step time.Duration) { a.step = step }(a.step)
	a.step = time.Hour
	parts, err := a.slices(ctx, span{before.from, cur.to})
	if err != nil {
		return err
	}
	return a.overSlices(parts, func() error {
		query := a.factsOf(cur, before) + "\nSELECT count(*) FROM (SELECT bool_or(cur) AS now, bool_or(NOT cur) AS was FROM x GROUP BY " + pairKey + ") WHERE now AND NOT was"
		return a.each(ctx, query, func(rows *sql.Rows) error {
			var some uint64
			err := rows.Scan(&some)
			*n += some
			return err
		})
	})
}

// lastMinute is the rate over the last minute of the time range.
func (a *ask) lastMinute(ctx context.Context, out *Overview) error {
	from := max(a.sinceMS, a.untilMS-60_000)
	query := a.observed(fmt.Sprintf("t_end >= %s AND t_start < %s", ts(from), ts(a.untilMS))) + `
SELECT coalesce(sum((` + spread("n", fmt.Sprint(a.untilMS)) + `) - (` + spread("n", fmt.Sprint(from)) + `)), 0)::DOUBLE
  FROM (SELECT octets AS n, epoch_ms(t_start) AS s, epoch_ms(t_end) AS e FROM l WHERE ` + canonical + `)`
	return a.each(ctx, query, func(rows *sql.Rows) error {
		var octets float64
		err := rows.Scan(&octets)
		out.BitsPerSecond = octets * 8 * 1000 / float64(a.untilMS-from)
		return err
	})
}

func (a *ask) observerRows(ctx context.Context, out *Overview) error {
	lost := map[string]uint64{}
	for _, g := range a.gaps() {
		if g.Scope == "exporter" {
			lost[g.Who] += g.LostRecords
		}
	}
	query := a.observed(fmt.Sprintf("t_end >= %s AND t_end < %s", ts(a.sinceMS), ts(a.untilMS))) + `
SELECT ` + observerName + ` AS name, role, observer_host, exporter::VARCHAR, domain, count(*), sum(octets)::UBIGINT,
  coalesce(sum(octets) FILTER (` + canonical + `), 0)::UBIGINT, max(t_end) FROM l
  GROUP BY name, role, observer_host, exporter, domain ORDER BY 7 DESC, 1, 2, 3, 4, 5 LIMIT 1000`
	return a.each(ctx, query, func(rows *sql.Rows) error {
		var o ObserverRow
		var role uint8
		if err := rows.Scan(&o.Observer, &role, &o.Host, &o.Exporter, &o.Domain, &o.Rows, &o.Octets, &o.Canonical, &o.LastSeen); err != nil {
			return err
		}
		o.Observer, o.Role, o.Exporter, o.LastSeen = observerText(o.Observer), flow.Role(role).String(), addrText(o.Exporter), o.LastSeen.UTC()
		o.LostRecords = lost[o.Observer]
		if o.LostRecords == 0 && o.Exporter != "" {
			o.LostRecords = lost[o.Exporter]
		}
		out.Observers = append(out.Observers, o)
		return nil
	})
}

func (a *ask) topSegments(ctx context.Context, out *Overview) error {
	steps, sums := a.sums()
	tenant := latest("tenant", "''")
	if a.step != 0 {
		tenant = "arg_max(tenant, (last, tenant)) FILTER (WHERE tenant <> '')"
		sums = "(SELECT fabric, segment, tenant, max(last) AS last, sum(octets) AS octets, sum(packets) AS packets FROM " + sums + " GROUP BY fabric, segment, tenant)"
	}
	query := steps + `
SELECT segment, ` + tenant + `, sum(octets)::UBIGINT AS o, sum(packets)::UBIGINT FROM ` + sums + `
  GROUP BY fabric, segment ORDER BY o DESC, fabric, segment LIMIT ` + fmt.Sprint(topRows)
	return a.each(ctx, query, func(rows *sql.Rows) error {
		var s SegmentTotal
		var seg uint64
		var tenant sql.NullString
		if err := rows.Scan(&seg, &tenant, &s.Octets, &s.Packets); err != nil {
			return err
		}
		s.Segment, s.VNI, s.Tenant = segmentText(flow.Segment(seg)), flow.Segment(seg).Number(), tenant.String
		out.TopSegments = append(out.TopSegments, s)
		return nil
	})
}
