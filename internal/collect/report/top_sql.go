package report

import (
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/collect/report/filter"
)

// keys gives the columns k0, k1, … of one end: 0 for who sent, 1 for who received.
func (t *topAsk) keys(end int) string {
	var b strings.Builder
	for i, f := range t.fields {
		fmt.Fprintf(&b, "%s AS k%d, ", fieldOf(f, end), i)
	}
	return b.String()
}

// fieldOf is the value of a field; one that stands for both ends is that of one end.
func fieldOf(f *filter.Field, end int) string {
	if f.Either() {
		return filter.DuckDB.Column(f.Columns[end])
	}
	return factSQL(f)
}

func (t *topAsk) keyList() string {
	cols := make([]string, len(t.fields))
	for i := range cols {
		cols[i] = fmt.Sprintf("k%d", i)
	}
	return strings.Join(cols, ", ")
}

// bucket is the start of a row's period.
func (t *topAsk) bucket() string {
	if t.periodMS == 0 {
		return "0"
	}
	at := "epoch_ms(t_end)"
	if t.step != 0 {
		at = "epoch_ms(bucket)"
	}
	return fmt.Sprintf("(%[1]s - (%[1]s %% %[2]d + %[2]d) %% %[2]d)", at, t.periodMS)
}

// sums are the columns that add up, and those that do not.
const topSums = `sum(octets)::UBIGINT AS octets, sum(sent)::UBIGINT AS sent, sum(l2_octets)::UBIGINT AS l2_octets, sum(packets)::UBIGINT AS packets, sum(variance)::DOUBLE AS variance, sum(rows)::UBIGINT AS n,
  sum(retransmits)::UBIGINT AS retransmits, sum(zero_windows)::UBIGINT AS zero_windows, sum(fragments)::UBIGINT AS fragments, sum(rtt_n)::UBIGINT AS rtt_n,
  sum(rtt_sum)::UBIGINT AS rtt_sum, max(rtt_max)::UBIGINT AS rtt_max, min(first) AS first, max(last) AS last, bit_or(marks)::USMALLINT AS marks,
  sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows`

const topValues = `octets, l2_octets, packets, variance, rows, retransmits, zero_windows, fragments, rtt_n, rtt_sum, rtt_max, first, last, marks, sampled_rows, ambiguous_rows`

// sql gives the steps up to q, the rows of the answer before they are cut.
func (t *topAsk) sql() string {
	flows, more, half := "NULL::UBIGINT", "", ", NULL::DOUBLE AS rtt_p50, NULL::DOUBLE AS rtt_p95, NULL::DOUBLE AS rtt_p99"
	if t.Metric == "rtt" && t.step == 0 {
		half = ", quantile_cont(rtt_max, 0.5) FILTER (WHERE rtt_n > 0) AS rtt_p50, quantile_cont(rtt_max, 0.95) FILTER (WHERE rtt_n > 0) AS rtt_p95, quantile_cont(rtt_max, 0.99) FILTER (WHERE rtt_n > 0) AS rtt_p99"
	}
	if t.Metric == "flows" {
		flows, more = "count(DISTINCT conversation)::UBIGINT", ", "+conversationKey+" AS conversation"
	}
	var b strings.Builder
	b.WriteString(t.rowsByKey([2]string{more, more}))
	fmt.Fprintf(&b, ",\nq0 AS NOT MATERIALIZED (SELECT %[1]s, p, %[2]s AS flows, %[3]s%[4]s FROM y%[5]s GROUP BY %[1]s, p),\nq1 AS NOT MATERIALIZED (SELECT *, rtt_sum / nullif(rtt_n, 0) AS rtt_avg FROM q0)", t.keyList(), flows, topSums, half, t.ofFirst())
	having := ""
	if !t.having.Empty() {
		having = and(t.having.Row(t.target("q1")))
	}
	b.WriteString(",\nq AS MATERIALIZED (SELECT * FROM q1 WHERE true" + having + ")")
	return b.String()
}

// rowsByKey gives the steps up to y, what is added up: one row for each row and key that it counts for, with more columns for those of one end
// and of the other.
func (t *topAsk) rowsByKey(more [2]string) string {
	var b strings.Builder
	if t.observed {
		b.WriteString(t.observerFacts(more[0]))
	} else {
		b.WriteString(t.facts(t.sinceMS, t.untilMS))
	}
	fmt.Fprintf(&b, ",\ny AS NOT MATERIALIZED (SELECT %s%s AS p, %s, octets AS sent%s FROM x", t.keys(0), t.bucket(), topValues, more[0])
	if t.either {
		fmt.Fprintf(&b, "\n  UNION ALL SELECT %s%s AS p, %s, 0::UBIGINT AS sent%s FROM x WHERE NOT (%s)", t.keys(1), t.bucket(), topValues, more[1], t.sameEnds())
	}
	return b.String() + ")"
}

