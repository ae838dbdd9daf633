package report

import (
	"math"
	"strconv"
	"strings"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// condition is the filter of a question.
type condition struct{ expr *filter.Expr }

func parseCondition(text string) (condition, error) {
	expr, err := filter.Parse(text)
	return condition{expr}, err
}

// bind lets the filter bind its values. database/sql takes no integer above 2^63 - 1.
func (a *ask) bind(v any) string {
	if n, ok := v.(uint64); ok && n > math.MaxInt64 {
		return "CAST(" + a.arg(strconv.FormatUint(n, 10)) + " AS UBIGINT)"
	}
	return a.arg(v)
}

// target is what filters are written for; the table has the rows of all observers.
func (a *ask) target(table string) filter.Target {
	t := filter.Target{Dialect: filter.DuckDB, Bind: a.bind, Table: table, Pair: pairKey, Seen: seenTable}
	if v, ok := a.view.(store.KindsView); ok {
		if kinds, known := v.SegmentKinds(); known {
			t.Kinds = []flow.SegmentKind{}
			for _, k := range kinds {
				t.Kinds = append(t.Kinds, flow.SegmentKind(k))
			}
		}
	}
	return t
}

// rows is a condition that every row of a matching flow fulfils.
func (c condition) rows(a *ask) string { return c.expr.Rows(a.target("r")) }

// flows is the condition for logical rows, row the one for stored rows as they are.
func (c condition) flows(a *ask) string { return c.expr.Flows(a.target("r")) }

func (c condition) row(a *ask) string { return c.expr.Row(a.target("r")) }

// gapReason finds a gap whose reason contains a word.
func (a *ask) gapReason(word string) string {
	for _, g := range a.gaps() {
		if strings.Contains(g.Reason, word) {
			return g.Reason
		}
	}
	return ""
}
