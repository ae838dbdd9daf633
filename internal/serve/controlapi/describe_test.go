package controlapi

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"crosstap/internal/control"
	"crosstap/internal/state"
)

func open(t *testing.T, log *slog.Logger) *API {
	t.Helper()
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := control.New(control.Config{Store: st, Connect: Connect(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = line.Close(), st.Close() })
	return New(Config{Line: line, Store: st, Log: log})
}

// Every question of the API is described, with references that lead somewhere and ids of their own.
func TestDescribe(t *testing.T) {
	a := open(t, slog.New(slog.DiscardHandler))
	cfg := huma.DefaultConfig("crosstap", "1")
	cfg.CreateHooks = nil // as the API has it
	doc := humago.New(http.NewServeMux(), cfg).OpenAPI()
	a.Describe(doc)
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Paths      map[string]map[string]struct{ OperationID, Summary string }
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range a.routes() {
		op, ok := all.Paths[r.path][strings.ToLower(r.method)]
		if !ok || op.OperationID == "" || op.Summary == "" || ids[op.OperationID] {
			t.Errorf("%s %s: %+v", r.method, r.path, op)
		}
		ids[op.OperationID] = true
	}
	for _, part := range strings.Split(string(text), `"$ref":"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(part, `"`); all.Components.Schemas[name] == nil {
			t.Errorf("%s leads nowhere", name)
		}
	}
	for _, name := range []string{"ControlTaps", "ControlPlan", "ControlApplied", "ControlPlatformRefusal", "ControlRequest"} {
		if all.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
}

// A client that goes away is no error of the server, and nothing for its log.
func TestClientGone(t *testing.T) {
	var log bytes.Buffer
	a := open(t, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for _, path := range []string{"taps", "resources", "history", "inventory"} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/control/"+path, nil))
		if w.Code != statusClientGone {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if log.Len() > 0 {
		t.Errorf("the log says %s", log.String())
	}
}
