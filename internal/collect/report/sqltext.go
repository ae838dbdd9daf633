package report

import (
	"fmt"
	"strings"
)

// The SQL of every report starts with the same steps:
//
//	r   rows of the time range that can match (the filter's conditions on the 5-tuple)
//	f   one row for each flow id: what any observer knows of it
//	l   r with f's knowledge filled in, of the flows that match
const zeroAddr = "'00000000-0000-0000-0000-000000000000'::UUID"

// filled are the columns that one observer may know and another not, with their "not known".
var filled = []struct{ name, zero string }{
	{"segment", "0"}, {"fabric", "''"}, {"tenant", "''"},
	{"src_vm", "''"}, {"dst_vm", "''"}, {"src_host", "''"}, {"dst_host", "''"}, {"app", "''"},
}

// filledVTEPs are filled too, but only while the end is on the same host: a VM may have moved meanwhile.
var filledVTEPs = []struct{ name, host string }{{"outer_src", "src_host"}, {"outer_dst", "dst_host"}}

// canonical is true for the rows that sums read.
const canonical = "(marks & 1) <> 0"

func ts(ms int64) string { return fmt.Sprintf("make_timestamp_ms(%d)", ms) }

// logical gives "WITH r …, f …, l …" for rows that end in [fromMS, toMS). The caller adds its own steps.
func (a *ask) logical(fromMS, toMS int64) string {
	return a.logicalWhere(fmt.Sprintf("t_end >= %s AND t_end < %s", ts(fromMS), ts(toMS)))
}

// logicalWhere is logical with a time condition of one's own.
func (a *ask) logicalWhere(when string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "WITH r AS NOT MATERIALIZED (SELECT * FROM %s WHERE %s%s),\n", a.view.Table(), when, and(a.cond.rows(a)))
	b.WriteString("f AS NOT MATERIALIZED (SELECT flow_id")
	for _, c := range filled {
		fmt.Fprintf(&b, ", %s AS %s", latest(c.name, c.zero), c.name)
	}
	for _, c := range filledVTEPs {
		fmt.Fprintf(&b, ", max({'t': t_end, 'v': %[1]s, 'h': %[2]s}) FILTER (WHERE %[1]s <> %[3]s) AS %[1]s", c.name, c.host, zeroAddr)
	}
	b.WriteString(" FROM r WHERE flow_id <> 0 GROUP BY flow_id),\n")
	b.WriteString("l0 AS NOT MATERIALIZED (SELECT r.* REPLACE (")
	for i, c := range filled {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "CASE WHEN r.%[1]s <> %[2]s THEN r.%[1]s ELSE coalesce(f.%[1]s, %[2]s) END AS %[1]s", c.name, c.zero)
	}
	for _, c := range filledVTEPs {
		fmt.Fprintf(&b, ", CASE WHEN r.%[1]s = %[3]s AND f.%[1]s IS NOT NULL AND (f.%[1]s.h = '' OR r.%[2]s = '' OR f.%[1]s.h = r.%[2]s) THEN f.%[1]s.v ELSE r.%[1]s END AS %[1]s",
			c.name, c.host, zeroAddr)
	}
	b.WriteString(") FROM r LEFT JOIN f ON r.flow_id = f.flow_id),\n")
	fmt.Fprintf(&b, "l AS NOT MATERIALIZED (SELECT * FROM l0 WHERE true%s)", and(a.cond.flows(a)))
	return b.String()
}

func and(cond string) string {
	if cond == "" {
		return ""
	}
	return " AND (" + cond + ")"
}

// latest is an aggregate: the known value of the row that ended last. Equal times are decided by the
// greater value, so that the answer does not depend on the order of reading.
func latest(col, zero string) string {
	return fmt.Sprintf("max({'t': t_end, 'v': %s}) FILTER (WHERE %s <> %s).v", col, col, zero)
}

// spread is the part of n that falls into the time before ms, when n is spread evenly over a row's
// time: whole numbers, so that the parts of a row add up to n exactly. A row without duration counts at its end.
func spread(n, ms string) string {
	return fmt.Sprintf(`CASE WHEN %[2]s > e THEN (%[1]s)::HUGEINT WHEN %[2]s <= s THEN 0::HUGEINT `+
		`ELSE (%[1]s)::HUGEINT * (%[2]s - s) // (e - s) END`, n, ms)
}
