package controlapi

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"crosstap/internal/control"
	"crosstap/internal/serve/openapi"
)

// base is where all paths but that of the schema begin.
const base = "/api/v1/control/"

// route is one question that the API answers.
type route struct {
	method, path, id, summary string
	query                     []param
	body                      bool
	doc                       reflect.Type // of the answer; nil for a document of others
	errors                    []int
	answer                    func(*http.Request) (any, error)
}

type param struct{ name, kind, doc string }

// routes are all of them, as they are answered and described.
func (a *API) routes() []route {
	change := []int{http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusGatewayTimeout}
	get := func(name, summary string, doc reflect.Type, answer func(*http.Request) (any, error), query ...param) route {
		return route{
			method: http.MethodGet, path: base + name, id: "control-" + strings.ReplaceAll(strings.ReplaceAll(name, "/{id}", "-one"), "/", "-"), summary: summary, doc: doc,
			answer: answer, query: query, errors: []int{http.StatusUnprocessableEntity, http.StatusInternalServerError},
		}
	}
	post := func(name, summary string, doc reflect.Type, answer func(*http.Request) (any, error)) route {
		return route{method: http.MethodPost, path: base + name, id: "control-" + name, summary: summary, doc: doc, answer: answer, body: true, errors: change}
	}
	sketched := []param{
		{"select", huma.TypeString, "Selector of a tap"}, {"exclude", huma.TypeString, "Selector of what is left out"}, {"tenant", huma.TypeString, "Only machines of that tenant may be seen"},
		{"destination", huma.TypeString, "Destination that copies would go to; repeats"}, {"allow", huma.TypeString, "Allowance, such as uplinks; repeats"},
		{"limit", huma.TypeInteger, "Rows at most, " + strconv.Itoa(maxMatches) + " in all"},
	}
	matchWith := post("match", "The same with resources that are not in force yet; nothing is changed", reflect.TypeFor[Matches](), a.matchWith)
	matchWith.id, matchWith.query = "control-match-with", sketched
	applied := reflect.TypeFor[Applied]()
	rollback := post("rollback", "Bring back what was before a change; without force refused when later edits would be undone, too", applied, a.rollback)
	rollback.errors = append(slices.Clone(change), http.StatusNotFound, http.StatusConflict)
	return []route{
		get("resources", "Resources in force, as they were written", reflect.TypeFor[Resources](), a.resources,
			param{"kind", huma.TypeString, "Tap, Destination, Platform or Tenant"}, param{"name", huma.TypeString, "Only the one of that name"}),
		get("taps", "Taps with what each copies, what is left to do, what others have changed, and gaps", reflect.TypeFor[Taps](), a.taps),
		get("history", "Changes, the newest first", reflect.TypeFor[History](), a.history,
			param{"before", huma.TypeInteger, "Only changes with smaller numbers"}, param{"limit", huma.TypeInteger, "So many at most, " + strconv.Itoa(maxHistory) + " in all"},
			param{"kind", huma.TypeString, "With name: only changes of that resource, with its text before and after"}, param{"name", huma.TypeString, "Name of the resource"}),
		get("history/{id}", "One change with its steps", reflect.TypeFor[Change](), a.change),
		get("inventory", "Hosts, switches, machines, ports and mirrors of all platforms", reflect.TypeFor[Inventory](), a.inventory,
			param{"platform", huma.TypeString, "Only that one"}),
		get("match", "What a selector finds now, and what of it would be refused and why", reflect.TypeFor[Matches](), a.match, sketched...),
		get("schema", "JSON Schema of resources", nil, a.schema),
		{method: http.MethodGet, path: "/api/v1/schema/resources.json", id: "schema-resources", summary: "JSON Schema of resources", answer: a.schema},
		matchWith,
		post("plan", "What a change would do; nothing is changed", reflect.TypeFor[control.Plan](), a.plan),
		post("apply", "Make a change", applied, a.apply),
		rollback,
		post("stop", "End all taps", applied, a.stop),
		post("pause", "Pause taps: those that are named, or all", applied, a.pause(true)),
		post("resume", "Let paused taps go on", applied, a.pause(false)),
	}
}

// Describe adds the API to an OpenAPI document. Its schemas have names that begin with Control.
func (a *API) Describe(doc *huma.OpenAPI) {
	part := openapi.NewPart("Control", "control", "controlapi")
	trouble := part.Schema(reflect.TypeFor[problem]())
	var all []*huma.Operation
	for _, r := range a.routes() {
		all = append(all, r.operation(part, trouble))
	}
	part.Add(doc, all)
}

func (r *route) operation(part openapi.Part, trouble *huma.Schema) *huma.Operation {
	answer := &huma.Schema{Type: huma.TypeObject}
	if r.doc != nil {
		answer = part.Schema(r.doc)
	}
	op := &huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary, Tags: []string{"control"},
		Responses: map[string]*huma.Response{"200": {Description: "Answer", Content: openapi.Content("application/json", answer)}},
	}
	if strings.Contains(r.path, "{id}") {
		op.Responses["404"] = &huma.Response{Description: http.StatusText(http.StatusNotFound), Content: openapi.Content("application/problem+json", trouble)}
		op.Parameters = append(op.Parameters, &huma.Param{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeInteger}})
	}
	for _, p := range r.query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: &huma.Schema{Type: p.kind}})
	}
	if r.body {
		op.RequestBody = &huma.RequestBody{Required: true, Content: openapi.Content("application/json", part.Schema(reflect.TypeFor[Request]()))}
	}
	for _, status := range r.errors {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: openapi.Content("application/problem+json", trouble)}
	}
	return op
}
