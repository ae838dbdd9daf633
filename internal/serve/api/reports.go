package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
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

	"parquet": "application/vnd.apache.parquet",
	"svg":     "image/svg+xml",
	"dot":     "text/vnd.graphviz; charset=utf-8",
	"mermaid": "text/vnd.mermaid; charset=utf-8",
	"nft":     "text/plain; charset=utf-8",
}

// reports registers the questions that the reporter answers.
func (a *API) reports() {
	r := a.cfg.Reporter
	serveReport[SumsQuestion](a, "pairs", "Pairs with Tenants", sortable[report.Pair](), r.Pairs)
	serveReport[RowsQuestion](a, "conversations", "Tenant Conversations", sortable[report.Conversation](), r.Conversations)
	serveReport[RowsQuestion](a, "flows", "Stored rows, newest first", sortable[report.Flow](), r.Flows)
	serveReport[seriesQuestion](a, "series", "A time series, split by up to four columns", nil, r.Series)
	serveReport[linksQuestion](a, "sankey", "Links of the VTEP–VNI–VTEP diagram", nil, r.Sankey)
	serveReport[spanQuestion](a, "overview", "The first page", nil, r.Overview)
	serveReport[networksQuestion](a, "networks", "Networks: segments with their tunnel endpoints, machines and MTU risk", sortable[report.Network](), r.Networks)
	serveReport[topQuestion](a, "top", "Top N by any columns", nil, r.Top)
	for _, kind := range report.ThingKinds() {
		things := func(ctx context.Context, q report.Query) (report.Things, error) { return r.Things(ctx, kind, q) }
		serveReport[thingsQuestion](a, kind, "What flows know of "+kind, sortable[report.Thing](), things)
	}
	serveReport[vmQuestion](a, "vm", "The page of a virtual machine", nil, r.VM)
	serveReport[mapQuestion](a, "map", "Dependency map", nil, r.Map)
	serveReport[allowQuestion](a, "allow-list", "What a firewall would have to allow for all that was seen", sortable[report.AllowRow](), r.AllowList)
	serveReport[RowsQuestion](a, "observers", "Conversations as each observer saw them", sortable[report.Conversation](), r.Observers)
	serveReport[RowsQuestion](a, "underlay", "Underlay flows that carried what the filter selects", sortable[report.Carrier](), r.Carriers)
	serveReport[RowsQuestion](a, "overlay", "What the underlay flows that the filter selects carried", sortable[report.Carrier](), r.Carried)
	serveReport[irregularQuestion](a, "irregular", "What is irregular: scans, beacons, new pairs, volumes, machines and observers that are silent", nil, r.Irregular)
	serveReport[coverageQuestion](a, "coverage", "What is observed of what virtual adapters counted", nil, r.Coverage)
}

// sortable lists the columns of a row type that have an order.
func sortable[T any]() []string {
	return slices.DeleteFunc(answer.Columns[T](), func(name string) bool {
		return slices.Contains([]string{"spark", "apps", "seen_by", "marks", "tenants", "segments", "hosts", "addrs", "vteps", "known", "needed_mtu", "mtu_risk", "sights", "loss", "guess", "flow_ids", "match", "lost",
			"expected_octets", "outer_proto", "outer_dst_port"}, name)
	})
}

// serveReport registers one report. I is the question, T the document.
func serveReport[I any, T any, Q interface {
	*I
	question
}](a *API, name, summary string, columns []string, compute func(context.Context, report.Query) (T, error)) {
	op := operation(a.huma, name, summary, reflect.TypeFor[T](), formatsOf[I]())
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
	case "parquet":
		err = answer.Parquet(&b, doc)
	case "svg", "dot", "mermaid", "nft":
		err = answer.Picture(&b, doc, format)
	default:
		err = answer.JSON(&b, doc)
	}
	o.ContentType, o.Body = mediaTypes[format], b.Bytes()
	if format != "json" && format != "svg" {
		o.Disposition = fmt.Sprintf("attachment; filename=%q", "crosstap-"+name+"."+format)
	}
	return err
}

// formatsOf lists the formats that a question may ask for, json alone where it has no choice.
func formatsOf[I any]() []string {
	f, ok := reflect.TypeFor[I]().FieldByName("Format")
	if !ok {
		return []string{"json"}
	}
	return strings.Split(f.Tag.Get("enum"), ",")
}

// operation describes a report for OpenAPI.
func operation(api huma.API, name, summary string, doc reflect.Type, formats []string) huma.Operation {
	content := map[string]*huma.MediaType{}
	for _, format := range formats {
		kind, _, _ := strings.Cut(mediaTypes[format], ";")
		schema := &huma.Schema{Type: huma.TypeString}
		switch format {
		case "json":
			schema = api.OpenAPI().Components.Schemas.Schema(doc, true, "")
		case "parquet":
			schema.Format = "binary"
		}
		content[kind] = &huma.MediaType{Schema: schema}
	}
	return huma.Operation{
		OperationID: name, Method: http.MethodGet, Path: "/api/v1/" + name, Summary: summary, Tags: []string{"reports"},
		Responses: map[string]*huma.Response{"200": {Description: summary, Content: content}},
		Errors:    []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
	}
}
