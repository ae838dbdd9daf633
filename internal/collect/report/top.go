package report

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/flow"
	"crosstap/internal/nearest"
)

// TopRow is the traffic of one combination of values. A value of either end (vm, ip, host, …) has traffic both as sender and
// as receiver.
type TopRow struct {
	Period         *time.Time `json:"period"` // start; null for the whole range
	Key            []string   `json:"key"`    // one value for each column asked for
	Octets         uint64     `json:"octets"`
	OctetsError    uint64     `json:"octets_error"` // half width of the 95 % interval; 0 when counted
	OctetsSent     *uint64    `json:"octets_sent"`  // by the end in the key; null unless it stands for either
	OctetsReceived *uint64    `json:"octets_received"`
	L2Octets       uint64     `json:"l2_octets"`
	Packets        uint64     `json:"packets"`
	Flows          *uint64    `json:"flows"` // distinct 5-tuples; null unless sorted by them
	Rows           uint64     `json:"rows"`  // stored rows
	Retransmits    uint64     `json:"retransmits"`
	ZeroWindows    uint64     `json:"zero_windows"`
	Fragments      uint64     `json:"fragments"`
	RTTAvgUS       *float64   `json:"rtt_avg_us"` // null when nobody measured
	RTTMaxUS       *uint64    `json:"rtt_max_us"`
	RTTP50US       *float64   `json:"rtt_p50_us"` // half of what was measured is less; null unless sorted by rtt, from rows
	RTTP95US       *float64   `json:"rtt_p95_us"`
	RTTP99US       *float64   `json:"rtt_p99_us"`
	Share          float64    `json:"share"` // of the period's total in what is sorted by
	FirstSeen      time.Time  `json:"first_seen"`
	LastSeen       time.Time  `json:"last_seen"`
	Marks          []string   `json:"marks"`
}

// Top is the answer of "Top N": the greatest first, in each period and for each value of Per.
type Top struct {
	Meta     Meta     `json:"meta"`
	By       []string `json:"by"`
	Per      []string `json:"per"` // the first columns of the key: each of their values has its own list
	PeriodMS int64    `json:"period_ms"`
	Metric   string   `json:"metric"`
	Rows     []TopRow `json:"rows"`
}

// Metrics are what top and series can count.
var Metrics = []string{"octets", "packets", "flows", "l2_octets", "retransmits", "zero_windows", "fragments", "rtt", "rows"}

// topMetrics gives the column of the step q to order by.
var topMetrics = map[string]string{"octets": "octets", "packets": "packets", "flows": "flows", "l2_octets": "l2_octets", "retransmits": "retransmits",
	"zero_windows": "zero_windows", "fragments": "fragments", "rtt": "rtt_avg", "rows": "n"}

const (
	defaultTop = 10
	maxTopBy   = 8
)

// topAsk is a checked question.
type topAsk struct {
	*ask
	fields   []*filter.Field // those of Per first
	per      int
	periodMS int64
	either   bool // some field stands for both ends
	observed bool // some field is of an observer: rows of all observers count
	having   *filter.Expr
	first    *topFirst // nil when all sums are asked for at once
}

// Top implements Reporter. Sums are of canonical rows. A column that tells where a flow was seen (observer, exporter,
// direction, interfaces, …) makes the rows of all observers count, each observer for itself; one that reports a flow in both
// directions counts it once, by the greater.
func (r *Reports) Top(ctx context.Context, q Query) (Top, error) {
	t, err := checkTop(q)
	if err != nil {
		return Top{}, err
	}
	var out Top
	err = r.with(ctx, t.ask, func() error {
		out, err = t.answer(ctx, r)
		return err
	})
	return out, err
}

