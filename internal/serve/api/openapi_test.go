package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The description must hold together: every reference leads somewhere, ids are unique, and each path that it names
// answers with a status it names.
func TestOpenAPI(t *testing.T) {
	a, _ := newTest(t, nil)
	var doc map[string]any
	if err := json.Unmarshal(get(a, "/openapi.json").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if v := fmt.Sprint(doc["openapi"]); !strings.HasPrefix(v, "3.1") {
		t.Errorf("version %s", v)
	}
	walk(doc, func(key string, v any) {
		if ref, ok := v.(string); ok && key == "$ref" && resolve(doc, ref) == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	})
	var ids []string
	for path, item := range doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			o := op.(map[string]any)
			ids = append(ids, fmt.Sprint(o["operationId"]))
			if method != "get" || o["summary"] == "" || len(o["responses"].(map[string]any)) == 0 {
				t.Errorf("%s %s: %v", method, path, o)
			}
			if path == "/api/v1/events" {
				continue // does not end
			}
			w := get(a, path)
			answer, ok := o["responses"].(map[string]any)[fmt.Sprint(w.Code)].(map[string]any)
			kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
			if !ok || answer["content"].(map[string]any)[kind] == nil {
				t.Errorf("%s answers %d %s, which is not described", path, w.Code, kind)
			}
		}
	}
	formats(t, a, doc)
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(unique) != len(ids) {
		t.Errorf("ids %v", ids)
	}
	if w := get(a, "/openapi.yaml"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "openapi: 3.1") {
		t.Errorf("yaml: %d", w.Code)
	}
}

// formats asks for each format that a path may be asked for: what comes is described, and everything with rows comes as CSV, JSON lines and Parquet.
func formats(t *testing.T, a *API, doc map[string]any) {
	t.Helper()
	for path, item := range doc["paths"].(map[string]any) {
		o := item.(map[string]any)["get"].(map[string]any)
		described := o["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any)
		parameters, _ := o["parameters"].([]any)
		for _, p := range parameters {
			p := p.(map[string]any)
			if p["name"] != "format" {
				continue
			}
			asked := p["schema"].(map[string]any)["enum"].([]any)
			for _, must := range []any{"json", "jsonl", "csv", "parquet"} {
				if !slices.Contains(asked, must) {
					t.Errorf("%s has no format %s", path, must)
				}
			}
			for _, format := range asked {
				question := fmt.Sprint(path, "?format=", format)
				if path == "/api/v1/vm" {
					question += "&name=web-1"
				}
				w := get(a, question)
				kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
				if w.Code != http.StatusOK || described[kind] == nil {
					t.Errorf("%s answers %d %s, which is not described", question, w.Code, kind)
				}
				if magic := "PAR1"; format == "parquet" && !strings.HasPrefix(w.Body.String(), magic) {
					t.Errorf("%s is no Parquet file", question)
				}
			}
			if len(described) != len(asked) {
				t.Errorf("%s: %d formats, %d described", path, len(asked), len(described))
			}
		}
	}
}

// walk calls visit for every key of the document.
func walk(v any, visit func(string, any)) {
	switch x := v.(type) {
	case map[string]any:
		for k, child := range x {
			visit(k, child)
			walk(child, visit)
		}
	case []any:
		for _, child := range x {
			walk(child, visit)
		}
	}
}

// resolve follows a reference such as "#/components/schemas/Pair".
func resolve(doc map[string]any, ref string) any {
	var at any = doc
	for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[step]
	}
	return at
}
