package report

import (
	"context"
	"database/sql"
	"fmt"

	"crosstap/internal/collect/store"
)

// Questions about all pairs of a long range are asked segment by segment, some at a time: no pair has ends in two segments, and what must be remembered of
// those of a part fits into memory.

// sliceSums are the rows of roll-ups that a slice has at least; of fewer than manySums in all there are no slices.
var (
	sliceSums uint64 = 1_000_000
	manySums  uint64 = 2_000_000
)

// slice is a range of segments, the ends included.
type slice struct{ from, to uint64 }

// cond is the condition on the segment.
func (s slice) cond() string {
	return fmt.Sprintf("segment BETWEEN %d::UBIGINT AND %d::UBIGINT", s.from, s.to)
}

// slices gives the parts to ask about a range in: all segments as one where that is no better.
func (a *ask) slices(ctx context.Context, in span) ([]slice, error) {
	all := slice{0, 1<<64 - 1}
	v, ok := a.view.(interface {
		store.PartView
		SumsIn(fromNS, toNS int64) uint64
	})
	if cond, _ := a.cond.expr.Certain(); !ok || a.step == 0 || cond != "" || v.SumsIn(clampNS(in.from), clampNS(in.to)) < manySums {
		return []slice{all}, nil
	}
	a.args = nil
	query := "SELECT segment, count(*) FROM " + a.rollupPart(store.Part{Bare: true}, in.from, in.to) + " GROUP BY segment ORDER BY segment"
	var out []slice
	var rows uint64
	err := a.each(ctx, query, func(r *sql.Rows) error {
		var segment, n uint64
		if err := r.Scan(&segment, &n); err != nil {
			return err
		}
		if rows += n; rows >= sliceSums {
			out, rows, all.from = append(out, slice{all.from, segment}), 0, segment+1
		}
		return nil
	})
	return append(out, all), err
}

// overSlices asks for each part of the segments. Rows without a segment are in the first one.
func (a *ask) overSlices(parts []slice, do func() error) error {
	defer func(only, segments string) { a.only, a.segments = only, segments }(a.only, a.segments)
	for _, s := range parts {
		a.args, a.only, a.segments = nil, s.cond(), ""
		if s.from > 0 {
			a.segments = s.cond()
		}
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
