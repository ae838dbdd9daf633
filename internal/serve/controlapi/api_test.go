package controlapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/control"
	"crosstap/internal/state"
)

const resources = `apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {url: "vxlan://10.0.0.9?vni=1"}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: web, owner: alice}
spec:
    select: 'vm = web-1'
    destinations: [ids]
`

func TestAPI(t *testing.T) {
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	line, err := control.New(control.Config{Store: st, Connect: Connect(slog.New(slog.DiscardHandler))})
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	api := New(Config{Line: line, Store: st})
	f := func(method, path, body string, code int, want string) string {
		t.Helper()
		req := httptest.NewRequestWithContext(t.Context(), method, "/api/v1/"+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, req)
		if w.Code != code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: %d %s\nwant %d %s", method, path, w.Code, w.Body, code, want)
		}
		return w.Body.String()
	}
	request := func(r Request) string {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	file := request(Request{Files: []File{{"f.yaml", resources}}, Who: "alice", Why: "INC-1"})
	f(http.MethodGet, "control/schema", "", 200, "crosstap resource")
	f(http.MethodGet, "schema/resources.json", "", 200, "crosstap resource")
	f(http.MethodGet, "control/match?select=vm+%3D+web-1", "", 200, `{"vms":0,"ports":0,"hosts":0,"refused":0,"known":0,"rows":[],"hint":"no machine is known: `)
	f(http.MethodPost, "control/match?select=vm+%3D+web-1&destination=ids", file, 200, `"rows":[]`)
	f(http.MethodPost, "control/match?select=vm+%3D+web-1", `{"files":[{"name":"f","text":"a: ["}]}`, 422, "f:1:")
	f(http.MethodGet, "control/match?select=tenent+%3D+blue", "", 422, "select: column 1")
	f(http.MethodGet, "control/match?select=vm+%3D+a&exclude=vm+%3D", "", 422, "exclude: column")
	f(http.MethodGet, "control/match?select=vm+%3D+a&limit=0", "", 422, "limit=0: want a number")
	f(http.MethodGet, "control/resources", "", 200, `{"rows":[]}`)
	f(http.MethodPost, "control/plan", file, 200, `"state":"no-match"`)
	f(http.MethodGet, "control/resources", "", 200, `{"rows":[]}`) // a plan changes nothing
	f(http.MethodPost, "control/plan", `{"fils":[]}`, 400, `unknown field`)
	f(http.MethodPost, "control/plan", request(Request{Files: []File{{"f.yaml", strings.Replace(resources, "select", "selct", 1)}}}), 422, `f.yaml:10:5: unknown key \"selct\"; did you mean \"select\"?`)
	f(http.MethodPost, "control/plan", request(Request{Files: []File{{"f.yaml", strings.Replace(resources, "[ids]", "[idz]", 1)}}}), 422, `there is no destination`)
	f(http.MethodPost, "control/apply", file, 200, `"change":1`)
	f(http.MethodPost, "control/apply", file, 200, `"state":"done","steps":0`)
	f(http.MethodGet, "control/resources?kind=tap", "", 200, `"owner":"alice"`)
	f(http.MethodGet, "control/taps", "", 200, `"name":"web"`)
	f(http.MethodPost, "control/pause", request(Request{Names: []string{"nobody"}}), 422, "there is no tap")
	f(http.MethodPost, "control/pause", request(Request{Who: "bob"}), 200, `"state":"paused"`)
	if text := f(http.MethodGet, "control/resources?kind=Tap&name=web", "", 200, `paused: true`); !strings.Contains(text, `"by":"bob"`) {
		t.Error(text)
	}
	f(http.MethodPost, "control/resume", request(Request{}), 200, `"state":"no-match"`)
	f(http.MethodPost, "control/stop", request(Request{}), 200, `"removed":["web"]`)
	f(http.MethodPost, "control/rollback", request(Request{Change: 99}), 404, "there is none")
	f(http.MethodPost, "control/rollback", request(Request{Change: 4}), 200, `"change":5`)
	f(http.MethodGet, "control/history?limit=2", "", 200, `rollback of change 4`)
	f(http.MethodGet, "control/history/1", "", 200, `"why":"INC-1"`)
	f(http.MethodGet, "control/history?limit=x", "", 422, "want a number")
	f(http.MethodGet, "control/history?kind=Tap&name=web", "", 200, `"edits":[{"kind":"Tap","name":"web"`)
	f(http.MethodGet, "control/history?kind=Tap", "", 422, "give both, or neither")
	f(http.MethodGet, "control/inventory", "", 200, `{"platforms":[]}`)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/control/stop", strings.NewReader("{}"))
	w := httptest.NewRecorder()
	api.ServeHTTP(w, req)
	if w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("without a content type: %d", w.Code)
	}
}
