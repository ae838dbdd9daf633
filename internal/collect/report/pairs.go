package report

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// grouped gives the steps o (rows with their two ends in a fixed order), g (one row for each pair or
// conversation) and q (g with source and destination told apart, under the names of the JSON document).
// The ends are (VM by its id, else its name, and address) inside (fabric, segment), so overlapping tenants never meet.
func (a *ask) grouped(fromMS, toMS int64, conversations bool) string {
	key, extra, out := "fabric, segment, a, a_who, b, b_who", "", ""
	if conversations {
		key += ", proto, a_port, b_port"
		extra = ", bit_or(tcp_flags) AS tcp_flags, max(app) AS app"
		out = ", proto, tcp_flags, app, if(fwd, a_port, b_port) AS src_port, if(fwd, b_port, a_port) AS dst_port"
	} else {
		extra = ", " + a.different("app", "app <> ''") + " AS apps"
		out = ", flows AS conversations, coalesce(apps, []) AS apps"
	}
	vote := "CASE client WHEN 1 THEN if(sw, -1, 1) WHEN 2 THEN if(sw, 1, -1) ELSE 0 END"
	if a.oriented() {
		vote = "if(sw, -opener, opener)" // what the filter went by
	}
	var b strings.Builder
	b.WriteString(a.logical(fromMS, toMS))
	keep := "NOT MATERIALIZED"
	if a.few() {
		keep = "MATERIALIZED"
	}
	b.WriteString(`,
o0 AS NOT MATERIALIZED (SELECT *, ` + swapped + ` AS sw FROM l),
o AS ` + keep + ` (SELECT fabric, segment, tenant, app, proto, t_start, t_end, recent, packets, octets, sampling, marks, tcp_flags, sw,
  ` + canonical + ` AS can,
  if(sw, dst, src) AS a, if(sw, src, dst) AS b, if(sw, dst_vm, src_vm) AS a_vm, if(sw, src_vm, dst_vm) AS b_vm,
  if(sw, dst_vm_id, src_vm_id) AS a_vm_id, if(sw, src_vm_id, dst_vm_id) AS b_vm_id, if(sw, ` + dstWho + `, ` + srcWho + `) AS a_who, if(sw, ` + srcWho + `, ` + dstWho + `) AS b_who,
  if(sw, dst_port, src_port) AS a_port, if(sw, src_port, dst_port) AS b_port,
  if(sw, dst_host, src_host) AS a_host, if(sw, src_host, dst_host) AS b_host,
  if(sw, outer_dst, outer_src) AS a_vtep, if(sw, outer_src, outer_dst) AS b_vtep,
  ` + vote + ` AS vote,
  ` + observerName + ` AS seen FROM o0),
g AS NOT MATERIALIZED (SELECT ` + key)
	for _, c := range []struct{ name, zero string }{{"tenant", "''"}, {"a_vm", "''"}, {"b_vm", "''"}, {"a_host", "''"}, {"b_host", "''"}, {"a_vtep", zeroAddr}, {"b_vtep", zeroAddr}} {
		fmt.Fprintf(&b, ", %s AS %s", latest(c.name, c.zero), c.name)
	}
	b.WriteString(extra + `, max(a_vm_id) AS a_vm_id, max(b_vm_id) AS b_vm_id,
  sum(octets) FILTER (can AND NOT sw) AS octets_ab, sum(octets) FILTER (can AND sw) AS octets_ba,
  sum(packets) FILTER (can AND NOT sw) AS packets_ab, sum(packets) FILTER (can AND sw) AS packets_ba,
  ` + variance + ` FILTER (can AND sampling > 1) AS variance,
  ` + a.howMany("proto::UBIGINT * 4294967296 + a_port::UBIGINT * 65536 + b_port::UBIGINT", "can") + ` AS flows,
  min(t_start) AS first_seen, max(t_end) AS last_seen,
  ` + a.different("seen", "can") + ` AS seen_canonical, ` + a.different("seen", "NOT can") + ` AS seen_other,
  coalesce(sum(packets) FILTER (NOT can), 0)::UBIGINT AS duplicates,
  coalesce(bit_or(marks) FILTER (can), 0::USMALLINT) AS marks,
  coalesce(sum(vote) FILTER (can), 0) AS votes,
  coalesce(sum(sign(a_port::INTEGER - b_port::INTEGER)) FILTER (can), 0) AS port_votes,
  count(*) FILTER (can AND (marks & 2) <> 0) AS sampled_rows, count(*) FILTER ((marks & 8) <> 0) AS ambiguous_rows
  FROM o GROUP BY ` + key + ` HAVING bool_or(can)),
q0 AS NOT MATERIALIZED (SELECT *, CASE WHEN votes <> 0 THEN votes > 0 ELSE port_votes >= 0 END AS fwd FROM g),
` + pairsOut(out))
	return b.String()
}

