package report

import (
	"fmt"
	"slices"
	"strings"
)

// Pairs over long ranges come from roll-ups: all sums are exact, and so are the orders by them. Only flows are counted
// anew in each hour, and of those of one client the greater number of both directions counts.

// sortedByRows are the orders that need the rows themselves.
var sortedByRows = []string{"flows", "conversations", "duplicates", "seen_by"}

// rollPairs decides whether roll-ups answer.
func (a *ask) rollPairs() error {
	err := a.useRollup(!slices.Contains(sortedByRows, strings.TrimPrefix(a.Sort, "-")))
	if a.rowwise = a.step != 0; a.rowwise {
		a.notes = append(a.notes, "flows and conversations are counted by hour and direction: one that lives in two hours counts in both, one that was seen in one direction only may not count")
	}
	return err
}

// byNumbers are the orders that sums decide.
var byNumbers = []string{"octets", "octets_fwd", "octets_rev", "packets", "packets_fwd", "packets_rev", "first_seen", "last_seen", "share", "spark"}

// rolledPairs gives the steps o and q as grouped does, and k, which has all pairs with their sums. When sums decide the order q has the
// first ones only: names and lists are worked out for these alone, since there may be millions. It also names the step with the rows of these pairs.
func (a *ask) rolledPairs(fromMS, toMS int64, order string, p *picked) (steps, rows, total string) {
	pick, from, all := "", "o", ",\nk AS NOT MATERIALIZED (SELECT * FROM q)"
	total = totals("k")
	switch {
	case p != nil:
		from, all = "ot", ""
		pick, total = p.steps(a)
	case a.ordersByNumbers():
		pick, from, all = a.pickPairs(strings.TrimSuffix(order, ", "+pairTie)), "ot", ""
	}
	return a.pairFacts(fromMS, toMS) + pick + `g AS NOT MATERIALIZED (SELECT ` + pairGroup + `, ` + latestRolled("tenant", "''", "a_vm", "''", "b_vm", "''", "a_host", "''", "b_host", "''", "a_vtep", zeroAddr, "b_vtep", zeroAddr) + `,
  list_sort(list(DISTINCT app) FILTER (WHERE app <> '')) AS apps, max(a_vm_id) AS a_vm_id, max(b_vm_id) AS b_vm_id,
  sum(octets) FILTER (NOT sw) AS octets_ab, sum(octets) FILTER (sw) AS octets_ba, sum(packets) FILTER (NOT sw) AS packets_ab, sum(packets) FILTER (sw) AS packets_ba, sum(variance) AS variance,
  ` + rolledFlows + `,
  min(t_start) AS first_seen, max(t_end) AS last_seen, list_sort(list_distinct(flatten(list(DISTINCT string_split(seen_by, chr(10)))))) AS seen_canonical, bit_or(marks) AS marks,
  sum(vote) AS votes, sum(port_vote) AS port_votes, sum(sampled_rows) AS sampled_rows, sum(ambiguous_rows) AS ambiguous_rows FROM ` + from + ` GROUP BY ` + pairGroup + `),
q0 AS NOT MATERIALIZED (SELECT *, CASE WHEN votes <> 0 THEN votes > 0 ELSE port_votes >= 0 END AS fwd, [] AS seen_other, 0::UBIGINT AS duplicates FROM g),
` + pairsOut(", flows AS conversations, coalesce(apps, []) AS apps") + all, from, total
}

// pairFacts gives the steps up to o: facts with their two ends in a fixed order.
func (a *ask) pairFacts(fromMS, toMS int64) string {
	vote := "CASE client WHEN 1 THEN if(sw, -1, 1) WHEN 2 THEN if(sw, 1, -1) ELSE 0 END"
	if a.oriented() {
		vote = "if(sw = turn, 1, -1)" // what the filter went by
	}
	return a.facts(fromMS, toMS) + `,
o0 AS NOT MATERIALIZED (SELECT *, ` + swappedEnds + ` OR src = dst AND ` + srcWho + ` = ` + dstWho + ` AND port_votes > 0 AS sw FROM x),
o AS NOT MATERIALIZED (SELECT fabric, segment, tenant, app, sw, sw = turn AS opened, packets, octets, flows, first AS t_start, last AS t_end, last AS seen_at, true AS can, marks, variance, sampled_rows, ambiguous_rows, seen_by,
  if(sw, dst, src) AS a, if(sw, src, dst) AS b, if(sw, dst_vm, src_vm) AS a_vm, if(sw, src_vm, dst_vm) AS b_vm, if(sw, dst_vm_id, src_vm_id) AS a_vm_id, if(sw, src_vm_id, dst_vm_id) AS b_vm_id,
  if(sw, ` + dstWho + `, ` + srcWho + `) AS a_who, if(sw, ` + srcWho + `, ` + dstWho + `) AS b_who, if(sw, dst_host, src_host) AS a_host, if(sw, src_host, dst_host) AS b_host,
  if(sw, outer_dst, outer_src) AS a_vtep, if(sw, outer_src, outer_dst) AS b_vtep, rows::BIGINT * (` + vote + `) AS vote, if(sw, -port_votes, port_votes) AS port_vote FROM o0),
`
}

