package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/collect/store"
)

// Reports that sum up between workloads read facts: one row for each canonical row, or for what an hour of them adds up to. The
// step x has the columns
//
//	fabric, segment, tenant, src_tenant, src, dst, src_vm, src_vm_id, src_host, dst_…, app, proto, service_port, turn, first, last,
//	rows, octets, l2_octets, packets, marks, variance, sampled_rows, ambiguous_rows, fragments, retransmits, zero_windows,
//	rtt_n, rtt_sum, rtt_max, max_len
//
// turn says that a row goes from the server to the client. Each row tells it by itself: by its client, else the greater
// port is the client's.

// rollupFrom is the length of range from which roll-ups answer what they can.
const rollupFrom = 3 * time.Hour

// rolledUp are the columns that roll-ups have.
var rolledUp = []string{"fabric", "segment", "tenant", "src_tenant", "dst_tenant", "src", "dst", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host", "app", "proto"}

// resolve checks the resolution asked for.
func (a *ask) resolve() error {
	switch a.Resolution {
	case "", "auto", "raw", "1h":
		return nil
	}
	return &QueryError{"resolution", "there is no resolution " + quoteName(a.Resolution), "auto, raw or 1h"}
}

// useRollup decides whether roll-ups answer. fields are those that the answer is split by; can says that they have what it
// counts.
func (a *ask) useRollup(can bool, fields ...*filter.Field) error {
	a.rowwise = true
	for _, f := range append(slices.Clone(fields), a.cond.expr.Fields()...) {
		can = can && inRollup(f)
	}
	switch {
	case a.Resolution == "1h" && !can:
		return &QueryError{"resolution", "roll-ups do not hold all that is asked for", `use "raw", or "auto"`}
	case a.Resolution != "raw" && can && (a.Resolution == "1h" || a.untilMS-a.sinceMS >= rollupFrom.Milliseconds()):
		a.step = time.Hour
	}
	return nil
}

// inRollup reports whether a field means the same of a roll-up's row as of the rows that it stands for.
func inRollup(f *filter.Field) bool {
	if f.Name == "dst.port" {
		return true
	}
	return !slices.ContainsFunc(f.Stored(), func(c string) bool { return !slices.Contains(rolledUp, c) })
}

// resolution names what answered.
func (a *ask) resolution() string {
	if a.step == time.Hour {
		return "1h"
	}
	return "raw"
}

// rollup is the table expression of the roll-up for a range.
func (a *ask) rollup(fromMS, toMS int64) string {
	return a.view.Rollup(time.Hour, clampNS(fromMS), clampNS(toMS))
}

// sumsOf is the table expression of the roll-up for a range as far as the question is about it.
func (a *ask) sumsOf(fromMS, toMS int64) string {
	if a.table != "" {
		return a.table
	}
	p := store.Part{Links: a.linked && !a.cond.expr.Addressed(), Segments: a.segments, Addrs: a.addrs, Within: a.within, Single: a.single}
	if p.Segments == "" {
		p.Segments, p.Numbers = a.cond.expr.Certain()
	}
	if p.Addrs == nil {
		p.Addrs = a.cond.expr.Addrs()
	}
	return a.rollupPart(p, fromMS, toMS)
}

// rollupPart is the table expression of a part of the roll-up for a range.
func (a *ask) rollupPart(p store.Part, fromMS, toMS int64) string {
	p.FromNS, p.ToNS = clampNS(fromMS), clampNS(toMS)
	if v, ok := a.view.(store.PartView); ok {
		return v.RollupPart(p)
	}
	return a.rollup(fromMS, toMS)
}

// ofSums is the condition of the filter that leaves out most of a roll-up, where the store does not do that by itself.
func (a *ask) ofSums() string {
	if _, ok := a.view.(store.PartView); ok {
		if cond, _ := a.cond.expr.Certain(); cond != "" {
			return ""
		}
	}
	return and(a.cond.expr.Sums(a.target("r")))
}

// span is a time range in milliseconds, half open.
type span struct{ from, to int64 }

func (s span) ends(col string) string {
	return fmt.Sprintf("%[1]s >= %[2]s AND %[1]s < %[3]s", col, ts(s.from), ts(s.to))
}

// facts gives "WITH …, x AS (…)" for what ends in [fromMS, toMS).
func (a *ask) facts(fromMS, toMS int64) string { return a.factsOf(span{fromMS, toMS}, span{}) }

// factsOf gives the facts of a range and of one to compare with, told apart by the column cur.
func (a *ask) factsOf(cur, base span) string {
	if a.step != 0 {
		return a.rollupFacts(cur, base)
	}
	a.ends = true
	when := cur.ends("t_end")
	if base != (span{}) {
		when = "(" + when + " OR " + base.ends("t_end") + ")"
	}
	return a.logicalWhere(when) + `,
x AS ` + a.keepFacts() + ` (SELECT *, ` + cur.ends("t_end") + ` AS cur, if(turn, src_port, dst_port) AS service_port, t_start AS first, t_end AS last, 1::UBIGINT AS rows,
  if(sampling > 1, octets::DOUBLE * octets::DOUBLE * (sampling - 1)::DOUBLE / greatest(packets, 1)::DOUBLE, 0) AS variance,
  ((marks & 2) <> 0)::UBIGINT AS sampled_rows, ((marks & 8) <> 0)::UBIGINT AS ambiguous_rows,
  (rtt_us > 0)::UBIGINT AS rtt_n, rtt_us::UBIGINT AS rtt_sum, rtt_us AS rtt_max FROM l WHERE ` + canonical + `)`
}

func (a *ask) rollupFacts(cur, base span) string {
	cond, where := "", " WHERE rows > 0"+a.ofSums()
	if !a.cond.expr.Empty() {
		cond = a.cond.expr.Flows(a.target("r"))
	}
	table := "(SELECT *, true AS cur FROM " + a.sumsOf(cur.from, cur.to) + where + ")"
	if base != (span{}) {
		table = "(SELECT *, true AS cur FROM " + a.sumsOf(cur.from, cur.to) + where + " UNION ALL SELECT *, false FROM " + a.sumsOf(base.from, base.to) + where + ")"
	}
	return "WITH " + a.seenSteps() + fmt.Sprintf(`u AS NOT MATERIALIZED (SELECT *, CASE WHEN client = 1 THEN false WHEN client = 2 THEN true WHEN port_votes <> 0 THEN port_votes < 0 ELSE (%[4]s) END AS turn,
  if(turn, service_port, 0)::USMALLINT AS src_port, if(turn, 0, service_port)::USMALLINT AS dst_port, first_seen AS first, last_seen AS last
  FROM %[1]s WHERE true%[2]s),
x AS %[5]s (SELECT * FROM u WHERE true%[3]s)`, table, and(a.only), and(cond), swappedEnds, a.keepFacts())
}

// keepFacts says whether facts are worked out once for all that reads them.
func (a *ask) keepFacts() string {
	if _, ok := a.view.(store.PartView); ok && a.kept {
		return "MATERIALIZED"
	}
	return "NOT MATERIALIZED"
}

// base checks the period to compare with; without one it is the one of equal length before, when there shall be one.
func (a *ask) base(always bool) (span, error) {
	if a.BaseSince.IsZero() && a.BaseUntil.IsZero() {
		if !always {
			return span{}, nil
		}
		b := span{a.sinceMS - (a.untilMS - a.sinceMS), a.sinceMS}
		a.lookbackMS = min(a.backTo(), b.from)
		return b, nil
	}
	b := span{ceilMS(a.BaseSince), ceilMS(a.BaseUntil)}
	switch {
	case b.to <= b.from || b.from < -maxMS:
		return b, &QueryError{"base", "the period to compare with is empty", "base_from must be before base_to"}
	case b.to > a.sinceMS:
		return b, &QueryError{"base", "the period to compare with reaches into the range", "it must end before the range begins"}
	}
	a.lookbackMS = min(a.backTo(), b.from)
	return b, nil
}

// swappedEnds is swapped for rows without the ports of clients.
const swappedEnds = `src > dst OR (src = dst AND ` + srcWho + ` > ` + dstWho + `)`

// pairKey tells pairs of workloads apart, whichever way a row went.
const pairKey = "fabric, segment, if(" + swappedEnds + ", dst, src), if(" + swappedEnds + ", " + dstWho + ", " + srcWho + "), " +
	"if(" + swappedEnds + ", src, dst), if(" + swappedEnds + ", " + srcWho + ", " + dstWho + ")"

// newHistory is how long a pair must not have been seen before it counts as new.
const newHistory = 7 * 24 * time.Hour

// seenFrom is where the time begins in which a pair that is new within so many milliseconds must not have been seen.
func (a *ask) seenFrom(within uint64) int64 {
	return min(a.sinceMS, a.untilMS-int64(within)-newHistory.Milliseconds())
}

func seenTable(within uint64) string { return fmt.Sprintf("seen_%d", within) }

// seenSteps gives the pairs that were seen before they could be new. Roll-ups are exact for any range.
func (a *ask) seenSteps() string {
	var b strings.Builder
	for _, within := range a.cond.expr.New() {
		until := a.untilMS - int64(within)
		fmt.Fprintf(&b, "%s AS MATERIALIZED (SELECT DISTINCT %s FROM %s WHERE rows > 0),\n", seenTable(within), pairKey, a.rollup(a.seenFrom(within), max(until, a.seenFrom(within))))
	}
	return b.String()
}

// spanText writes milliseconds as a span of the filter language.
func spanText(ms uint64) string {
	for _, u := range []struct {
		of   uint64
		name string
	}{{86400e3, "d"}, {3600e3, "h"}, {60e3, "m"}, {1e3, "s"}} {
		if ms%u.of == 0 {
			return fmt.Sprint(ms/u.of) + u.name
		}
	}
	return fmt.Sprint(ms) + "ms"
}

// service is the SQL of the field dst.port in facts.
func factSQL(f *filter.Field) string {
	if f.Name == "dst.port" {
		return "service_port"
	}
	return f.SQL(filter.DuckDB)
}
