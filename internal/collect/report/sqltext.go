package report

import (
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/collect/store"
)

// The SQL of every report starts with the same steps:
//
//	r   rows of the time range that can match (the filter's conditions on the 5-tuple)
//	f   of flows of which some row lacks a name or the segment: what any observer knows
//	v   of flows that a tunnel observer saw: the VTEPs
//	d   of conversations, when a filter names one end: who opened them
//	l   r with that knowledge filled in, of the flows that match

// zeroAddr is an address that is not known.
const zeroAddr = store.ZeroAddr

// filled are the columns that one observer may know and another not, with their "not known".
var filled = []struct{ name, zero string }{
	{"segment", "0"}, {"fabric", "''"}, {"tenant", "''"}, {"src_tenant", "''"}, {"dst_tenant", "''"},
	{"src_vm", "''"}, {"dst_vm", "''"}, {"src_host", "''"}, {"dst_host", "''"}, {"app", "''"},
}

// The id of a VM goes with its name: a row that lacks the name lacks both, and takes them from one other row.
var filledIDs = []struct{ name, with string }{{"src_vm_id", "src_vm"}, {"dst_vm_id", "dst_vm"}}

// srcWho and dstWho tell the workloads of an address apart: by the VM's id, so that it may be renamed, else by its name. One
// that is not known has its address only.
const (
	srcWho = "if(src_vm_id <> '', src_vm_id, src_vm)"
	dstWho = "if(dst_vm_id <> '', dst_vm_id, dst_vm)"
)

// filledVTEPs are filled too, but only while the end is on the same host: a VM may have moved meanwhile.
var filledVTEPs = []struct{ name, host string }{{"outer_src", "src_host"}, {"outer_dst", "dst_host"}}

// canonical is true for the rows that sums read.
const canonical = "(marks & 1) <> 0"

func ts(ms int64) string { return fmt.Sprintf("make_timestamp_ms(%d)", ms) }

// logical gives "WITH r …, f …, l …" for rows that end in [fromMS, toMS). The caller adds its own steps.
func (a *ask) logical(fromMS, toMS int64) string {
	return a.logicalWhere(fmt.Sprintf("t_end >= %s AND t_end < %s", ts(fromMS), ts(toMS)))
}

// observed is logicalWhere for questions about nothing that one observer's rows lack.
func (a *ask) observed(when string) string {
	if !a.cond.expr.Empty() {
		return a.logicalWhere(when)
	}
	return fmt.Sprintf("WITH l AS NOT MATERIALIZED (SELECT * FROM %s WHERE %s)", a.view.Table(), when)
}

// logicalWhere is logical with a time condition of one's own.
func (a *ask) logicalWhere(when string) string {
	var b strings.Builder
	b.WriteString("WITH " + a.seenSteps())
	keep := "NOT MATERIALIZED"
	if a.few() {
		keep = "MATERIALIZED"
	}
	fmt.Fprintf(&b, "r AS %s (SELECT %s, %s AS recent FROM %s WHERE %s%s%s),\n", keep, a.columns(), recency, a.view.Table(), when, and(a.cond.rows(a)), and(a.only))
	from := a.fillNames(&b, "r")
	if a.vteps || !a.cond.expr.Steady() {
		from = fillVTEPs(&b, from)
	}
	if a.oriented() {
		from = a.orient(&b, from)
	}
	fmt.Fprintf(&b, "l AS NOT MATERIALIZED (SELECT * FROM %s WHERE true%s)", from, and(a.cond.flows(a)))
	return b.String()
}

