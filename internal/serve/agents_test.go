package serve

import (
	"encoding/json"
	"strings"
	"testing"

	"crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"

	"github.com/danielgtaylor/huma/v2"
)

// TestAgentFindings says nothing of agents that have not come yet, and lists few names.
func TestAgentFindings(t *testing.T) {
	c := agent.DefaultConfig()
	c.Dir = t.TempDir()
	hub, err := agent.New(c)
	if err != nil {
		t.Fatal(err)
	}
	a := agents{hub: hub}
	spec := tapspec.Spec{Name: "web", Source: tapspec.Source{Interfaces: []string{"eth0"}}, To: []tapspec.To{{URL: "null:"}}}
	if err := hub.Put("h1", []tapspec.Spec{spec}); err != nil {
		t.Fatal(err)
	}
	if f := a.findings(); len(f) != 0 {
		t.Errorf("%+v", f)
	}
	if n := a.counts(); n.Agents[agent.Expected] != 1 || n.Agents[agent.Online] != 0 || len(n.Taps) != 0 {
		t.Errorf("%+v", n)
	}
	if got := fewNames(strings.Fields("a b c d e f g")); got != "a, b, c, d, e and 2 more" {
		t.Error(got)
	}
}

// TestAgentsAreDescribed: what the server answers of agents is in the OpenAPI document, which has a schema for every member.
func TestAgentsAreDescribed(t *testing.T) {
	doc := huma.DefaultConfig("test", "1").OpenAPI
	var a agents
	a.handler().(agentsHandler).Describe(doc)
	for path, id := range map[string]string{"/api/v1/agents": "agents", "/api/v1/agents/{name}": "agent"} {
		if x := doc.Paths[path]; x == nil || x.Get == nil || x.Get.OperationID != id {
			t.Errorf("%s: %+v", path, x)
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"resident_bytes"`, `"path_reason"`, `"inline"`, `"level_counts"`, `"given"`} {
		if !strings.Contains(string(text), member) {
			t.Errorf("no %s in the document", member)
		}
	}
}
