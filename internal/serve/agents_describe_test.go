package serve

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"crosstap/internal/testkit"
)

// Whatever the list of agents may say of them and their taps is described.
func TestAgentsDescribed(t *testing.T) {
	cfg := huma.DefaultConfig("crosstap", "1")
	cfg.CreateHooks = nil // as the API has it
	doc := humago.New(http.NewServeMux(), cfg).OpenAPI()
	agentsHandler{}.Describe(doc)
	if n := testkit.Described(t, doc, http.MethodGet, "/api/v1/agents", reflect.TypeFor[agentList]()); n < 50 {
		t.Errorf("%d fields: the document is not looked into", n)
	}
}