// pairsOut gives the step q from q0: source and destination told apart.
func pairsOut(out string) string {
	return `q AS MATERIALIZED (SELECT fwd, fabric, segment, a, a_who, b, b_who, (segment & 4294967295)::UBIGINT AS vni, tenant,
  coalesce(if(fwd, a_vtep, b_vtep), ` + zeroAddr + `) AS src_vtep, coalesce(if(fwd, b_vtep, a_vtep), ` + zeroAddr + `) AS dst_vtep,
  coalesce(if(fwd, a_host, b_host), '') AS src_host, coalesce(if(fwd, b_host, a_host), '') AS dst_host,
  coalesce(if(fwd, a_vm, b_vm), '') AS src_vm, coalesce(if(fwd, b_vm, a_vm), '') AS dst_vm, if(fwd, a_vm_id, b_vm_id) AS src_vm_id, if(fwd, b_vm_id, a_vm_id) AS dst_vm_id, if(fwd, a, b) AS src_addr, if(fwd, b, a) AS dst_addr,
  coalesce(if(fwd, octets_ab, octets_ba), 0)::UBIGINT AS octets_fwd, coalesce(if(fwd, octets_ba, octets_ab), 0)::UBIGINT AS octets_rev,
  coalesce(if(fwd, packets_ab, packets_ba), 0)::UBIGINT AS packets_fwd, coalesce(if(fwd, packets_ba, packets_ab), 0)::UBIGINT AS packets_rev,
  octets_fwd + octets_rev AS octets, packets_fwd + packets_rev AS packets, coalesce(variance, 0) AS variance, flows::UBIGINT AS flows,
  src_host = dst_host AND src_host <> '' AS same_host, first_seen, last_seen,
  coalesce(seen_canonical, []) AS seen_canonical, coalesce(seen_other, []) AS seen_other, duplicates,
  (marks | if(votes = 0 AND port_votes <> 0, 64, 0))::USMALLINT AS marks, sampled_rows, ambiguous_rows` + out + ` FROM q0)`
}

// pairFills are those of them that one observer may know and another not.
var pairFills = []string{"fabric", "segment", "tenant", "app", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "src_host", "dst_host"}

// different is a sorted list of the different values of a column. Telling them apart while rows are added up has a price of its own,
// which few rows do not pay.
func (a *ask) different(col, cond string) string {
	if a.few() {
		return fmt.Sprintf("list_sort(list_distinct(list(%s) FILTER (WHERE %s)))", col, cond)
	}
	return fmt.Sprintf("list_sort(list(DISTINCT %s) FILTER (WHERE %s))", col, cond)
}

// howMany is the number of them.
func (a *ask) howMany(col, cond string) string {
	if a.few() {
		return fmt.Sprintf("coalesce(len(list_distinct(list(%s) FILTER (WHERE %s))), 0)", col, cond)
	}
	return fmt.Sprintf("count(DISTINCT %s) FILTER (WHERE %s)", col, cond)
}

