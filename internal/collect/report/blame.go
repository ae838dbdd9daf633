package report

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"crosstap/internal/collect/report/filter"
)

// maxBlame bounds the parts of a filter that are tried alone.
const maxBlame = 8

// blame says how many rows each part of the filter lets pass when it stands alone.
func (a *ask) blame(ctx context.Context) (string, error) {
	terms := a.cond.expr.Terms()
	var parts []string
	for _, term := range terms[:min(len(terms), maxBlame)] {
		expr, err := filter.Parse(term)
		if err != nil {
			return "", err
		}
		one := &ask{Query: a.Query, sinceMS: a.sinceMS, untilMS: a.untilMS, view: a.view, cond: condition{expr}}
		var n uint64
		query := one.logical(a.sinceMS, a.untilMS) + "\nSELECT count(*) FROM l WHERE " + canonical
		if err := one.each(ctx, query, func(rows *sql.Rows) error { return rows.Scan(&n) }); err != nil {
			return "", err
		}
		if len(term) > 60 {
			term = term[:57] + "…"
		}
		parts = append(parts, fmt.Sprintf("%s matches %d", term, n))
	}
	return strings.ToValidUTF8(strings.Join(parts, ", "), ""), nil
}
