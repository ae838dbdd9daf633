package segment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// rolled says which of a view's files give its roll-ups. Late rows that are not rolled up yet may change which rows of their hour are
// canonical, so that hour is worked out from its rows.
type rolled struct {
	kinds  map[int]bool // of the segments in the view's segment files; nil for not known
	sums   []file       // roll-ups whose rows are stored too
	only   []file       // roll-ups whose rows have expired
	merged []mergedHours
	full   map[int64]bool // hours in whose segment files no row lacks what another one of its flow knows
	edges  []file         // segment files that sums add up: for the part of an hour
	rows   []file         // segment files of hours that are not wholly rolled up
}

// mergedHours is a merged roll-up with what each of its hours is: of rows that are stored too, or that have expired.
type mergedHours struct {
	file       file
	sums, only []int64
	links      *file // nil for none
	quarters   *file // links of the quarters of a day; nil for none
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
	r.kinds, r.full = s.kindsLocked(v), map[int64]bool{}
	for _, f := range v.rolls {
		for _, h := range f.full() {
			r.full[h] = !open[h]
		}
		switch {
		case isLinks(f.Name):
		case f.Span > 0:
			r.merged = append(r.merged, s.mergedLocked(f, open))
		case !s.man.anyLive(f.Of):
			r.only = append(r.only, f)
		case !open[f.hour()]:
			r.sums = append(r.sums, f)
		}
	}
	return r
}

// kindsLocked gives the kinds of the segments that rows have: roll-ups of the same rows know them.
func (s *Store) kindsLocked(v *view) map[int]bool {
	left, kinds := map[string]bool{}, map[int]bool{}
	for _, f := range v.files {
		left[f.Name] = true
	}
	for _, f := range v.rolls {
		if isLinks(f.Name) || f.Kinds == nil && f.Rows > 0 {
			continue
		}
		for _, k := range f.Kinds {
			kinds[k] = true
		}
		for _, n := range f.Of {
			delete(left, n)
		}
	}
	if len(left) > 0 {
		return nil
	}
	return kinds
}

// SegmentKinds implements store.KindsView.
func (v *view) SegmentKinds() (kinds []int, ok bool) {
	return slices.Sorted(maps.Keys(v.rolled.kinds)), v.rolled.kinds != nil
}

func (s *Store) mergedLocked(f file, open map[int64]bool) mergedHours {
	m := mergedHours{file: f}
	for _, h := range f.hours() {
		switch {
		case !s.man.anyLive(f.byHour[h]):
			m.only = append(m.only, h)
		case !open[h]:
			m.sums = append(m.sums, h)
		}
	}
	if len(f.Except) > 0 {
		return m
	}
	if links, there := s.man.rolls[linksOf(f.Name)]; there {
		m.links = &links
	}
	if links, there := s.man.rolls[quartersOf(f.Name)]; there {
		m.quarters = &links
	}
	return m
}

// in gives the hours of which a range takes the sums: it has them whole, or their rows have expired. all says that these are all rows of the file.
func (m *mergedHours) in(from, to, first, last int64) (hours []int64, all bool) {
	for _, h := range m.sums {
		if h >= first && h < last {
			hours = append(hours, h)
		}
	}
	for _, h := range m.only {
		if h >= from && h < to {
			hours = append(hours, h)
		}
	}
	return hours, len(hours) == len(m.file.byHour) && len(m.file.Except) == 0
}

// inQuarters gives the quarters of which the hours are all those that the file has, and the other hours.
func (m *mergedHours) inQuarters(hours []int64) (quarters, rest []int64) {
	left := map[int64]int{}
	for h := range m.file.byHour {
		left[bucketOf(h, quarterMS)]++
	}
	for _, h := range hours {
		left[bucketOf(h, quarterMS)]--
	}
	for _, h := range hours {
		switch q := bucketOf(h, quarterMS); {
		case left[q] > 0:
			rest = append(rest, h)
		case !slices.Contains(quarters, q):
			quarters = append(quarters, q)
		}
	}
	return quarters, rest
}

// Rollup implements store.View. Of hours whose rows have expired each bucket counts whole when it begins in the range.
func (v *view) Rollup(step time.Duration, fromNS, toNS int64) string {
	from, to := ceilMS(fromNS), ceilMS(toNS)
	if step != rollupStep {
		return rollupRows(v.Table(), endsIn(from, to), step)
	}
	return v.RollupPart(store.Part{FromNS: fromNS, ToNS: toNS})
}