// rolledFlows are the flows of a pair: of those that one end opened, the greater number of both directions.
const rolledFlows = `greatest(coalesce(sum(flows) FILTER (opened AND NOT sw), 0), coalesce(sum(flows) FILTER (opened AND sw), 0)) + greatest(coalesce(sum(flows) FILTER (NOT opened AND NOT sw), 0), coalesce(sum(flows) FILTER (NOT opened AND sw), 0)) AS flows`

// pickPairs gives the steps k, kt, the first pairs, and ot, their rows.
func (a *ask) pickPairs(order string) string {
	keep := "MATERIALIZED" // for names and sparks
	if a.Limit > defaultLimit {
		keep = "NOT MATERIALIZED" // that may be many rows
	}
	return a.allPairs() + `
kt AS MATERIALIZED (SELECT ` + pairGroup + ` FROM kq ORDER BY ` + order + ", " + pickTie + ` LIMIT ` + fmt.Sprint(a.Limit) + `),
ot AS ` + keep + ` (SELECT o.* FROM o JOIN kt USING (` + pairGroup + `)),
`
}

// pickTie decides between pairs with equal sums.
const pickTie = "fabric, segment, src_addr, src_who, dst_addr, dst_who"

// allPairs gives the steps k, all pairs with their sums, and kq, with their directions.
func (a *ask) allPairs() string {
	return `k AS MATERIALIZED (SELECT ` + pairGroup + `, sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, coalesce(sum(octets) FILTER (NOT sw), 0)::UBIGINT AS octets_ab, coalesce(sum(packets) FILTER (NOT sw), 0)::UBIGINT AS packets_ab,
  ` + rolledFlows + `, min(t_start) AS first_seen, max(t_end) AS last_seen, sum(vote)::BIGINT AS votes, sum(port_vote)::BIGINT AS port_votes, sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows FROM o GROUP BY ` + pairGroup + `),
kq AS NOT MATERIALIZED (SELECT *, CASE WHEN votes <> 0 THEN votes > 0 ELSE port_votes >= 0 END AS fwd, if(fwd, octets_ab, octets - octets_ab) AS octets_fwd, octets - octets_fwd AS octets_rev, if(fwd, packets_ab, packets - packets_ab) AS packets_fwd,
  packets - packets_fwd AS packets_rev, if(fwd, a, b) AS src_addr, if(fwd, b, a) AS dst_addr, if(fwd, a_who, b_who) AS src_who, if(fwd, b_who, a_who) AS dst_who FROM k),`
}

// pairGroup are the columns that tell pairs apart.
const pairGroup = "fabric, segment, a, a_who, b, b_who"

// latestRolled gives the value that each column had last, the greatest of equally late ones, of those that have one: column, zero, …
func latestRolled(columns ...string) string {
	var all []string
	for c := range slices.Chunk(columns, 2) {
		all = append(all, "arg_max("+c[0]+", (seen_at, "+c[0]+")) FILTER (WHERE "+c[0]+" <> "+c[1]+") AS "+c[0])
	}
	return strings.Join(all, ", ")
}

// rolledOthers completes the rows of the answer, topq, by what other observers told: it stands in one roll-up row of each
// pair and hour, whatever the filter keeps. It gives the step tops.
func (a *ask) rolledOthers(fromMS, toMS int64) string {
	return `,
w0 AS NOT MATERIALIZED (SELECT fabric, segment, duplicates, seen_other, if(` + swappedEnds + `, dst, src) AS a, if(` + swappedEnds + `, src, dst) AS b,
  if(` + swappedEnds + `, ` + dstWho + `, ` + srcWho + `) AS a_who, if(` + swappedEnds + `, ` + srcWho + `, ` + dstWho + `) AS b_who FROM ` + a.sumsOf(fromMS, toMS) + ` WHERE other_rows > 0` + a.ofSums() + `),
w AS MATERIALIZED (SELECT pair, sum(w0.duplicates)::UBIGINT AS duplicates, list_sort(list_distinct(flatten(list(DISTINCT string_split(w0.seen_other, chr(10)))))) AS seen_other
  FROM w0 JOIN topq ON w0.segment = topq.segment AND w0.a = topq.a AND w0.b = topq.b AND w0.fabric = topq.fabric AND w0.a_who = topq.a_who AND w0.b_who = topq.b_who GROUP BY pair),
tops AS NOT MATERIALIZED (SELECT topq.* REPLACE (coalesce(w.duplicates, 0)::UBIGINT AS duplicates, coalesce(w.seen_other, []) AS seen_other) FROM topq LEFT JOIN w USING (pair))`
}
