//go:build !agent

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	f := func(status int, kind, body string, want int, args ...string) {
		t.Helper()
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		defer srv.Close()
		root := newRoot()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.SetArgs(append(args, "--server", srv.URL))
		if got := exitCode(root.ExecuteContext(t.Context())); got != want {
			t.Errorf("%d %q to %q: exit %d, want %d", status, body, strings.Join(args, " "), got, want)
		}
	}
	const doc, problem = "application/json", "application/problem+json"
	f(200, doc, `{"meta":{"schema":1},"rows":[]}`, exitOK, "pairs")
	f(200, doc, `{"meta":{"schema":99},"rows":[]}`, exitUsage, "pairs")
	f(200, doc, `{"meta":`, exitUsage, "pairs")
	f(200, doc, `{"healthy":true}`, exitOK, "status", "--check")
	f(200, doc, `{"healthy":false}`, exitFinding, "status", "--check")
	f(200, doc, `{"healthy":false}`, exitOK, "status")
	f(422, problem, `{"status":422,"detail":"x"}`, exitUsage, "flows", "f", "=", "1")
	f(401, problem, `{"status":401}`, exitDenied, "pairs")
	f(403, problem, `{"status":403}`, exitDenied, "pairs")
	f(503, problem, `{"status":503}`, exitTimeout, "pairs")
	f(504, problem, `{"status":504}`, exitTimeout, "conversations")
	f(500, problem, `{"status":500,"detail":"store: short read"}`, exitFinding, "pairs")
	f(404, "text/html", `<html>`, exitFinding, "exporters")
}
