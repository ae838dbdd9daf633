package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/flow"
)

const (
	defaultLines = 10
	maxLines     = 1000
	maxBuckets   = 5000
	goodBuckets  = 200 // a step that fits gives at most that many
	maxBy        = 4
)

// metrics are what a series can count: the stored value of a row, and how a sum becomes a rate.
var metrics = map[string]struct {
	expr, unit string
	factor     float64
}{
	"octets":  {"octets", "bit/s", 8},
	"packets": {"packets", "packet/s", 1},
	"flows":   {"1", "flow/s", 1},

	"l2_octets":    {"l2_octets", "bit/s", 8},
	"retransmits":  {"retransmits", "segment/s", 1},
	"zero_windows": {"zero_windows", "segment/s", 1},
	"fragments":    {"fragments", "packet/s", 1},
}

// steps are the widths that a step that fits is chosen from.
var steps = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute,
	2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour,
	12 * time.Hour, 24 * time.Hour}

// seriesAsk is the question of a time series, checked.
type seriesAsk struct {
	*ask
	fields []*filter.Field
	stepMS int64
	first  int64 // number of the first bucket: it starts at first × stepMS
	n      int   // buckets
}

// Series implements Reporter. A row is spread evenly over its time, so rows that reach into the range
// from outside count with their part; Total counts rows that end in the range. Buckets start at
// multiples of the step; the first and last may be cut by the range. Lines are ordered by total, the
// rest is summed up as "other". Columns of one end are those of the conversation, source for the client. The metric "flows" counts canonical rows.
func (r *Reports) Series(ctx context.Context, q Query) (Series, error) {
	s, err := checkSeries(q)
	if err != nil {
		return Series{}, err
	}
	var out Series
	err = r.with(ctx, s.ask, func() error {
		out, err = s.answer(ctx, r)
		return err
	})
	if err != nil || !q.Previous {
		return out, err
	}
	return out, r.previous(ctx, q, &out)
}

func checkSeries(q Query) (*seriesAsk, error) {
	if q.Metric == "" {
		q.Metric = "octets"
	}
	if _, ok := metrics[q.Metric]; !ok {
		return nil, &QueryError{"metric", "there is no metric " + quoteName(q.Metric), "metrics: " + strings.Join(slices.Sorted(maps.Keys(metrics)), ", ")}
	}
	if len(q.By) > maxBy {
		return nil, &QueryError{"by", fmt.Sprintf("%d columns to split by", len(q.By)), "4 at most"}
	}
	if q.Limit > maxLines {
		return nil, &QueryError{"limit", fmt.Sprintf("%d lines asked for", q.Limit), "1000 at most"}
	}
	a, err := check(q, defaultLines)
	if err != nil {
		return nil, err
	}
	if a.Sort == "" {
		a.Sort = "-total"
	}
	if a.Sort != "-total" {
		return nil, &QueryError{"sort", "lines are ordered by total", `use "-total"`}
	}
	s := &seriesAsk{ask: a}
	for _, name := range q.By {
		f := filter.Lookup(name)
		if f == nil || f.Either() || f.Name == "seen_by" {
			return nil, &QueryError{"by", "cannot split by " + quoteName(name), "such as tenant, vni, segment, app, proto, src.vm, dst.vm, src.host, src.vtep"}
		}
		s.fields = append(s.fields, f)
		s.ends = s.ends || f.OneEnd()
		s.vteps = s.vteps || strings.Contains(f.Columns[0], "outer_")
	}
	return s, s.buckets()
}