func checkTop(q Query) (*topAsk, error) {
	if q.Metric == "" {
		q.Metric = "octets"
	}
	if topMetrics[q.Metric] == "" {
		return nil, &QueryError{"metric", "there is no metric " + quoteName(q.Metric), "metrics: " + strings.Join(Metrics, ", ")}
	}
	if len(q.By)+len(q.Per) > maxTopBy || len(q.By)+len(q.Per) == 0 {
		return nil, &QueryError{"by", fmt.Sprintf("%d columns", len(q.By)+len(q.Per)), "1 to 8, such as src.vm,dst.port"}
	}
	if q.Sort != "" && q.Sort != "-"+q.Metric {
		return nil, &QueryError{"sort", "rows are ordered by the metric", "choose the metric instead"}
	}
	q.Sort = "-" + q.Metric
	a, err := check(q, defaultTop)
	if err != nil {
		return nil, err
	}
	t := &topAsk{ask: a, per: len(q.Per)}
	if err := t.columns(); err != nil {
		return nil, err
	}
	if err := t.period(); err != nil {
		return nil, err
	}
	if t.having, err = parseHaving(q.Having); err != nil {
		return nil, err
	}
	can := !t.observed && q.Metric != "flows" && (q.Metric != "rtt" || q.Resolution == "1h") && (t.periodMS == 0 || t.periodMS%time.Hour.Milliseconds() == 0)
	t.linked = t.periodMS == 0 && !slices.ContainsFunc(t.fields, (*filter.Field).Addressed)
	return t, t.useRollup(can, t.fields...)
}

