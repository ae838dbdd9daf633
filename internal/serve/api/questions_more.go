package api

import (
	"time"

	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
)

// SumsQuestion asks for rows that roll-ups may answer.
type SumsQuestion struct {
	RowsQuestion
	Resolution string `query:"resolution" enum:"auto,raw,1h" default:"auto" doc:"What answers: stored rows, roll-ups of an hour, or what fits the range"`
}

func (r *SumsQuestion) query(now time.Time, columns []string) (report.Query, []*Fault) {
	q, faults := r.RowsQuestion.query(now, columns)
	q.Resolution = resolution(r.Resolution)
	return q, faults
}

// resolution leaves the default out.
func resolution(s string) string {
	if s == "auto" {
		return ""
	}
	return s
}

// thingsQuestion asks for machines, hosts and the like.
type thingsQuestion struct {
	SumsQuestion
	Name string `query:"name" maxLength:"256" doc:"Only the one with that name, id or address"`
}

func (r *thingsQuestion) query(now time.Time, columns []string) (report.Query, []*Fault) {
	q, faults := r.SumsQuestion.query(now, columns)
	q.Name = r.Name
	return q, faults
}

// networksQuestion asks for networks.
type networksQuestion struct {
	SumsQuestion
	MTU int `query:"mtu" minimum:"0" maximum:"65535" doc:"Bytes that the underlay carries; 0 for 1500"`
}

func (r *networksQuestion) query(now time.Time, columns []string) (report.Query, []*Fault) {
	q, faults := r.SumsQuestion.query(now, columns)
	q.MTU = r.MTU
	return q, faults
}

