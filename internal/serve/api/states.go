package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"crosstap/internal/collect/report"

	"github.com/danielgtaylor/huma/v2"
)

// nothing is the input of an operation without parameters.
type nothing struct{}

// exportersQuestion asks for the list of exporters.
type exportersQuestion struct {
	Format string `query:"format" enum:"json,jsonl,csv,parquet" default:"json"`
}

// checkQuestion asks whether a filter is valid.
type checkQuestion struct {
	Filter string `query:"f" maxLength:"8192" doc:"Flow filter expression"`
}

// packetsQuestion asks for a flow filter in the language of packet filters.
type packetsQuestion struct {
	Filter string `query:"f" maxLength:"8192" doc:"Flow filter expression"`
	Inner  bool   `query:"inner" doc:"The packets are in tunnels, as on an uplink; otherwise they are plain, as at a machine's port"`
}

// completeQuestion asks what may stand at a place of a filter.
type completeQuestion struct {
	Filter string `query:"f" maxLength:"8192" doc:"Flow filter expression, as far as it is typed"`
	Pos    int    `query:"pos" minimum:"-1" default:"-1" doc:"Place of the cursor, in bytes; -1 for the end"`
	To     string `query:"to" default:"now" maxLength:"64" doc:"Values are those of the newest stored hour before" example:"now"`
	Limit  int    `query:"limit" minimum:"1" maximum:"50" default:"50" doc:"Options at most"`
}

// states registers what is not a report.
func (a *API) states() {
	huma.Register(a.huma, state[nothing](a.huma, "status", "status", "How the server is", reflect.TypeFor[Status]()),
		func(context.Context, *nothing) (*output, error) {
			o := &output{}
			return o, o.write("status", "json", a.status())
		})
	huma.Register(a.huma, state[exportersQuestion](a.huma, "exporters", "exporters", "All exporters, silent ones too", reflect.TypeFor[Exporters]()),
		func(_ context.Context, in *exportersQuestion) (*output, error) {
			s, o := a.status(), &output{}
			return o, o.write("exporters", in.Format, Exporters{Schema: s.Schema, Now: s.Now, Rows: s.Exporters})
		})
	huma.Register(a.huma, state[checkQuestion](a.huma, "filter-check", "filter/check", "Whether a filter is valid", reflect.TypeFor[FilterCheck]()),
		func(_ context.Context, in *checkQuestion) (*output, error) {
			o := &output{}
			return o, o.write("filter-check", "json", check(in.Filter))
		})
	huma.Register(a.huma, state[packetsQuestion](a.huma, "filter-packets", "filter/packets", "A flow filter in the language of packet filters", reflect.TypeFor[report.PacketFilter]()),
		func(_ context.Context, in *packetsQuestion) (*output, error) {
			o := &output{}
			p, fault := report.ToPacketFilter(in.Filter, in.Inner)
			if fault != nil {
				return nil, wrong(filterFault(fault, in.Filter))
			}
			return o, o.write("filter-packets", "json", p)
		})
	huma.Register(a.huma, state[completeQuestion](a.huma, "filter-complete", "filter/complete", "What may stand at a place of a filter", reflect.TypeFor[Completions]()), a.complete)
}

func state[I any](api huma.API, id, path, summary string, doc reflect.Type) huma.Operation {
	op := operation(api, id, summary, doc, formatsOf[I]())
	op.Path, op.Tags = "/api/v1/"+path, []string{"state"}
	op.Errors = []int{http.StatusUnprocessableEntity}
	return op
}

func check(expr string) FilterCheck {
	if e := report.CheckFilter(expr); e != nil {
		return FilterCheck{Error: filterFault(e, expr)}
	}
	return FilterCheck{OK: true}
}

func (a *API) complete(ctx context.Context, in *completeQuestion) (*output, error) {
	until, faults := moment(nil, "to", in.To, a.cfg.Now())
	pos := in.Pos
	if pos < 0 {
		pos = len(in.Filter)
	}
	if pos > len(in.Filter) {
		faults = append(faults, &Fault{Message: fmt.Sprintf("the filter has %d bytes", len(in.Filter)), Location: "query.pos", Value: in.Pos})
	}
	if len(faults) > 0 {
		return nil, wrong(faults...)
	}
	if newest := a.status().Store.DataUntil; newest != nil && newest.Before(until) {
		until = newest.Add(time.Millisecond) // a store that rests still has values to offer
	}
	list, err := limited(a, ctx, report.Query{}, func(ctx context.Context, _ report.Query) (report.Completion, error) {
		return a.cfg.Reporter.Complete(ctx, in.Filter, pos, until)
	})
	if err != nil {
		return nil, a.failed(ctx, err, in.Filter)
	}
	doc := Completions{Completions: []Completion{}}
	for _, o := range list.Options[:min(len(list.Options), in.Limit)] {
		doc.Completions = append(doc.Completions, Completion{o.Text, o.Kind, o.Doc, list.From, list.To})
	}
	o := &output{}
	return o, o.write("filter-complete", "json", doc)
}

// health answers 200 while the server is healthy, else 503, with one line for each finding.
func (a *API) health(w http.ResponseWriter, _ *http.Request) {
	s := a.status()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !s.Healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		fmt.Fprintln(w, "ok")
	}
	for _, f := range s.Findings {
		fmt.Fprintf(w, "%s: %s: %s\n", f.Level, f.What, f.Why)
	}
}

// describe adds to OpenAPI what is not registered with huma.
func (a *API) describe() {
	oapi := a.huma.OpenAPI()
	schemas := oapi.Components.Schemas
	text := func(kind string, s *huma.Schema) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{kind: {Schema: s}}
	}
	str := &huma.Schema{Type: huma.TypeString}
	schemas.Schema(reflect.TypeFor[Tick](), true, "")
	oapi.AddOperation(&huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: "/api/v1/events", Summary: "Live ticks (server-sent events)", Tags: []string{"state"},
		Description: `At most one event "tick" each second, only when something changed; its data is a Tick. Comment lines in between keep the connection.`,
		Responses: map[string]*huma.Response{
			"200": {Description: "A stream of events", Content: text("text/event-stream", str)},
			"503": {Description: "Too many subscribers", Content: text("application/problem+json", schemas.Schema(reflect.TypeFor[Problem](), true, ""))},
		},
	})
	oapi.AddOperation(&huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: "/healthz", Summary: "Whether the server is healthy", Tags: []string{"state"},
		Responses: map[string]*huma.Response{"200": {Description: "Healthy", Content: text("text/plain", str)}, "503": {Description: "Not healthy", Content: text("text/plain", str)}},
	})
	oapi.AddOperation(&huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Summary: "Metrics in the format of Prometheus", Tags: []string{"state"},
		Responses: map[string]*huma.Response{"200": {Description: "Metrics", Content: text("text/plain", str)}},
	})
	for _, h := range []http.Handler{a.cfg.Control, a.cfg.Agents} {
		if d, ok := h.(interface{ Describe(*huma.OpenAPI) }); ok {
			d.Describe(oapi)
		}
	}
}