// columns finds the fields to group by.
func (t *topAsk) columns() error {
	for i, name := range append(slices.Clone(t.Per), t.By...) {
		f := filter.Lookup(name)
		if f == nil || !splits(f) {
			return splitError(i < len(t.Per), name)
		}
		t.fields = append(t.fields, f)
		t.either = t.either || f.Either()
		t.observed = t.observed || f.Level == filter.Observation
		t.vteps = t.vteps || strings.Contains(f.Columns[0], "outer_")
		t.need = append(t.need, f.Stored()...)
	}
	for _, c := range t.need {
		if c == "src_vm" || c == "dst_vm" {
			t.need = append(t.need, c+"_id")
		}
	}
	if t.vteps {
		t.need = append(t.need, "src_host", "dst_host")
	}
	if t.Metric == "flows" {
		t.need = append(t.need, "fabric", "segment", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id")
	}
	return nil
}

// splits reports whether a field has values to group by.
func splits(f *filter.Field) bool {
	return f.Name != "seen_by" && f.Kind != filter.Bytes && f.Kind != filter.Micros && f.Kind != filter.Duration
}

// splitError blames the part of the question that names what is no field to group by. What begins with a digit, as no field does, was meant for period.
func splitError(per bool, name string) error {
	field := "by"
	if per {
		field = "per"
		if name != "" && '0' <= name[0] && name[0] <= '9' {
			return &QueryError{field, "cannot split by " + quoteName(name), "period gives each length of time its own list, such as 1m"}
		}
	}
	var names []string
	for _, f := range filter.Fields() {
		if splits(&f) {
			names = append(names, f.Name)
		}
	}
	if name == "seen_by" { // it is a list
		return &QueryError{field, "cannot split by " + quoteName(name), "observer counts the rows of each by itself"}
	}
	hint := nearest.Hint(name, names, "such as src.vm, dst.vm, vm, tenant, vni, app, dst.port, src.ip, host, observer")
	return &QueryError{field, "cannot split by " + quoteName(name), hint}
}

func (t *topAsk) period() error {
	t.periodMS = t.Period.Milliseconds()
	switch {
	case t.Period < 0 || t.Period > 0 && t.Period < time.Second:
		return &QueryError{"period", t.Period.String() + " is too short", "1s at least"}
	case t.periodMS > 0 && (t.untilMS-t.sinceMS)/t.periodMS > maxBuckets:
		return &QueryError{"period", fmt.Sprintf("more than %d periods in the range", maxBuckets), "choose a longer one"}
	}
	return nil
}

// havingFields are the sums that a condition on them may name.
var havingFields = []string{"octets", "packets", "l2_octets", "retransmits", "zero_windows", "fragments"}

func parseHaving(text string) (*filter.Expr, error) {
	e, err := filter.Parse(text)
	if err != nil {
		fe := err.(*FilterError)
		return nil, &QueryError{"having", fmt.Sprintf("column %d: %s", fe.Pos+1, fe.Message), fe.Suggestion}
	}
	for _, f := range e.Fields() {
		if !slices.Contains(havingFields, f.Name) {
			return nil, &QueryError{"having", "a condition on sums cannot ask for " + quoteName(f.Name), "fields: " + strings.Join(havingFields, ", ")}
		}
	}
	if len(e.New()) > 0 {
		return nil, &QueryError{"having", `a condition on sums cannot ask for "new"`, "put it into the filter"}
	}
	return e, nil
}

// answer asks for the rows.
func (t *topAsk) answer(ctx context.Context, r *Reports) (Top, error) {
	out := Top{By: append([]string{}, t.By...), Per: append([]string{}, t.Per...), PeriodMS: t.periodMS, Metric: t.Metric, Rows: []TopRow{}}
	var total sums
	var sampled, ambiguous uint64
	if err := t.pick(ctx); err != nil {
		return Top{}, err
	}
	if t.first == nil || len(t.first.keys) > 0 {
		err := t.each(ctx, t.cut(), func(rows *sql.Rows) error {
			row, err := t.scan(rows, &total, &sampled, &ambiguous)
			out.Rows = append(out.Rows, row)
			return err
		})
		if err != nil {
			return Top{}, err
		}
	}
	if f := t.first; f != nil {
		total, sampled, ambiguous = f.total, f.sampled, f.ambiguous
		t.forget()
	}
	if t.either {
		t.notes = append(t.notes, "a flow counts at both of its ends; totals count it at each")
	}
	if t.observed {
		t.notes = append(t.notes, "each observer counts what it saw; what several saw is in each of theirs")
	}
	if t.Metric != "flows" {
		t.notes = append(t.notes, "flows are not counted")
	}
	var err error
	out.Meta, err = t.meta(ctx, r, "top", total, sampled, ambiguous)
	return out, err
}

func (t *topAsk) scan(rows *sql.Rows, total *sums, sampled, ambiguous *uint64) (TopRow, error) {
	row := TopRow{Key: make([]string, len(t.fields))}
	var period int64
	var variance float64
	var sent, rttN, rttMax uint64
	var rtt, p50, p95, p99 sql.NullFloat64
	var flows sql.NullInt64
	var marks uint16
	var into []any
	for i := range row.Key {
		into = append(into, &row.Key[i])
	}
	into = append(into, &period, &row.Octets, &variance, &sent, &row.L2Octets, &row.Packets, &flows, &row.Rows, &row.Retransmits, &row.ZeroWindows, &row.Fragments,
		&rttN, &rtt, &rttMax, &p50, &p95, &p99, &row.Share, &row.FirstSeen, &row.LastSeen, &marks, &total.Rows, &total.Octets, &total.Packets, &total.Flows, sampled, ambiguous)
	if err := rows.Scan(into...); err != nil {
		return row, err
	}
	for i, f := range t.fields {
		row.Key[i] = keyText(f, row.Key[i])
	}
	if t.periodMS > 0 {
		at := msTime(period)
		row.Period = &at
	}
	if t.either {
		received := row.Octets - sent
		row.OctetsSent, row.OctetsReceived = &sent, &received
	}
	if flows.Valid {
		n := uint64(flows.Int64)
		row.Flows = &n
	}
	if rttN > 0 {
		row.RTTAvgUS, row.RTTMaxUS = &rtt.Float64, &rttMax
		if p50.Valid {
			row.RTTP50US, row.RTTP95US, row.RTTP99US = &p50.Float64, &p95.Float64, &p99.Float64
		}
	}
	row.OctetsError = uint64(math.Round(z95 * math.Sqrt(variance)))
	row.FirstSeen, row.LastSeen, row.Marks = row.FirstSeen.UTC(), row.LastSeen.UTC(), markNames(flow.Mark(marks))
	return row, nil
}

// TopColumns are the fields that top can split by, those of everyday use first.
func TopColumns() []string {
	var out []string
	for _, f := range filter.Fields() {
		if splits(&f) {
			out = append(out, f.Name)
		}
	}
	return out
}