// columns are those of the rows that the question reads, with its filter's.
func (a *ask) columns() string {
	if a.rows == nil {
		return "*"
	}
	all := slices.Clone(a.rows)
	for _, f := range a.cond.expr.Fields() {
		all = append(all, f.Stored()...)
		if f.Name == "seen_by" {
			all = append(all, "role")
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// fewRows is how many rows are kept in memory at most, so that a question that reads them several times reads the files once.
const fewRows = 300_000

// few reports whether the rows that can match are surely few.
func (a *ask) few() bool {
	v, ok := a.view.(interface {
		RowsIn(fromNS, toNS int64) uint64
	})
	if !ok || a.rows == nil {
		return false
	}
	n := v.RowsIn(clampNS(a.sinceMS), clampNS(a.untilMS))
	if a.cond.expr.Narrow() {
		n /= 20
	}
	return n <= fewRows
}

// fillNames adds the step that fills in segment and names. Only flows of which a row lacks something are looked at.
func (a *ask) fillNames(b *strings.Builder, from string) string {
	var lacks, agg, fill []string
	for _, c := range filled {
		if !a.reads(c.name) {
			continue
		}
		lacks = append(lacks, c.name+" = "+c.zero)
		agg = append(agg, latest(c.name, c.zero)+" AS "+c.name)
		fill = append(fill, fmt.Sprintf("CASE WHEN r.%[1]s <> %[2]s THEN r.%[1]s ELSE coalesce(f.%[1]s, %[2]s) END AS %[1]s", c.name, c.zero))
	}
	for _, c := range filledIDs {
		if !a.reads(c.name) {
			continue
		}
		agg = append(agg, latestOf(c.name, c.with+" <> ''")+" AS "+c.name)
		fill = append(fill, fmt.Sprintf("CASE WHEN r.%[2]s = '' AND r.%[1]s = '' THEN coalesce(f.%[1]s, '') ELSE r.%[1]s END AS %[1]s", c.name, c.with))
	}
	if len(lacks) == 0 {
		return from
	}
	keep := "NOT MATERIALIZED" // who needs a few columns has only these worked out
	if a.twice {
		keep = "MATERIALIZED"
	}
	fmt.Fprintf(b, "f AS "+keep+" (SELECT flow_id, %s FROM r WHERE flow_id IN (SELECT flow_id FROM r WHERE flow_id <> 0 AND (%s)) GROUP BY flow_id),\n",
		strings.Join(agg, ", "), strings.Join(lacks, " OR "))
	fmt.Fprintf(b, "l0 AS NOT MATERIALIZED (SELECT r.* REPLACE (%s) FROM %s r LEFT JOIN f ON r.flow_id = f.flow_id),\n", strings.Join(fill, ", "), from)
	return "l0"
}

// reads reports whether the question reads a column that may have to be filled in; its filter's are among them.
func (a *ask) reads(column string) bool {
	pair := []string{"fabric", "segment", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id"}
	return a.need == nil || slices.Contains(a.need, column) || len(a.cond.expr.New()) > 0 && slices.Contains(pair, column) || slices.ContainsFunc(a.cond.expr.Fields(), func(f *filter.Field) bool {
		return slices.Contains(f.Stored(), column) || strings.HasSuffix(column, "_vm_id") && slices.Contains(f.Stored(), strings.TrimSuffix(column, "_id"))
	})
}

// fillVTEPs adds the step that fills in the VTEPs. Pairs and conversations do without as long as the filter keeps or
// drops whole flows: their groups hold the rows of all observers.
func fillVTEPs(b *strings.Builder, from string) string {
	var agg, fill []string
	for _, c := range filledVTEPs {
		agg = append(agg, fmt.Sprintf("%s AS %s, %s AS %s_of", latest(c.name, zeroAddr), c.name, latestOf(c.host, c.name+" <> "+zeroAddr), c.name))
		fill = append(fill, fmt.Sprintf("CASE WHEN r.%[1]s = %[3]s AND v.%[1]s IS NOT NULL AND (v.%[1]s_of = '' OR r.%[2]s = '' OR v.%[1]s_of = r.%[2]s) THEN v.%[1]s ELSE r.%[1]s END AS %[1]s",
			c.name, c.host, zeroAddr))
	}
	fmt.Fprintf(b, "v AS NOT MATERIALIZED (SELECT flow_id, %s FROM r WHERE flow_id <> 0 AND (outer_src <> %s OR outer_dst <> %s) GROUP BY flow_id),\n",
		strings.Join(agg, ", "), zeroAddr, zeroAddr)
	fmt.Fprintf(b, "l1 AS NOT MATERIALIZED (SELECT r.* REPLACE (%s) FROM %s r LEFT JOIN v ON r.flow_id = v.flow_id),\n", strings.Join(fill, ", "), from)
	return "l1"
}

// swapped is true for rows whose ends stand in the other order than a and b, the ends of the conversation whatever the direction.
const swapped = `(src > dst OR (src = dst AND (` + srcWho + ` > ` + dstWho + ` OR (` + srcWho + ` = ` + dstWho + ` AND src_port > dst_port))))`

// oriented reports whether rows must know which way their conversation goes.
func (a *ask) oriented() bool { return a.ends || a.cond.expr.OneEnd() }

// orient adds the step that tells rows from the client from those of the server (filter.Turn), and who the client is:
// opener is 1 for the row's source, -1 for its destination, 0 when no observer could tell. Then the greater port is taken for
// the client's. The canonical rows of a conversation that end in the time range
// decide together.
func (a *ask) orient(b *strings.Builder, from string) string {
	if a.rowwise {
		fmt.Fprintf(b, "l4 AS NOT MATERIALIZED (SELECT *, %s AS %s FROM %s),\n", rowTurn, filter.Turn, from)
		return "l4"
	}
	fmt.Fprintf(b, `l2 AS NOT MATERIALIZED (SELECT *, %[1]s AS sw FROM %[2]s),
l3 AS NOT MATERIALIZED (SELECT *, if(sw, -1, 1) * sign(coalesce(sum(CASE client WHEN 1 THEN if(sw, -1, 1) WHEN 2 THEN if(sw, 1, -1) ELSE 0 END) FILTER (%[3]s)
  OVER (PARTITION BY fabric, segment, proto, if(sw, dst, src), if(sw, src, dst), if(sw, %[5]s, %[6]s), if(sw, %[6]s, %[5]s),
  if(sw, dst_port, src_port), if(sw, src_port, dst_port)), 0)) AS opener FROM l2),
l4 AS NOT MATERIALIZED (SELECT * EXCLUDE (sw), CASE WHEN opener <> 0 THEN opener < 0 WHEN src_port <> dst_port THEN src_port < dst_port ELSE sw END AS %[4]s FROM l3),
`, swapped, from, canonical+" AND t_end < "+ts(a.untilMS), filter.Turn, dstWho, srcWho)
	return "l4"
}

// rowTurn is filter.Turn as each row tells it: by its client, else by the ports.
const rowTurn = "CASE WHEN client = 1 THEN false WHEN client = 2 THEN true WHEN src_port <> dst_port THEN src_port < dst_port ELSE " + swapped + " END"

func and(cond string) string {
	if cond == "" {
		return ""
	}
	return " AND (" + cond + ")"
}

// latest is an aggregate: the known value of the row that ended last.
func latest(col, zero string) string { return latestOf(col, col+" <> "+zero) }

// latestOf is the value of a column in the latest row that fits.
func latestOf(col, cond string) string {
	return fmt.Sprintf("arg_max(%s, recent) FILTER (WHERE %s)", col, cond)
}

// recency, of which the rows have the column recent, is one number for all columns, so that it is worked out once for each row.
const recency = store.Recency

// spread is the part of n that falls into the time before ms, when n is spread evenly over a row's
// time: whole numbers, so that the parts of a row add up to n exactly. A row without duration counts at its end.
func spread(n, ms string) string {
	return fmt.Sprintf(`CASE WHEN %[2]s > e THEN (%[1]s)::HUGEINT WHEN %[2]s <= s THEN 0::HUGEINT `+
		`ELSE (%[1]s)::HUGEINT * (%[2]s - s) // (e - s) END`, n, ms)
}