// pairRows are the columns that grouped reads.
var pairRows = []string{"fabric", "segment", "tenant", "src_tenant", "dst_tenant", "app", "proto", "t_start", "t_end", "flow_id", "observer_id", "packets", "octets", "sampling", "marks", "tcp_flags", "client", "src", "dst", "src_port", "dst_port",
	"src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "src_host", "dst_host", "outer_src", "outer_dst", "observer", "exporter", "domain"}

// observerName is what an observer is called: its name, else "exporter/domain".
const observerName = `if(observer <> '', observer, concat('` + unnamed + `', exporter::VARCHAR, '/', domain))`

const unnamed = "\x1f"

// variance is the variance of the octets of sampled rows: of n packets each with a chance of 1 in N,
// n ÷ N were seen, so the estimate's variance is octets² × (N - 1) ÷ packets.
const variance = `sum(CASE WHEN sampling > 1 THEN octets::HUGEINT * octets::HUGEINT * (sampling::HUGEINT - 1) // greatest(packets, 1)::HUGEINT END)`

// z95 times the standard deviation is the half width of the 95 % interval.
const z95 = 1.959964

// endsColumns are read by scanEnds, countsColumns by scanCounts, in this order.
const (
	endsColumns = `fabric, segment, coalesce(tenant, ''), src_vtep::VARCHAR, src_host, src_vm, src_vm_id, src_addr::VARCHAR, ` +
		`dst_addr::VARCHAR, dst_vm, dst_vm_id, dst_host, dst_vtep::VARCHAR, same_host`
	countsColumns = `octets_fwd, octets_rev, packets_fwd, packets_rev, octets, variance::DOUBLE, packets, flows, first_seen, last_seen, ` +
		`to_json(seen_canonical)::VARCHAR, to_json(seen_other)::VARCHAR, duplicates, marks`
	totalColumns = `total_rows, total_octets, total_packets, total_flows, total_sampled, total_ambiguous`
)

// totals gives the step t, with totalColumns, over all rows of another one.
func totals(of string) string {
	return `,
t AS NOT MATERIALIZED (SELECT count(*) AS total_rows, sum(octets)::UBIGINT AS total_octets, sum(packets)::UBIGINT AS total_packets, sum(flows)::UBIGINT AS total_flows,
  sum(sampled_rows)::UBIGINT AS total_sampled, sum(ambiguous_rows)::UBIGINT AS total_ambiguous FROM ` + of + `)`
}

// endsScan holds what the columns of a pair are read into.
type endsScan struct {
	segment                  uint64
	srcVTEP, dstVTEP         string
	src, dst                 string
	variance                 float64
	seenCanonical, seenOther string
	marks                    uint16
	first, last              time.Time
	total                    sums
	sampled, ambiguous       uint64
}

func (s *endsScan) ends(e *Ends) []any {
	return []any{&e.Fabric, &s.segment, &e.Tenant, &s.srcVTEP, &e.SrcHost, &e.SrcVM, &e.SrcVMID, &s.src, &s.dst, &e.DstVM, &e.DstVMID, &e.DstHost, &s.dstVTEP, &e.SameHost}
}

func (s *endsScan) counts(c *Counts) []any {
	return []any{&c.OctetsFwd, &c.OctetsRev, &c.PacketsFwd, &c.PacketsRev, &c.Octets, &s.variance, &c.Packets, &c.Flows, &s.first, &s.last,
		&s.seenCanonical, &s.seenOther, &c.Duplicates, &s.marks}
}

func (s *endsScan) totals() []any {
	return []any{&s.total.Rows, &s.total.Octets, &s.total.Packets, &s.total.Flows, &s.sampled, &s.ambiguous}
}

// finish turns what was read into the document's form.
func (s *endsScan) finish(e *Ends, c *Counts) error {
	seg := flow.Segment(s.segment)
	e.Segment, e.VNI = segmentText(seg), seg.Number()
	e.SrcVTEP, e.DstVTEP, e.SrcAddr, e.DstAddr = addrText(s.srcVTEP), addrText(s.dstVTEP), addrText(s.src), addrText(s.dst)
	c.OctetsError = uint64(math.Round(z95 * math.Sqrt(s.variance)))
	c.FirstSeen, c.LastSeen = s.first.UTC(), s.last.UTC()
	c.Share = share(c.Octets, s.total.Octets)
	c.Marks = markNames(flow.Mark(s.marks))
	var err error
	c.SeenBy, err = observers(s.seenCanonical, s.seenOther)
	return err
}

// Pairs implements Reporter.
func (r *Reports) Pairs(ctx context.Context, q Query) (Pairs, error) {
	a, err := check(q, defaultLimit)
	if err != nil {
		return Pairs{}, err
	}
	order, err := a.order(pairSort, "-octets", pairTie)
	if err == nil {
		err = a.rollPairs()
	}
	if err != nil {
		return Pairs{}, err
	}
	var out Pairs
	err = r.with(ctx, a, func() error {
		out, err = a.pairs(ctx, r, order)
		return err
	})
	return out, err
}

// pairs answers on the pinned view.
func (a *ask) pairs(ctx context.Context, r *Reports, order string) (Pairs, error) {
	if out, ok, err := a.fewPairs(ctx, r); ok || err != nil {
		return out, err
	}
	out := Pairs{Rows: []Pair{}}
	var s endsScan
	var first *picked
	if a.sliced() {
		var err error
		if first, err = a.pick(ctx, strings.TrimSuffix(order, ", "+pairTie)); err != nil {
			return Pairs{}, err
		}
		a.args = nil
	}
	if first != nil {
		defer func(only, segments, table string) { a.only, a.segments, a.table = only, segments, table }(a.only, a.segments, a.table)
		first.narrow(a)
		if err := first.fetch(ctx, a); err != nil {
			return Pairs{}, err
		}
	}
	err := a.each(ctx, a.pairsSQL(order, first), func(rows *sql.Rows) (err error) {
		var p Pair
		var apps string
		var spark sql.NullString
		into := append(append(s.ends(&p.Ends), s.counts(&p.Counts)...), &p.Conversations, &apps, &spark)
		if err := rows.Scan(append(into, s.totals()...)...); err != nil {
			return err
		}
		if err := s.finish(&p.Ends, &p.Counts); err != nil {
			return err
		}
		if p.Apps, err = textList(apps); err != nil {
			return err
		}
		if p.Spark, err = sparkList(spark.String); err != nil {
			return err
		}
		out.Rows = append(out.Rows, p)
		return nil
	})
	if err != nil {
		return Pairs{}, err
	}
	out.Meta, err = a.meta(ctx, r, "pairs", s.total, s.sampled, s.ambiguous)
	return out, err
}

func (a *ask) pairsSQL(order string, first *picked) string {
	var steps, from string
	if a.step != 0 {
		rolled, rows, total := a.rolledPairs(a.sinceMS, a.untilMS, order, first)
		steps, from = rolled+a.sparks(order, rows)+a.rolledOthers(a.sinceMS, a.untilMS)+total, "tops"
	} else {
		a.rows, a.need, a.twice = pairRows, pairFills, true
		steps, from = a.grouped(a.sinceMS, a.untilMS, false)+a.sparks(order, "o")+totals("q"), "topq"
		a.rows, a.need, a.twice = nil, nil, false
	}
	return steps + "\nSELECT " + endsColumns + ", " + countsColumns + ", conversations, to_json(apps)::VARCHAR, to_json(spark)::VARCHAR, " + totalColumns +
		" FROM " + from + " CROSS JOIN t LEFT JOIN spark USING (pair) ORDER BY pair"
}

// sparkParts is the number of parts of a pair's sparkline.
const sparkParts = 24

// sparks gives the steps topq (the rows of the answer, numbered) and spark (their octets in equal
// parts of the time range, from the step rows). Most rows lie within one part; only the others are spread.
func (a *ask) sparks(order, rows string) string {
	span := a.untilMS - a.sinceMS
	edge := func(i string) string {
		return fmt.Sprintf("(%d + %d::HUGEINT * (%s) // %d)::BIGINT", a.sinceMS, span, i, sparkParts)
	}
	part := func(ms string) string { // the greatest i with edge(i) <= ms
		return fmt.Sprintf("((greatest(%s - %d, 0) + 1) * %d - 1) // %d", ms, a.sinceMS, sparkParts, span)
	}
	few := `sp3 AS NOT MATERIALIZED (SELECT pair, i, (%[5]s) - (%[6]s) AS n FROM (SELECT pair, n, s, e, i, %[7]s AS lo, %[8]s AS hi
  FROM (SELECT pair, n, s, e, unnest(range(%[3]s, %[4]s + 1)) AS i FROM sp0))),
`
	many := `sp1 AS MATERIALIZED (SELECT pair, n, s, e, %[3]s AS p, %[4]s AS p1, p = p1 AND s >= %[9]d AS one FROM sp0),
sp2 AS NOT MATERIALIZED (SELECT pair, n, s, e, unnest(range(p, p1 + 1)) AS i FROM sp1 WHERE NOT one),
sp3 AS NOT MATERIALIZED (SELECT pair, p AS i, n::HUGEINT AS n FROM sp1 WHERE one
  UNION ALL SELECT pair, i, (%[5]s) - (%[6]s) FROM (SELECT pair, n, s, e, i, %[7]s AS lo, %[8]s AS hi FROM sp2)),
`
	if a.step == 0 && a.few() {
		many = few
	}
	return fmt.Sprintf(`,
topq AS MATERIALIZED (SELECT *, row_number() OVER (ORDER BY %[1]s) AS pair FROM (SELECT * FROM q ORDER BY %[1]s LIMIT %[2]d)),
sp0 AS NOT MATERIALIZED (SELECT pair, o.octets AS n, epoch_ms(o.t_start) AS s, epoch_ms(o.t_end) AS e FROM %[10]s o JOIN topq
  ON o.fabric = topq.fabric AND o.segment = topq.segment AND o.a = topq.a AND o.a_who = topq.a_who AND o.b = topq.b AND o.b_who = topq.b_who WHERE o.can),
`+many+`sp4 AS NOT MATERIALIZED (SELECT pair, i, sum(n) AS n FROM sp3 GROUP BY pair, i),
spark AS NOT MATERIALIZED (SELECT pair, list([i, n::HUGEINT] ORDER BY i) AS spark FROM sp4 GROUP BY pair)`,
		order, a.Limit, part("s"), part("e"), spread("n", "hi"), spread("n", "lo"), edge("i"), edge("i + 1"), a.sinceMS, rows)
}