// topQuestion asks for the greatest.
type topQuestion struct {
	Span
	By         []string `query:"by,explode" maxItems:"8" doc:"Column to group by, by its name in filters; repeated or with commas between"`
	Per        []string `query:"per,explode" maxItems:"8" doc:"Column of which each value has its own list; repeated or with commas between"`
	Metric     string   `query:"metric" enum:"octets,packets,flows,l2_octets,retransmits,zero_windows,fragments,rtt,rows" default:"octets" doc:"What to order by"`
	Period     string   `query:"period" maxLength:"32" doc:"A list for each period of that length, such as 1d; empty for one list"`
	Having     string   `query:"having" maxLength:"1024" doc:"Condition on the sums" example:"bytes > 1 MB"`
	Limit      int      `query:"limit" minimum:"0" maximum:"100000" doc:"Rows at most in each list; 0 for ten"`
	Format     string   `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
	Resolution string   `query:"resolution" enum:"auto,raw,1h" default:"auto"`
}

func (r *topQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	q, faults := r.Span.query(now)
	q.By, q.Per, q.Metric, q.Having, q.Limit, q.Resolution = each(r.By), each(r.Per), r.Metric, r.Having, r.Limit, resolution(r.Resolution)
	if r.Period != "" {
		var err error
		if q.Period, err = ask.ParseSpan(r.Period); err != nil {
			faults = append(faults, &Fault{Message: err.Error(), Location: "query.period", Value: r.Period})
		}
	}
	return q, faults
}

func (r *topQuestion) format() string { return r.Format }

// vmQuestion asks for the page of a machine.
type vmQuestion struct {
	Name       string `query:"name" required:"true" minLength:"1" maxLength:"256" doc:"Name, stable id or address of the machine" example:"web-1"`
	From       string `query:"from" default:"now-24h" maxLength:"64" doc:"Start of the range, inclusive"`
	To         string `query:"to" default:"now" maxLength:"64" doc:"End of the range, exclusive"`
	Filter     string `query:"f" maxLength:"8192" doc:"Flow filter expression; empty for everything"`
	Limit      int    `query:"limit" minimum:"0" maximum:"1000" doc:"Peers at most; 0 for twenty"`
	Format     string `query:"format" enum:"json,jsonl,csv,parquet" default:"json" doc:"jsonl, csv and parquet are of the peers"`
	Resolution string `query:"resolution" enum:"auto,raw,1h" default:"auto"`
	Base
}

func (r *vmQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	span := Span{From: r.From, To: r.To, Filter: r.Filter}
	q, faults := span.query(now)
	q.Name, q.Limit, q.Resolution = r.Name, r.Limit, resolution(r.Resolution)
	return r.Base.add(q, faults, now)
}

func (r *vmQuestion) format() string { return r.Format }

// Base is the period to compare with.
type Base struct {
	BaseFrom string `query:"base_from" maxLength:"64" doc:"Start of the period to compare with"`
	BaseTo   string `query:"base_to" maxLength:"64" doc:"End of the period to compare with; it must not be after from"`
}

func (b *Base) add(q report.Query, faults []*Fault, now time.Time) (report.Query, []*Fault) {
	if b.BaseFrom == "" && b.BaseTo == "" {
		return q, faults
	}
	q.BaseSince, faults = moment(faults, "base_from", b.BaseFrom, now)
	q.BaseUntil, faults = moment(faults, "base_to", b.BaseTo, now)
	return q, faults
}

// mapQuestion asks for the dependency map.
type mapQuestion struct {
	Span
	By         []string `query:"by,explode" maxItems:"4" doc:"What to group by: tenant, tier, host, segment, fabric, app, vm; default tenant and tier"`
	Expand     []string `query:"expand,explode" maxItems:"50" doc:"Id of a group that is shown by its members; repeat it"`
	Focus      string   `query:"focus" maxLength:"512" doc:"Id of a node; only what is near it stays"`
	Hops       int      `query:"hops" minimum:"0" maximum:"10" doc:"How near; 0 for one hop"`
	Limit      int      `query:"limit" minimum:"0" maximum:"5000" doc:"Edges at most; 0 for 300"`
	Format     string   `query:"format" enum:"json,jsonl,csv,parquet,svg,dot,mermaid" default:"json" doc:"jsonl, csv and parquet are of the edges"`
	Resolution string   `query:"resolution" enum:"auto,raw,1h" default:"auto"`
	Base
}

func (r *mapQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	q, faults := r.Span.query(now)
	q.By, q.Expand, q.Focus, q.Hops, q.Limit, q.Resolution = each(r.By), r.Expand, r.Focus, r.Hops, r.Limit, resolution(r.Resolution)
	return r.Base.add(q, faults, now)
}

func (r *mapQuestion) format() string { return r.Format }

// allowQuestion asks for an allow list.
type allowQuestion struct {
	Span
	Sort       string `query:"sort" maxLength:"64" doc:"Column to sort by"`
	Limit      int    `query:"limit" minimum:"0" maximum:"100000" doc:"Rules at most; 0 for 100000"`
	Format     string `query:"format" enum:"json,jsonl,csv,parquet,nft" default:"json" doc:"nft is a rule set for nftables, a table for each segment"`
	Resolution string `query:"resolution" enum:"auto,raw,1h" default:"auto"`
}

func (r *allowQuestion) query(now time.Time, columns []string) (report.Query, []*Fault) {
	rows := RowsQuestion{Span: r.Span, Sort: r.Sort, Limit: r.Limit}
	q, faults := rows.query(now, columns)
	q.Resolution = resolution(r.Resolution)
	return q, faults
}

func (r *allowQuestion) format() string { return r.Format }

// coverageQuestion asks what is not seen.
type coverageQuestion struct {
	From       string `query:"from" default:"now-1h" maxLength:"64" doc:"Start of the range, inclusive"`
	To         string `query:"to" default:"now" maxLength:"64" doc:"End of the range, exclusive"`
	By         string `query:"by" enum:"vm,host" default:"vm"`
	Limit      int    `query:"limit" minimum:"0" maximum:"100000" doc:"Rows at most; 0 for the report's own limit"`
	Format     string `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
	Resolution string `query:"resolution" enum:"auto,raw,1h" default:"auto"`
}

func (r *coverageQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	span := Span{From: r.From, To: r.To}
	q, faults := span.query(now)
	q.By, q.Limit, q.Resolution = []string{r.By}, r.Limit, resolution(r.Resolution)
	return q, faults
}

func (r *coverageQuestion) format() string { return r.Format }

// irregularQuestion asks for what is irregular.
type irregularQuestion struct {
	From       string   `query:"from" default:"now-24h" maxLength:"64" doc:"Start of the range, inclusive"`
	To         string   `query:"to" default:"now" maxLength:"64" doc:"End of the range, exclusive"`
	Filter     string   `query:"f" maxLength:"8192" doc:"Flow filter expression; empty for everything"`
	Kind       []string `query:"kind,explode" maxItems:"7" enum:"host_scan,port_scan,beacon,new_pair,volume,silent,observer_silent" doc:"Only that kind; repeat it"`
	Limit      int      `query:"limit" minimum:"0" maximum:"10000" doc:"Rows at most; 0 for 100"`
	Format     string   `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
	Resolution string   `query:"resolution" enum:"auto,raw,1h" default:"auto"`
	Base
}

func (r *irregularQuestion) query(now time.Time, _ []string) (report.Query, []*Fault) {
	span := Span{From: r.From, To: r.To, Filter: r.Filter}
	q, faults := span.query(now)
	q.By, q.Limit, q.Resolution = r.Kind, r.Limit, resolution(r.Resolution)
	return r.Base.add(q, faults, now)
}

func (r *irregularQuestion) format() string { return r.Format }
