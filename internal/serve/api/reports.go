package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/collect/report"

	"github.com/danielgtaylor/huma/v2"
)

// errBusy says that too many questions wait for their turn.
var errBusy = errors.New("too many questions at once")

// output is an answer, already written in its format.
type output struct {
	ContentType  string `header:"Content-Type"`
	Disposition  string `header:"Content-Disposition"`
	ServerTiming string `header:"Server-Timing"`
	Body         []byte
}

// mediaTypes of the formats.
var mediaTypes = map[string]string{
	"json":  "application/json",
	"jsonl": "application/jsonl",
	"csv":   "text/csv; charset=utf-8; header=present",
}

// reports registers the questions that the reporter answers.
func (a *API) reports() {
	r := a.cfg.Reporter
	serveReport[rowsQuestion](a, "pairs", "Pairs with Tenants", sortable[report.Pair](), r.Pairs)
	serveReport[rowsQuestion](a, "conversations", "Tenant Conversations", sortable[report.Conversation](), r.Conversations)
	serveReport[rowsQuestion](a, "flows", "Stored rows, newest first", sortable[report.Flow](), r.Flows)
	serveReport[seriesQuestion](a, "series", "A time series, split by up to four columns", nil, r.Series)
	serveReport[linksQuestion](a, "sankey", "Links of the VTEP–VNI–VTEP diagram", nil, r.Sankey)
	serveReport[spanQuestion](a, "overview", "The first page", nil, r.Overview)
}

// sortable lists the columns of a row type that have an order.
func sortable[T any]() []string {
	return slices.DeleteFunc(answer.Columns[T](), func(name string) bool {
		return name == "spark" || name == "apps" || name == "seen_by" || name == "marks"
	})
}

// serveReport registers one report. I is the question, T the document.
func serveReport[I any, T any, Q interface {
	*I
	question
}](a *API, name, summary string, columns []string, compute func(context.Context, report.Query) (T, error)) {
	op := operation(a.huma, name, summary, reflect.TypeFor[T](), reflect.TypeFor[I]() != reflect.TypeFor[spanQuestion]())
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*output, error) {
		q, faults := Q(in).query(a.cfg.Now(), columns)
		if len(faults) > 0 {
			return nil, wrong(faults...)
		}
		start := time.Now()
		doc, err := limited(a, ctx, q, compute)
		took := time.Since(start)
		a.metrics.queries.WithLabelValues(name).Observe(took.Seconds())
		if err != nil {
			return nil, a.failed(ctx, err, q.Filter)
		}
		out := &output{ServerTiming: fmt.Sprintf("query;dur=%.1f", float64(took.Microseconds())/1000)}
		return out, out.write(name, Q(in).format(), doc)
	})
}

// limited computes an answer when its turn comes, within the time a query may take.
func limited[T any](a *API, ctx context.Context, q report.Query, compute func(context.Context, report.Query) (T, error)) (doc T, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.QueryTimeout)
	defer cancel()
	select {
	case a.waiting <- struct{}{}:
		defer func() { <-a.waiting }()
	default:
		return doc, errBusy
	}
	select {
	case a.running <- struct{}{}:
		defer func() { <-a.running }()
	case <-ctx.Done():
		return doc, ctx.Err()
	}
	doc, err = compute(ctx, q)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // engines name a deadline in their own words
	}
	return doc, err
}

// write puts the document into the body.
func (o *output) write(name, format string, doc any) (err error) {
	var b bytes.Buffer
	switch format {
	case "csv":
		err = answer.CSV(&b, doc, nil, true)
	case "jsonl":
		err = answer.JSONL(&b, doc)
	default:
		err = answer.JSON(&b, doc)
	}
	o.ContentType, o.Body = mediaTypes[format], b.Bytes()
	if format != "json" {
		o.Disposition = fmt.Sprintf("attachment; filename=%q", "crosstap-"+name+"."+format)
	}
	return err
}

// operation describes a report for OpenAPI.
func operation(api huma.API, name, summary string, doc reflect.Type, tabular bool) huma.Operation {
	content := map[string]*huma.MediaType{"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(doc, true, "")}}
	if tabular {
		text := &huma.Schema{Type: huma.TypeString}
		content["application/jsonl"] = &huma.MediaType{Schema: text}
		content["text/csv"] = &huma.MediaType{Schema: text}
	}
	return huma.Operation{
		OperationID: name, Method: http.MethodGet, Path: "/api/v1/" + name, Summary: summary, Tags: []string{"reports"},
		Responses: map[string]*huma.Response{"200": {Description: summary, Content: content}},
		Errors:    []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
	}
}