// RollupPart implements store.PartView. Links are taken where they are of the same hours as a merged roll-up that the range has whole.
func (v *view) RollupPart(p store.Part) string {
	from, to := ceilMS(p.FromNS), ceilMS(p.ToNS)
	first, last := wholeHours(from, to)
	var parts, links []string // statements
	ends := endsOf(p.Addrs)
	take := func(into *[]string, files []file, where string) {
		if len(files) == 0 {
			return
		}
		for _, end := range ends {
			*into = append(*into, "SELECT "+rollupProjection+" FROM "+v.s.tableOf(files, storedRollup)+" WHERE "+where+ofPart(files, p)+end)
		}
	}
	add := func(files []file, from, to int64) {
		if from < to {
			take(&parts, files, fmt.Sprintf("bucket >= make_timestamp_ms(%d) AND bucket < make_timestamp_ms(%d)", from, to))
		}
	}
	if p.Bare { // the whole hours around the range
		first, last = hourOf(from), -hourOf(-to)
	}
	add(v.rolled.sums, first, last)
	add(v.rolled.only, from, to)
	var whole, linked []file
	for i := range v.rolled.merged {
		m := &v.rolled.merged[i]
		switch hours, all := m.in(from, to, first, last); {
		case p.Links && m.links != nil && (all || p.Bare && len(hours) > 0):
			linked = append(linked, *m.links)
		case all:
			whole = append(whole, m.file)
		case len(hours) > 0:
			if p.Links && m.quarters != nil {
				var quarters []int64
				if quarters, hours = m.inQuarters(hours); len(quarters) > 0 {
					take(&links, []file{*m.quarters}, inBuckets(quarters, quarterMS))
				}
			}
			if len(hours) > 0 {
				take(&parts, []file{m.file}, inBuckets(hours, hourMS))
			}
		}
	}
	take(&parts, whole, "true")
	take(&links, linked, "true")
	parts = append(parts, v.partsOfRows(from, to, first, last, p)...)
	for i := range parts {
		if canKeep(p) {
			parts[i] = v.kept(parts[i])
		}
	}
	if parts = append(parts, links...); len(parts) == 0 {
		return emptyTable(rollupColumns)
	}
	return "(" + strings.Join(parts, "\nUNION ALL ") + ")"
}

// inBuckets is a condition for some buckets of a length. Ranges cost less than lists.
func inBuckets(starts []int64, length int64) string {
	slices.Sort(starts)
	var any []string
	for i := 0; i < len(starts); {
		n := i + 1
		for n < len(starts) && starts[n] == starts[n-1]+length {
			n++
		}
		any = append(any, fmt.Sprintf("bucket >= make_timestamp_ms(%d) AND bucket < make_timestamp_ms(%d)", starts[i], starts[n-1]+length))
		i = n
	}
	if len(any) == 1 {
		return any[0]
	}
	return "(" + strings.Join(any, " OR ") + ")"
}

// partsOfRows are statements for what roll-ups do not give of a range, from the rows.
func (v *view) partsOfRows(from, to, first, last int64, p store.Part) (parts []string) {
	full, rest := v.unrolled(from, to, first, last)
	if full != "" {
		parts = append(parts, "SELECT * FROM "+partOf(full, p, true))
	}
	if rest != "" {
		parts = append(parts, "SELECT * FROM "+partOf(rest, p, false))
	}
	return parts
}

// unrolled gives table expressions for the rows of the range that roll-ups do not give, those apart of which none lacks what another one of its flow knows; "" for none.
func (v *view) unrolled(from, to, first, last int64) (full, rest string) {
	in := []filesIn{{v.rolled.rows, from, to}, {v.rolled.edges, from, min(first, to)}, {v.rolled.edges, max(last, from, min(first, to)), to}}
	var lacking []file // such that may lack something
	for i := range in {
		in[i].cut()
		lacking = append(lacking, slices.DeleteFunc(slices.Clone(in[i].files), func(f file) bool { return v.rolled.full[f.hour()] && f.MinMS >= f.hour() })...)
	}
	isFull := func(f file) bool { // rows of an hour may be in files of another one
		h := f.hour()
		return v.rolled.full[h] && !slices.ContainsFunc(lacking, func(g file) bool { return g.MaxMS >= h && g.MinMS < h+hourMS })
	}
	return v.rowsOf(in, isFull), v.rowsOf(in, func(f file) bool { return !isFull(f) })
}

// filesIn are segment files and the time of which their rows matter.
type filesIn struct {
	files    []file
	from, to int64
}

