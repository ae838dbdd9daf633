package serve

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/serve/api"
	"crosstap/internal/serve/controlapi"
)

// consoleAsks says as which type of web/src/api.ts the console takes the answers of an operation.
var consoleAsks = map[string]string{
	"pairs": "Answer<Pair>", "conversations": "Answer<Conversation>", "flows": "Answer<Flow>", "series": "Series", "sankey": "Sankey", "overview": "Overview", "exporters": "Exporters",
	"status": "Status", "networks": "Networks", "vms": "Answer<Thing>", "vm": "VMPage", "top": "Top", "map": "DependencyMap", "observers": "Answer<Observed>", "underlay": "Answer<Carrier>",
	"coverage": "Coverage", "irregular": "Irregular", "adapters": "Adapters", "topology": "Topology", "filter/explain": "Explanation", "filter/check": "FilterCheck",
	"filter/complete": "Completions", "agents": "Agents", "control/taps": "ControlledTaps", "control/match": "TapMatches", "control/plan": "TapPlan", "control/apply": "Applied",
	"control/history": "{ rows: ControlChange[] | null }", "control/history/{id}": "ChangeDoc", "control/resources": "{ rows: ControlResource[] | null }",
}

// TestConsoleTypes compares web/src/api.ts, which is written by hand, with the OpenAPI document that the server gives: each answer that the console asks for
// has every field the console reads, of that type; what may be null or left out there may be here.
func TestConsoleTypes(t *testing.T) {
	source, err := os.ReadFile("../../web/src/api.ts")
	if err != nil {
		t.Fatal(err)
	}
	a, err := api.New(api.Config{Reporter: struct{ api.Reporter }{}, Status: func() api.Status { return api.Status{} }, Control: &controlapi.API{}, Agents: agentsHandler{}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/openapi.json", nil))
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct{ Schemas map[string]map[string]any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	c := typeComparison{types: readTypes(string(source)), schemas: doc.Components.Schemas, seen: map[string]bool{}, reached: map[string]bool{}}
	for _, path := range slices.Sorted(maps.Keys(consoleAsks)) {
		var schema map[string]any
		for _, o := range doc.Paths["/api/v1/"+path] {
			if schema = o.Responses["200"].Content["application/json"].Schema; schema != nil {
				break
			}
		}
		if schema == nil {
			t.Errorf("%s: no answer is described", path)
			continue
		}
		c.compare(path, consoleAsks[path], schema)
	}
	for _, f := range c.faults {
		t.Error(f)
	}
	// What no operation answers: the data of an event, what is said of a failed request, and rows in the columns that somebody asks for in SQL.
	for name := range c.types {
		if !c.reached[name] && !slices.Contains([]string{"Tick", "Problem", "LaterEdit", "SQLAnswer"}, name) {
			t.Errorf("%s of api.ts is compared with nothing", name)
		}
	}
	if c.fields < 400 {
		t.Errorf("%d fields compared: api.ts is not read", c.fields)
	}
}

// tsType is an interface of api.ts: its fields with their types, of its parents too.
type tsType struct {
	parameter string // of a generic one
	parents   []string
	body      string
}

var tsHead = regexp.MustCompile(`export interface (\w+)(?:<(\w+)>)?(?: extends ([\w, ]+))? \{`)

func readTypes(source string) map[string]tsType {
	source = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAllString(source, "")
	out := map[string]tsType{}
	for _, m := range tsHead.FindAllStringSubmatchIndex(source, -1) {
		group := func(n int) string {
			if m[2*n] < 0 {
				return ""
			}
			return source[m[2*n]:m[2*n+1]]
		}
		out[group(1)] = tsType{group(2), strings.FieldsFunc(group(3), func(r rune) bool { return r == ',' || r == ' ' }), source[m[1] : m[1]+closing(source[m[1]:])]}
	}
	return out
}

// closing returns where the bracket that is open before s closes.
func closing(s string) int {
	depth := 1
	for i, r := range s {
		switch r {
		case '{', '(', '[', '<':
			depth++
		case '}', ')', ']', '>':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(s)
}

// parts divides a text at separators that stand outside of brackets.
func parts(s, separators string) []string {
	var out []string
	depth, from := 0, 0
	for i, r := range s + separators[:1] {
		switch {
		case strings.ContainsRune("{([<", r):
			depth++
		case strings.ContainsRune("})]>", r):
			depth--
		case depth == 0 && strings.ContainsRune(separators, r):
			if part := strings.TrimSpace(s[from:i]); part != "" {
				out = append(out, part)
			}
			from = i + 1
		}
	}
	return out
}

type typeComparison struct {
	types   map[string]tsType
	schemas map[string]map[string]any
	seen    map[string]bool // pairs of a type and a schema
	reached map[string]bool // interfaces of api.ts
	faults  []string
	fields  int
}

func (c *typeComparison) fault(at, format string, args ...any) {
	c.faults = append(c.faults, at+": "+fmt.Sprintf(format, args...))
}

// compare compares a type of api.ts with a schema.
func (c *typeComparison) compare(at, ts string, schema map[string]any) {
	if ref, ok := schema["$ref"].(string); ok {
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		if c.seen[ts+"="+name] {
			return
		}
		c.seen[ts+"="+name] = true
		schema = c.schemas[name]
	} else if kinds := kindsOf(schema); slices.Contains(kinds, "null") && !slices.Contains(parts(ts, "|"), "null") {
		c.fault(at, "%s, and the server may say null", ts)
	}
	choices := slices.DeleteFunc(parts(ts, "|"), func(s string) bool { return s == "null" })
	kinds := slices.DeleteFunc(kindsOf(schema), func(s string) bool { return s == "null" })
	if len(kinds) != 1 {
		return // the server says anything
	}
	ts = choices[0]
	generic, argument, _ := strings.Cut(strings.TrimSuffix(ts, ">"), "<")
	own, known := c.types[generic]
	switch {
	case strings.HasPrefix(ts, "'"): // one of several texts
		ts = "string"
	case strings.HasPrefix(ts, "(") && strings.HasSuffix(ts, ")[]"):
		c.items(at, ts[1:len(ts)-3], schema, kinds[0])
		return
	case strings.HasSuffix(ts, "[]"):
		c.items(at, strings.TrimSuffix(ts, "[]"), schema, kinds[0])
		return
	case generic == "Record":
		if values, ok := schema["additionalProperties"].(map[string]any); ok {
			c.compare(at+".*", parts(argument, ",")[1], values)
		} else {
			c.fault(at, "%s, and the server says %s with names of its own", ts, kinds[0])
		}
		return
	case strings.HasPrefix(ts, "{"):
		c.object(at, ts[1:len(ts)-1], schema)
		return
	case known:
		c.reached[generic] = true
		body := own.body
		for queue := slices.Clone(own.parents); len(queue) > 0; queue = queue[1:] {
			c.reached[queue[0]] = true
			body += "\n" + c.types[queue[0]].body
			queue = append(queue, c.types[queue[0]].parents...)
		}
		if own.parameter != "" {
			body = regexp.MustCompile(`\b`+own.parameter+`\b`).ReplaceAllString(body, argument)
		}
		c.object(generic, body, schema)
		return
	}
	if kind := strings.Replace(kinds[0], "integer", "number", 1); ts != kind && ts != "unknown" {
		c.fault(at, "%s, and the server says %s", ts, kind)
	}
}

func (c *typeComparison) items(at, ts string, schema map[string]any, kind string) {
	items, ok := schema["items"].(map[string]any)
	if !ok {
		c.fault(at, "a list, and the server says %s", kind)
		return
	}
	c.compare(at+"[]", ts, items)
}

// object compares the fields of a type with the properties of a schema.
func (c *typeComparison) object(at, body string, schema map[string]any) {
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for _, field := range parts(body, ";\n") {
		name, ts, _ := strings.Cut(field, ":")
		name, optional := strings.CutSuffix(name, "?")
		c.fields++
		property, ok := properties[name].(map[string]any)
		switch {
		case !ok:
			c.fault(at, "%s is only in api.ts", name)
			continue
		case !optional && !slices.Contains(required, any(name)):
			c.fault(at, "%s may be left out by the server", name)
		}
		c.compare(at+"."+name, strings.TrimSpace(ts), property)
	}
}

// kindsOf returns the types that a schema allows.
func kindsOf(schema map[string]any) []string {
	switch x := schema["type"].(type) {
	case string:
		return []string{x}
	case []any:
		var out []string
		for _, k := range x {
			out = append(out, fmt.Sprint(k))
		}
		return out
	}
	return nil
}