// buckets chooses the step and counts the buckets.
func (s *seriesAsk) buckets() error {
	span := s.untilMS - s.sinceMS
	s.stepMS = s.Step.Milliseconds()
	switch {
	case s.Step < 0 || s.Step > 0 && s.stepMS == 0:
		return &QueryError{"step", s.Step.String() + " is too short", "1ms at least"}
	case s.Step == 0:
		s.stepMS = steps[0].Milliseconds()
		for i := 0; span/s.stepMS > goodBuckets; i++ {
			if i < len(steps) {
				s.stepMS = steps[i].Milliseconds()
			} else {
				s.stepMS *= 2
			}
		}
	}
	s.first = floorDiv(s.sinceMS, s.stepMS)
	n := floorDiv(s.untilMS-1, s.stepMS) - s.first + 1
	if n > maxBuckets {
		return &QueryError{"step", fmt.Sprintf("a step of %v makes %d buckets", s.Step, n), "5000 at most; choose a longer step"}
	}
	s.n = int(n)
	return nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// sql gives for each line (its number from 1, 0 for other) and bucket the thousandths that fall into it.
func (s *seriesAsk) sql() string {
	var keys, same []string
	for i, f := range s.fields {
		keys = append(keys, fmt.Sprintf("%s AS k%d", f.SQL(filter.DuckDB), i))
		same = append(same, fmt.Sprintf("x.k%[1]d = top.k%[1]d", i))
	}
	cols := make([]string, len(s.fields))
	for i := range cols {
		cols[i] = fmt.Sprintf("k%d", i)
	}
	list := strings.Join(append(cols, ""), ", ") // ends with a comma
	order := strings.Join(append([]string{"total DESC"}, cols...), ", ")
	group := "ALL"
	on := strings.Join(append(same, "true"), " AND ")
	bucket := func(ms string) string {
		return fmt.Sprintf("least(greatest(%s, %d), %d) // %d", ms, max(s.sinceMS, 0), s.untilMS-1, s.stepMS)
	}
	return s.logicalWhere(fmt.Sprintf("t_end >= %s AND t_start < %s", ts(s.sinceMS), ts(s.untilMS))) + fmt.Sprintf(`,
x AS NOT MATERIALIZED (SELECT %[1]s (%[2]s)::HUGEINT AS n, epoch_ms(t_start) AS s, epoch_ms(t_end) AS e, packets, octets, marks, %[10]s AS conversation FROM l WHERE %[3]s),
tot AS MATERIALIZED (SELECT %[4]s sum(n) FILTER (e < %[6]d) AS total FROM x GROUP BY %[11]s),
top AS MATERIALIZED (SELECT *, row_number() OVER (ORDER BY %[5]s) AS line FROM tot WHERE total IS NOT NULL ORDER BY %[5]s LIMIT %[7]d),
p AS NOT MATERIALIZED (SELECT coalesce(top.line, 0) AS line, n * 1000 AS n, s, e, unnest(range(%[8]s, %[9]s + 1)) AS i FROM x LEFT JOIN top ON %[12]s),
`, strings.Join(append(keys, ""), ", "), metrics[s.Metric].expr, canonical, list, order, s.untilMS, s.Limit, bucket("s"), bucket("e"), conversationKey,
		group, on)
}

func (s *seriesAsk) answer(ctx context.Context, r *Reports) (Series, error) {
	m := metrics[s.Metric]
	out := Series{By: append([]string{}, s.By...), Metric: s.Metric, Unit: m.unit, StepMS: s.stepMS, Lines: []Line{}}
	for i := range s.n {
		out.Times = append(out.Times, msTime((s.first+int64(i))*s.stepMS))
	}
	lines, total, err := s.lines(ctx)
	if err != nil {
		return Series{}, err
	}
	if err := s.fill(ctx, lines); err != nil {
		return Series{}, err
	}
	for _, n := range slices.Sorted(maps.Keys(lines)) {
		if n != 0 {
			out.Lines = append(out.Lines, s.finish(lines[n], m.factor))
		}
	}
	if other := lines[0]; other != nil {
		out.Lines = append(out.Lines, s.finish(other, m.factor))
	}
	out.Meta, err = s.meta(ctx, r, "series", total.sums, total.sampled, total.ambiguous)
	return out, err
}

// counted is the total over all lines.
type counted struct {
	sums
	sampled, ambiguous uint64
}

// lines reads the keys and totals of the lines, by number.
func (s *seriesAsk) lines(ctx context.Context) (map[int]*Line, counted, error) {
	s.args = nil
	var c counted
	lines := map[int]*Line{}
	cols := ""
	for i := range s.fields {
		cols += fmt.Sprintf("k%d::VARCHAR, ", i)
	}
	inside := fmt.Sprintf("FILTER (e < %d)", s.untilMS)
	query := s.sql() + fmt.Sprintf(`
sums AS MATERIALIZED (SELECT coalesce(sum(octets) %[1]s, 0)::UBIGINT AS octets, coalesce(sum(packets) %[1]s, 0)::UBIGINT AS packets,
  count(DISTINCT conversation) %[1]s AS flows, count(*) FILTER (e < %[2]d AND (marks & 2) <> 0) AS sampled, count(*) FILTER (e < %[2]d AND (marks & 8) <> 0) AS ambiguous FROM x)
SELECT %[3]s line, total::UBIGINT, (SELECT count(*) FROM tot WHERE total IS NOT NULL), (SELECT sum(total) FROM tot)::UBIGINT,
  sums.octets, sums.packets, sums.flows, sums.sampled, sums.ambiguous FROM top, sums ORDER BY line`, inside, s.untilMS, cols)
	var all, known uint64
	err := s.each(ctx, query, func(rows *sql.Rows) error {
		var n int
		l := &Line{Key: make([]string, len(s.fields)), Values: make([]float64, s.n)}
		into := make([]any, 0, len(s.fields)+9)
		for i := range l.Key {
			into = append(into, &l.Key[i])
		}
		if err := rows.Scan(append(into, &n, &l.Total, &c.Rows, &all, &c.Octets, &c.Packets, &c.Flows, &c.sampled, &c.ambiguous)...); err != nil {
			return err
		}
		for i, f := range s.fields {
			l.Key[i] = keyText(f, l.Key[i])
		}
		known += l.Total
		lines[n] = l
		return nil
	})
	if all > known || c.Rows > uint64(len(lines)) {
		lines[0] = &Line{Key: []string{"other"}, Values: make([]float64, s.n), Total: all - known, rest: true}
	}
	return lines, c, err
}

// fill reads what falls into each bucket, in thousandths.
func (s *seriesAsk) fill(ctx context.Context, lines map[int]*Line) error {
	s.args = nil
	lo := fmt.Sprintf("greatest(i * %d, %d)", s.stepMS, s.sinceMS)
	hi := fmt.Sprintf("least((i + 1) * %d, %d)", s.stepMS, s.untilMS)
	query := s.sql() + fmt.Sprintf("\nparts AS NOT MATERIALIZED (SELECT line, i, n, s, e, %s AS lo, %s AS hi FROM p)\nSELECT line, i, sum((%s) - (%s))::DOUBLE FROM parts GROUP BY line, i",
		lo, hi, spread("n", "hi"), spread("n", "lo"))
	return s.each(ctx, query, func(rows *sql.Rows) error {
		var n int
		var i int64
		var sum float64
		if err := rows.Scan(&n, &i, &sum); err != nil {
			return err
		}
		if sum == 0 || i < s.first || i >= s.first+int64(s.n) {
			return nil
		}
		if lines[n] == nil { // rows that only reach into the range
			lines[n] = &Line{Key: []string{"other"}, Values: make([]float64, s.n), rest: true}
		}
		lines[n].Values[i-s.first] = sum / 1000
		return nil
	})
}

// finish turns sums into rates and takes their measures.
func (s *seriesAsk) finish(l *Line, factor float64) Line {
	for i := range l.Values {
		lo, hi := max((s.first+int64(i))*s.stepMS, s.sinceMS), min((s.first+int64(i)+1)*s.stepMS, s.untilMS)
		l.Avg += l.Values[i]
		l.Values[i] = l.Values[i] * factor * 1000 / float64(hi-lo)
	}
	l.Avg = l.Avg * factor * 1000 / float64(s.untilMS-s.sinceMS)
	sorted := slices.SortedFunc(slices.Values(l.Values), cmp.Compare)
	l.Min, l.Max, l.Last = sorted[0], sorted[len(sorted)-1], l.Values[len(l.Values)-1]
	l.P95 = sorted[int(math.Ceil(0.95*float64(len(sorted))))-1]
	return *l
}

// keyText shows a value of a field as the other reports do.
func keyText(f *filter.Field, s string) string {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case f.Kind == filter.Addr:
		return addrText(s)
	case err != nil:
		return s
	case f.Kind == filter.MAC:
		return flow.MAC(n).String()
	case f.Kind == filter.Segment:
		return segmentText(flow.Segment(n))
	case f.Kind == filter.Proto:
		return flow.ProtoText(uint8(n))
	case f.Kind == filter.ID:
		return fmt.Sprintf("%016x", n)
	case f.Name == "role":
		return flow.Role(n).String()
	case f.Name == "direction":
		return flow.DirectionText(uint8(n))
	case f.Name == "end_reason":
		return endReasons[uint8(n)]
	}
	return s
}