// cut leaves out files without such rows.
func (in *filesIn) cut() {
	in.files = slices.DeleteFunc(slices.Clone(in.files), func(f file) bool { return in.from >= in.to || f.MaxMS < in.from || f.MinMS >= in.to })
}

// rowsOf is a table expression for the rows of those files that fit, "" for none.
func (v *view) rowsOf(in []filesIn, fits func(file) bool) string {
	var parts []string
	for _, one := range in {
		if files := slices.DeleteFunc(slices.Clone(one.files), func(f file) bool { return !fits(f) }); len(files) > 0 {
			parts = append(parts, "SELECT * FROM "+v.s.flowTable(files)+" WHERE "+endsIn(one.from, one.to))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, " UNION ALL ") + ")"
}

// ofPart is a condition for the segments of a part. Row groups are left out by single values only, so that numbers are spelled out in the kinds that the
// files have.
func ofPart(files []file, p store.Part) string {
	if p.Segments == "" {
		return ""
	}
	kinds := map[int]bool{}
	for _, f := range files {
		if f.Kinds == nil && f.Rows > 0 || len(p.Numbers) == 0 {
			return " AND (" + p.Segments + ")"
		}
		for _, k := range f.Kinds {
			kinds[k] = true
		}
	}
	in := []string{"0"} // the list is never empty
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		for _, n := range p.Numbers {
			in = append(in, fmt.Sprintf("%d", uint64(flow.NewSegment(flow.SegmentKind(k), uint32(n)))))
		}
	}
	return " AND segment IN (" + strings.Join(in, ", ") + ")"
}

// partOf adds up the part of rows that matters. Of full rows none lacks what another one of its flow knows.
func partOf(rows string, p store.Part, full bool) string {
	if len(p.Addrs) > 0 { // all rows of a flow have the same addresses
		within := ""
		if p.Within != "" {
			within = " AND " + p.Within
		}
		var of []string
		for _, end := range endsOf(p.Addrs) {
			of = append(of, "SELECT * FROM "+rows+" WHERE true"+end+within)
		}
		rows = "(" + strings.Join(of, " UNION ALL ") + ")"
	}
	switch {
	case p.Count:
		return store.CountRows(rows)
	case p.Bare:
		return store.BareRows(rows)
	case len(p.Addrs) > 0 && (p.Links || p.Single):
		return store.LinkFewRows(rows, full)
	case len(p.Addrs) > 0:
		return store.RollupFewRows(rows, "true", rollupStep, full)
	case p.Segments != "" && full:
		return store.RollupFewRows(rows, p.Segments, rollupStep, full)
	case p.Segments != "":
		return store.RollupFewRows(ofSegments(rows, p.Segments), "true", rollupStep, full)
	case p.Links:
		return store.LinkRows(rows, full)
	}
	return store.RollupManyRows(rows, "true", rollupStep, full)
}

// fewAddrs is how many addresses are looked for one by one.
const fewAddrs = 8

// endsOf are conditions for rows with one of the addresses at an end: for the source, and for the destination alone. Each is of one column, so that the others
// are read where it holds only. For many addresses, and for none, there is one that always holds.
func endsOf(addrs []string) []string {
	if len(addrs) == 0 || len(addrs) > fewAddrs {
		return []string{""}
	}
	end := func(column string) string {
		var any []string
		for _, a := range addrs {
			id, err := uuid.Parse(a)
			if err != nil {
				return ""
			}
			any = append(any, fmt.Sprintf("%s = '%s'::UUID", column, id))
		}
		return strings.Join(any, " OR ")
	}
	src, dst := end("src"), end("dst")
	if src == "" {
		return []string{""}
	}
	return []string{" AND (" + src + ")", " AND (" + dst + ") AND NOT (" + src + ")"}
}

// ofSegments gives those of the rows that matter for the roll-up of some segments: theirs, those that may turn out to be theirs, and those of other segments by
// which a row of them may be completed. Which flows have such rows is looked at first, in a few columns: mostly none.
func ofSegments(rows, cond string) string {
	return fmt.Sprintf(`(WITH more AS MATERIALIZED (SELECT DISTINCT flow_id AS id FROM %[1]s WHERE segment <> 0 AND NOT (%[2]s) AND flow_id IN (SELECT flow_id FROM %[1]s WHERE (segment = 0 OR %[2]s) AND flow_id <> 0 AND (%[3]s)))
SELECT * FROM %[1]s WHERE segment = 0 OR %[2]s UNION ALL
  SELECT * FROM %[1]s WHERE segment <> 0 AND NOT (%[2]s) AND flow_id IN (SELECT id FROM more))`, rows, cond, store.RowLacks())
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
