package segment

import (
	"fmt"
	"strings"
	"time"
)

// rolled says which of a view's files give its roll-ups. Late rows that are not rolled up yet may change which rows of their hour are
// canonical, so that hour is worked out from its rows.
type rolled struct {
	sums  []file // roll-ups whose rows are stored too
	only  []file // roll-ups whose rows have expired
	edges []file // segment files that sums add up: for the part of an hour
	rows  []file // segment files of hours that are not wholly rolled up
}

func (s *Store) rolledLocked(v *view) (r rolled) {
	open := map[int64]bool{} // hours with files that are not rolled up
	for _, f := range v.files {
		if s.man.sums[f.Name] == 0 {
			open[f.hour()] = true
		}
	}
	for _, f := range v.files {
		if open[f.hour()] {
			r.rows = append(r.rows, f)
		} else {
			r.edges = append(r.edges, f)
		}
	}
	for _, f := range v.rolls {
		switch {
		case !s.man.anyLive(f.Of):
			r.only = append(r.only, f)
		case !open[f.hour()]:
			r.sums = append(r.sums, f)
		}
	}
	return r
}

// Rollup implements store.View. Of hours whose rows have expired each bucket counts whole when it begins in the range.
func (v *view) Rollup(step time.Duration, fromNS, toNS int64) string {
	from, to := ceilMS(fromNS), ceilMS(toNS)
	if step != rollupStep {
		return rollupRows(v.Table(), endsIn(from, to), step)
	}
	first, last := -hourOf(-from), hourOf(to) // the whole hours of the range
	if first > last {
		first, last = to, to
	}
	var parts []string
	add := func(files []file, from, to int64) {
		if len(files) > 0 && from < to {
			parts = append(parts, fmt.Sprintf("SELECT %s FROM %s WHERE bucket >= make_timestamp_ms(%d) AND bucket < make_timestamp_ms(%d)",
				rollupProjection, v.s.tableOf(files, storedRollup), from, to))
		}
	}
	add(v.rolled.sums, first, last)
	add(v.rolled.only, from, to)
	if rows := v.unrolled(from, to, first, last); rows != "" {
		parts = append(parts, "SELECT * FROM "+rollupRows(rows, "true", step))
	}
	if len(parts) == 0 {
		return emptyTable(rollupColumns)
	}
	return "(" + strings.Join(parts, "\nUNION ALL ") + ")"
}

// unrolled is a table expression for the rows of the range that roll-ups do not give, "" for none.
func (v *view) unrolled(from, to, first, last int64) string {
	var parts []string
	add := func(files []file, from, to int64) {
		var in []file
		for _, f := range files {
			if f.MaxMS >= from && f.MinMS < to {
				in = append(in, f)
			}
		}
		if len(in) > 0 && from < to {
			parts = append(parts, "SELECT * FROM "+v.s.flowTable(in)+" WHERE "+endsIn(from, to))
		}
	}
	add(v.rolled.rows, from, to)
	add(v.rolled.edges, from, min(first, to))
	add(v.rolled.edges, max(last, from, min(first, to)), to)
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, " UNION ALL ") + ")"
}

func endsIn(from, to int64) string {
	return fmt.Sprintf("t_end >= make_timestamp_ms(%d) AND t_end < make_timestamp_ms(%d)", from, to)
}

var rollupNames = namesOf(rollupColumns)

// ceilMS gives the first whole millisecond at or after a time.
func ceilMS(ns int64) int64 { return -floorMS(-ns) }

// RollupExtent implements store.View.
func (v *view) RollupExtent() (oldestNS, newestNS int64, ok bool) {
	return v.rollOldest, v.rollNewest, v.rollAny
}
