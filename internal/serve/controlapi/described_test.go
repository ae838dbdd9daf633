package controlapi

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"crosstap/internal/testkit"
)

// Whatever the API may answer is described.
func TestDescribedFields(t *testing.T) {
	a := open(t, slog.New(slog.DiscardHandler))
	cfg := huma.DefaultConfig("crosstap", "1")
	cfg.CreateHooks = nil // as the API has it
	doc := humago.New(http.NewServeMux(), cfg).OpenAPI()
	a.Describe(doc)
	fields := 0
	for _, r := range a.routes() {
		if r.doc != nil {
			fields += testkit.Described(t, doc, r.method, r.path, r.doc)
		}
	}
	if fields < 200 {
		t.Errorf("%d fields: documents are not looked into", fields)
	}
}
