package report

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/collect/store"
)

// Of many sums by address few are shown. Which ones these are is asked for in the columns that decide it. All else that is told of them is asked of links, which
// have the addresses of workloads with a name; when there are others among them it is asked for in the segments that they are in.

// mostTopAddrs is how many addresses are looked for one by one, mostTopSegments how many segments.
const (
	mostTopAddrs    = 100
	mostTopSegments = 200
)

// topFirst are the first rows of an answer, and the totals over all.
type topFirst struct {
	keys               [][]string // as text
	whole              float64    // of what is sorted by
	total              sums
	sampled, ambiguous uint64
}

// forget makes all be asked for again.
func (t *topAsk) forget() {
	if t.first != nil {
		t.first, t.only, t.segments, t.linked = nil, "", "", false
	}
}

// addrFields are the places of the fields that are inner addresses.
func (t *topAsk) addrFields() (at []int) {
	for i, f := range t.fields {
		if f.Kind == filter.Addr && f.Addressed() {
			at = append(at, i)
		}
	}
	return at
}

// inTwo reports whether the first rows are found first.
func (t *topAsk) inTwo() bool {
	v, ok := t.view.(interface {
		store.PartView
		SumsIn(fromNS, toNS int64) uint64
	})
	n := len(t.addrFields())
	if !ok || t.step == 0 || n == 0 || n*t.Limit > mostTopAddrs || t.periodMS != 0 || t.per != 0 || !t.having.Empty() || t.Metric == "rtt" {
		return false
	}
	return v.SumsIn(clampNS(t.sinceMS), clampNS(t.untilMS)) >= manySums
}

// pick finds the first rows, where that is better than all sums at once.
func (t *topAsk) pick(ctx context.Context) error {
	t.forget()
	if !t.inTwo() {
		return nil
	}
	var texts []string
	for i := range t.fields {
		texts = append(texts, filter.DuckDB.Text(fmt.Sprintf("k%d", i)))
	}
	value := topMetrics[t.Metric]
	if value == "n" {
		value = "rows"
	}
	query := t.rowsByKey([2]string{", segment AS seg, " + t.unnamed(0), ", segment AS seg, " + t.unnamed(1)}) + fmt.Sprintf(`,
q0 AS MATERIALIZED (SELECT %[1]s, seg, bool_or(unnamed) AS unnamed, sum(%[2]s)::UBIGINT AS m, sum(octets)::UBIGINT AS o, sum(packets)::UBIGINT AS packets, sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows FROM y GROUP BY %[1]s, seg),
q AS MATERIALIZED (SELECT %[1]s, sum(m)::UBIGINT AS m, sum(o)::UBIGINT AS o, bool_or(unnamed) AS unnamed FROM q0 GROUP BY %[1]s),
w AS MATERIALIZED (SELECT * FROM q ORDER BY m DESC, o DESC, %[1]s LIMIT %[4]d)
SELECT %[3]s, (SELECT sum(m) FROM q)::DOUBLE, (SELECT count(*) FROM q), (SELECT sum(o) FROM q0)::UBIGINT, (SELECT sum(packets) FROM q0)::UBIGINT, (SELECT sum(sampled_rows) FROM q0)::UBIGINT, (SELECT sum(ambiguous_rows) FROM q0)::UBIGINT,
  (SELECT to_json(list_sort(list(DISTINCT seg)))::VARCHAR FROM q0 JOIN w USING (%[1]s)), (SELECT bool_or(unnamed) FROM w) FROM w`, t.keyList(), value, strings.Join(texts, ", "), t.Limit)
	f := &topFirst{}
	var segments string
	var unnamed bool
	err := t.each(ctx, query, func(rows *sql.Rows) error {
		key := make([]string, len(t.fields))
		var into []any
		for i := range key {
			into = append(into, &key[i])
		}
		f.keys = append(f.keys, key)
		return rows.Scan(append(into, &f.whole, &f.total.Rows, &f.total.Octets, &f.total.Packets, &f.sampled, &f.ambiguous, &segments, &unnamed)...)
	})
	if err != nil || len(f.keys) == 0 {
		t.first = f
		return err
	}
	t.first, t.args, t.linked = f, nil, !unnamed
	return t.narrow(segments)
}

// unnamed is the column that tells whether inventory does not know an address of the key.
func (t *topAsk) unnamed(end int) string {
	var any []string
	for _, i := range t.addrFields() {
		name := func(of string) string {
			return fieldOf(filter.Lookup(strings.Replace(t.fields[i].Name, "ip", of, 1)), end)
		}
		any = append(any, name("vm_id")+" = '' AND "+name("vm")+" = ''")
	}
	return "(" + strings.Join(any, " OR ") + ") AS unnamed"
}

// narrow restricts the question to rows that may be of the first ones.
func (t *topAsk) narrow(segments string) error {
	var in []uint64
	if err := json.Unmarshal([]byte(segments), &in); err != nil {
		return fmt.Errorf("report: segments: %w", err)
	}
	var addrs []string
	for _, i := range t.addrFields() {
		for _, key := range t.first.keys {
			addrs = append(addrs, key[i])
		}
	}
	list := "('" + strings.Join(addrs, "'::UUID, '") + "'::UUID)"
	t.only = "src IN " + list + " OR dst IN " + list
	if !t.linked && len(in) <= mostTopSegments && in[0] != 0 {
		t.segments = "segment IN (" + numbers(in) + ")"
	}
	return nil
}

// ofFirst is a condition for the keys of the first rows, "" when all are asked for.
func (t *topAsk) ofFirst() string {
	if t.first == nil {
		return ""
	}
	var columns, in []string
	for i := range t.fields {
		columns = append(columns, filter.DuckDB.Text(fmt.Sprintf("k%d", i)))
	}
	for _, key := range t.first.keys {
		var values []string
		for _, v := range key {
			values = append(values, t.arg(v))
		}
		in = append(in, "("+strings.Join(values, ", ")+")")
	}
	return " WHERE (" + strings.Join(columns, ", ") + ") IN (" + strings.Join(in, ", ") + ")"
}
