package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/nearest"
)

// Span is the part of a question that all reports share.
type Span struct {
	From   string `query:"from" default:"now-1h" maxLength:"64" doc:"Start of the range, inclusive" example:"now-15m"`
	To     string `query:"to" default:"now" maxLength:"64" doc:"End of the range, exclusive" example:"2026-01-02T15:04:05Z"`
	Filter string `query:"f" maxLength:"8192" doc:"Flow filter expression; empty for everything" example:"vni = 5001 and port 443"`
}

// RowsQuestion asks for rows.
type RowsQuestion struct {
	Span
	Sort   string `query:"sort" maxLength:"64" doc:"Column to sort by, by its JSON name; \"-\" before it for greatest first. Empty for the report's own order" example:"-octets"`
	Limit  int    `query:"limit" minimum:"0" maximum:"100000" doc:"Rows at most; 0 for the report's own limit"`
	Format string `query:"format" enum:"json,jsonl,csv,parquet" default:"json" doc:"json is the whole document, jsonl a line for each row, csv a table under comment lines, parquet a file of the rows"`
}

// linksQuestion asks for a diagram.
type linksQuestion struct {
	Span
	Limit  int    `query:"limit" minimum:"0" maximum:"10000" doc:"Links at most; 0 for the report's own limit"`
	Format string `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
}

// seriesQuestion asks for a time series.
type seriesQuestion struct {
	Span
	By     []string `query:"by,explode" maxItems:"4" doc:"Column to split by, by its JSON name; up to four, repeated or with commas between"`
	Step   string   `query:"step" maxLength:"32" doc:"Width of a bucket, such as 10s; empty for one that fits the range"`
	Metric string   `query:"metric" enum:"octets,packets,flows,l2_octets,retransmits,zero_windows,fragments" default:"octets"`
	Limit  int      `query:"limit" minimum:"0" maximum:"1000" doc:"Lines at most, the rest is summed up as other; 0 for the report's own limit"`
	Format string   `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
	// Previous adds the period of equal length before.
	Previous bool `query:"previous" doc:"Also the period of equal length before"`
}

// spanQuestion asks for one document.
type spanQuestion struct{ Span }

// question is what every input of a report can do.
type question interface {
	query(now time.Time, columns []string) (report.Query, []*Fault)
	format() string
}

func (s *Span) query(now time.Time) (report.Query, []*Fault) {
	q := report.Query{Filter: s.Filter}
	var faults []*Fault
	q.Since, faults = moment(faults, "from", s.From, now)
	q.Until, faults = moment(faults, "to", s.To, now)
	if len(faults) == 0 && !q.Since.Before(q.Until) {
		faults = append(faults, &Fault{Message: "the range is empty: from must be before to", Location: "query.from", Value: s.From})
	}
	if strings.ContainsRune(s.Filter, 0) {
		faults = append(faults, &Fault{Message: "a filter holds no NUL character", Location: "query.f"})
	}
	return q, faults
}

func moment(faults []*Fault, name, text string, now time.Time) (time.Time, []*Fault) {
	t, err := ask.ParseTime(text, now)
	if err != nil {
		faults = append(faults, &Fault{Message: err.Error(), Location: "query." + name, Value: text})
	}
	return t, faults
}

func (r *RowsQuestion) query(now time.Time, columns []string) (report.Query, []*Fault) {
	q, faults := r.Span.query(now)
	name, desc := strings.CutPrefix(r.Sort, "-")
	if same := strings.Replace(name, "bytes", "octets", 1); slices.Contains(columns, same) {
		name = same // filters and metrics take both words
	}
	q.Sort, q.Limit = name, r.Limit
	if desc {
		q.Sort = "-" + name
	}
	if name != "" && !slices.Contains(columns, name) {
		e := answer.ColumnError{Name: name, Nearest: nearest.Of(name, columns), Columns: columns}
		faults = append(faults, &Fault{Message: e.Error(), Location: "query.sort", Value: r.Sort, Suggestion: e.Nearest})
	}
	return q, faults
}

func (r *RowsQuestion) format() string { return r.Format }

// each gives the fields of a parameter that is repeated, or has several with commas between, as on the command line.
func each(fields []string) (all []string) {
	for _, f := range fields {
		for one := range strings.SplitSeq(f, ",") {
			all = append(all, strings.TrimSpace(one))
		}
	}
	return all
}

func (r *linksQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	q, faults := r.Span.query(now)
	q.Limit = r.Limit
	return q, faults
}

func (r *linksQuestion) format() string { return r.Format }

func (r *seriesQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	q, faults := r.Span.query(now)
	q.By, q.Metric, q.Limit, q.Previous = each(r.By), r.Metric, r.Limit, r.Previous
	if r.Step == "" {
		return q, faults
	}
	step, err := ask.ParseSpan(r.Step)
	switch {
	case err != nil:
		faults = append(faults, &Fault{Message: err.Error(), Location: "query.step", Value: r.Step})
	case step < time.Second:
		faults = append(faults, &Fault{Message: "a step is at least 1s", Location: "query.step", Value: r.Step})
	case len(faults) == 0 && q.Until.Sub(q.Since)/step > maxBuckets:
		faults = append(faults, &Fault{Message: fmt.Sprintf("more than %d steps in the range; use a longer step", maxBuckets), Location: "query.step", Value: r.Step})
	}
	q.Step = step
	return q, faults
}

// maxBuckets bounds the buckets of a time series.
const maxBuckets = 10_000

func (r *seriesQuestion) format() string { return r.Format }

func (r *spanQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	return r.Span.query(now)
}

func (r *spanQuestion) format() string { return "json" }
