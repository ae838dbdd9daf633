package serve

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/openapi"
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
	part := openapi.NewPart("Agents")
	answer := func(kind, text string, t reflect.Type) *huma.Response {
		return &huma.Response{Description: text, Content: openapi.Content(kind, part.Schema(t))}
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
	part.Add(doc, all)
}
