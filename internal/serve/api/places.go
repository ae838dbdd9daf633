package api

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report"

	"github.com/danielgtaylor/huma/v2"
)

// Adapter is a network adapter of a virtual machine, with what it was attached to for a span of time. One adapter has several rows
// when it moved, was renamed or got other addresses.
type Adapter struct {
	VM      string     `json:"vm"`
	VMID    string     `json:"vm_id"` // stable, "" when not known
	Tenant  string     `json:"tenant"`
	Host    string     `json:"host"`
	Switch  string     `json:"switch"` // "" when only the port is known
	Port    string     `json:"port"`
	Segment string     `json:"segment"` // such as "vxlan:5001", "" when not known
	Fabric  string     `json:"fabric"`
	MAC     string     `json:"mac"`
	Addrs   []string   `json:"addrs"`
	From    *time.Time `json:"from"`   // null: since before anybody looked
	Until   *time.Time `json:"until"`  // null: still
	Source  string     `json:"source"` // who tells it: "inventory" or "platforms"
	Change  string     `json:"change"` // what differs from the row before: "moved", "renamed", "addresses", "port", "segment", "back"; "" for the first
}

// Adapters says where machines are and were.
type Adapters struct {
	Schema   int       `json:"schema"`
	Now      time.Time `json:"now"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Machines int       `json:"machines"` // that have a row in the range
	Moved    int       `json:"moved"`    // of those, with more than one host in the range
	Total    int       `json:"total"`    // rows, also those beyond the limit
	Rows     []Adapter `json:"rows"`     // by machine: those that moved first; of one machine the oldest first
}

// adaptersQuestion asks where machines are and were.
type adaptersQuestion struct {
	From   string `query:"from" default:"now-1h" maxLength:"64" doc:"Start of the range, inclusive"`
	To     string `query:"to" default:"now" maxLength:"64" doc:"End of the range, exclusive; \"now\" shows what is there now"`
	Name   string `query:"name" maxLength:"256" doc:"Part of a machine's name or id, or of a host, switch, port, tenant, segment or address; empty for all"`
	Limit  int    `query:"limit" minimum:"0" maximum:"100000" doc:"Rows at most; 0 for 10000"`
	Format string `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
}

const adaptersAtMost = 10_000

// adapters registers the question.
func (a *API) adapters() {
	op := operation(a.huma, "adapters", "Where virtual machines are and were", reflect.TypeFor[Adapters](), formatsOf[adaptersQuestion]())
	op.Tags = []string{"inventory"}
	huma.Register(a.huma, op, func(ctx context.Context, in *adaptersQuestion) (*output, error) {
		now := a.cfg.Now()
		q, faults := (&Span{From: in.From, To: in.To}).query(now)
		if len(faults) > 0 {
			return nil, wrong(faults...)
		}
		doc, err := limited(a, ctx, q, func(context.Context, report.Query) (Adapters, error) {
			return a.whereabouts(q.Since, q.Until, in.Name, cmp.Or(in.Limit, adaptersAtMost)), nil
		})
		if err != nil {
			return nil, a.failed(ctx, err, "")
		}
		doc.Now = now.UTC()
		o := &output{}
		return o, o.write("adapters", in.Format, doc)
	})
}

func (a *API) whereabouts(since, until time.Time, name string, limit int) Adapters {
	doc := Adapters{Schema: report.SchemaVersion, Since: since.UTC(), Until: until.UTC(), Rows: []Adapter{}}
	var all []Adapter
	if a.cfg.Adapters != nil {
		all = a.cfg.Adapters()
	}
	machines := map[string][]Adapter{}
	for _, r := range all {
		key := r.Fabric + "\x00" + cmp.Or(r.VMID, r.VM)
		machines[key] = append(machines[key], r)
	}
	type machine struct {
		rows  []Adapter
		moved bool
	}
	var shown []machine
	for _, rows := range machines {
		tellChanges(rows)
		within := slices.DeleteFunc(slices.Clone(rows), func(r Adapter) bool {
			return r.From != nil && !r.From.Before(until) || r.Until != nil && !r.Until.After(since)
		})
		if len(within) == 0 || !slices.ContainsFunc(within, func(r Adapter) bool { return r.has(name) }) {
			continue
		}
		m := machine{rows: within}
		for _, r := range within {
			m.moved = m.moved || r.Host != within[0].Host
		}
		if m.moved {
			doc.Moved++
		}
		shown = append(shown, m)
	}
	slices.SortFunc(shown, func(x, y machine) int {
		if x.moved != y.moved {
			return map[bool]int{true: -1, false: 1}[x.moved]
		}
		return cmp.Or(cmp.Compare(x.rows[0].VM, y.rows[0].VM), cmp.Compare(x.rows[0].Fabric, y.rows[0].Fabric), cmp.Compare(x.rows[0].VMID, y.rows[0].VMID))
	})
	doc.Machines = len(shown)
	for _, m := range shown {
		doc.Total += len(m.rows)
		doc.Rows = append(doc.Rows, m.rows[:min(len(m.rows), max(0, limit-len(doc.Rows)))]...)
	}
	return doc
}

// has reports whether a part of a name stands anywhere in the row.
func (r *Adapter) has(part string) bool {
	part = strings.ToLower(strings.TrimSpace(part))
	for _, text := range append([]string{r.VM, r.VMID, r.Tenant, r.Host, r.Switch, r.Port, r.Segment, r.MAC}, r.Addrs...) {
		if strings.Contains(strings.ToLower(text), part) {
			return true
		}
	}
	return false
}

// tellChanges orders the rows of one machine by adapter and time, and says what differs from one to the next.
func tellChanges(rows []Adapter) {
	slices.SortFunc(rows, func(x, y Adapter) int {
		return cmp.Or(cmp.Compare(x.MAC, y.MAC), instant(x.From).Compare(instant(y.From)), cmp.Compare(x.Port, y.Port))
	})
	for i := 1; i < len(rows); i++ {
		if was, is := &rows[i-1], &rows[i]; was.MAC == is.MAC {
			is.Change = change(was, is)
		}
	}
}

// instant is a time of which the zero value stands for "since ever".
func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func change(was, is *Adapter) string {
	switch {
	case was.Host != is.Host:
		return "moved"
	case was.VM != is.VM:
		return "renamed"
	case was.Segment != is.Segment || was.Tenant != is.Tenant:
		return "segment"
	case was.Port != is.Port || was.Switch != is.Switch:
		return "port"
	case !slices.Equal(was.Addrs, is.Addrs):
		return "addresses"
	}
	return "back"
}
