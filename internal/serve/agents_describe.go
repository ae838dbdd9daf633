package serve

import (
	"maps"
	"net/http"
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/api"
)

// agentsHandler answers, and describes what it answers.
type agentsHandler struct{ http.Handler }

// agentList is the answer of /api/v1/agents.
type agentList struct {
	Schema int           `json:"schema"`
	Rows   []agent.Agent `json:"rows"`
}

// Describe adds the operations to an OpenAPI document.
func (agentsHandler) Describe(doc *huma.OpenAPI) {
	reg := huma.NewMapRegistry("#/components/schemas/", agentSchemaName)
	answer := func(kind, text string, t reflect.Type) *huma.Response {
		return &huma.Response{Description: text, Content: map[string]*huma.MediaType{kind: {Schema: reg.Schema(t, true, "")}}}
	}
	all := []*huma.Operation{{
		OperationID: "agents", Method: http.MethodGet, Path: "/api/v1/agents", Summary: "All agents, with their taps", Tags: []string{"state"},
		Responses: map[string]*huma.Response{"200": answer("application/json", "The agents, by name", reflect.TypeFor[agentList]())},
	}, {
		OperationID: "agent", Method: http.MethodGet, Path: "/api/v1/agents/{name}", Summary: "One agent, with its taps", Tags: []string{"state"},
		Parameters: []*huma.Param{{Name: "name", In: "path", Required: true, Description: "Name of the agent", Schema: &huma.Schema{Type: huma.TypeString}}},
		Responses: map[string]*huma.Response{
			"200": answer("application/json", "The agent", reflect.TypeFor[agent.Agent]()),
			"404": answer("application/problem+json", "There is no agent of the name", reflect.TypeFor[api.Problem]()),
		},
	}}
	maps.Copy(doc.Components.Schemas.Map(), reg.Map())
	for _, op := range all {
		doc.AddOperation(op)
	}
}

// agentSchemaName is a type's name with that of its package, since several packages have types of the same name.
func agentSchemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	of := path.Base(t.PkgPath())
	return "Agents" + strings.ToUpper(of[:1]) + of[1:] + name
}