// sameEnds is true for rows of which both ends have the same values: they count once.
func (t *topAsk) sameEnds() string {
	var all []string
	for _, f := range t.fields {
		if f.Either() {
			all = append(all, f.Columns[0]+" = "+f.Columns[1])
		}
	}
	return strings.Join(all, " AND ")
}

// observerFacts gives facts of all observers. What one of them says of a flow in both directions counts once.
func (t *topAsk) observerFacts(extra string) string {
	t.ends = true
	var cols []string
	for _, f := range t.fields {
		for _, c := range f.Stored() {
			if !slices.Contains(cols, c) {
				cols = append(cols, c)
			}
		}
	}
	for _, c := range []string{"src", "dst", "src_port", "dst_port", "proto", "fabric", "segment", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id"} {
		if extra != "" && !slices.Contains(cols, c) {
			cols = append(cols, c)
		}
	}
	service := "0"
	if slices.Contains(cols, "dst_port") {
		service = "if(turn, src_port, dst_port)"
	}
	list := strings.Join(append(cols, "flow_id", "turn"), ", ")
	dir := "direction"
	if slices.Contains(cols, "direction") {
		dir = "0"
	}
	bucket := t.bucket()
	return t.logical(t.sinceMS, t.untilMS) + fmt.Sprintf(`,
x0 AS NOT MATERIALIZED (SELECT %[1]s, %[2]s AS way, %[3]s AS part, sum(octets)::UBIGINT AS octets, sum(l2_octets)::UBIGINT AS l2_octets, sum(packets)::UBIGINT AS packets,
  sum(if(sampling > 1, octets::DOUBLE * octets::DOUBLE * (sampling - 1)::DOUBLE / greatest(packets, 1)::DOUBLE, 0)) AS variance, count(*)::UBIGINT AS rows,
  sum(retransmits)::UBIGINT AS retransmits, sum(zero_windows)::UBIGINT AS zero_windows, sum(fragments)::UBIGINT AS fragments,
  count(*) FILTER (rtt_us > 0)::UBIGINT AS rtt_n, sum(rtt_us)::UBIGINT AS rtt_sum, max(rtt_us) AS rtt_max, min(t_start) AS first, max(t_end) AS last, max(t_end) AS t_end,
  bit_or(marks & 65534::USMALLINT)::USMALLINT AS marks, count(*) FILTER ((marks & 2) <> 0)::UBIGINT AS sampled_rows, count(*) FILTER ((marks & 8) <> 0)::UBIGINT AS ambiguous_rows
  FROM l GROUP BY %[1]s, way, part),
x AS NOT MATERIALIZED (SELECT *, %[4]s AS service_port FROM x0
  QUALIFY flow_id = 0 OR row_number() OVER (PARTITION BY %[1]s, part ORDER BY octets DESC, packets DESC, way) = 1)`, list, dir, bucket, service)
}

// cut orders and cuts the rows, in each period and for each value of Per.
func (t *topAsk) cut() string {
	part := []string{"p"}
	for i := range t.per {
		part = append(part, fmt.Sprintf("k%d", i))
	}
	var keys []string
	for i := range t.fields {
		keys = append(keys, filter.DuckDB.Text(fmt.Sprintf("k%d", i)))
	}
	window, metric := strings.Join(part, ", "), topMetrics[t.Metric]
	whole := fmt.Sprintf("sum(%s) OVER (PARTITION BY %s)", metric, window)
	if t.first != nil {
		whole = t.arg(t.first.whole)
	}
	order := metric + " DESC NULLS LAST, octets DESC, " + t.keyList()
	return t.sql() + fmt.Sprintf(`,
z AS NOT MATERIALIZED (SELECT *, row_number() OVER (PARTITION BY %[1]s ORDER BY %[2]s) AS rank, %[6]s::DOUBLE AS whole FROM q)
SELECT %[4]s, p, octets, variance, sent, l2_octets, packets, flows, n, retransmits, zero_windows, fragments, rtt_n, rtt_avg, rtt_max, rtt_p50, rtt_p95, rtt_p99, coalesce(%[3]s / nullif(whole, 0), 0)::DOUBLE, first, last, marks,
  (SELECT count(*) FROM q), (SELECT sum(octets) FROM q)::UBIGINT, (SELECT sum(packets) FROM q)::UBIGINT, (SELECT coalesce(sum(flows), 0) FROM q)::UBIGINT,
  (SELECT sum(sampled_rows) FROM q)::UBIGINT, (SELECT sum(ambiguous_rows) FROM q)::UBIGINT
  FROM z WHERE rank <= %[5]d ORDER BY %[1]s, rank`, window, order, metric, strings.Join(keys, ", "), t.Limit, whole)
}
