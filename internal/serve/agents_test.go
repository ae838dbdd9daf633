package serve

import (
	"strings"
	"testing"

	"crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
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
	if got := fewNames(strings.Fields("a b c d e f g")); got != "a, b, c, d, e and 2 more" {
		t.Error(got)
	}
}
