package testkit

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Described compares what an operation of an OpenAPI document says of its answer with the Go type of that answer: every field is described, with
// its type, and each that is described may be there. It returns the number of fields.
func Described(t testing.TB, openAPI any, method, path string, answer reflect.Type) int {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct{ Schemas map[string]map[string]any }
	}
	remake(t, openAPI, &doc)
	v := reflect.New(answer).Elem()
	fill(v, 0)
	var full any
	remake(t, v.Interface(), &full)
	c := comparison{t: t, schemas: doc.Components.Schemas}
	c.compare(path, doc.Paths[path][strings.ToLower(method)].Responses["200"].Content["application/json"].Schema, full)
	return c.fields
}

func remake(t testing.TB, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fill sets everything that JSON shows to something that is not left out.
func fill(v reflect.Value, depth int) {
	if !v.CanSet() || depth > 12 {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		return
	case *json.RawMessage:
		*x = json.RawMessage(`{"a":1}`)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth+1)
		fill(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Array, reflect.Struct:
		for i := range members(v) {
			fill(member(v, i), depth+1)
		}
	}
}

func members(v reflect.Value) int {
	if v.Kind() == reflect.Array {
		return v.Len()
	}
	return v.NumField()
}

func member(v reflect.Value, i int) reflect.Value {
	if v.Kind() == reflect.Array {
		return v.Index(i)
	}
	return v.Field(i)
}

type comparison struct {
	t       testing.TB
	schemas map[string]map[string]any
	fields  int
}

// compare reports what of a value its schema does not say.
func (c *comparison) compare(path string, schema map[string]any, v any) {
	c.t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema = c.schemas[ref[strings.LastIndexByte(ref, '/')+1:]]
	}
	if len(schema) == 0 {
		return // anything
	}
	if is := typeOf(v); !slices.Contains(typesOf(schema), is) && !(is == "integer" && slices.Contains(typesOf(schema), "number")) {
		c.t.Errorf("%s is %s, described as %v", path, is, schema["type"])
		return
	}
	switch v := v.(type) {
	case []any:
		c.compare(path+"[]", schema["items"].(map[string]any), v[0])
	case map[string]any:
		c.object(path, schema, v)
	}
}

func (c *comparison) object(path string, schema, v map[string]any) {
	c.t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name, value := range v {
		one, ok := properties[name].(map[string]any)
		if more, free := schema["additionalProperties"].(map[string]any); !ok && free {
			one, ok = more, true
		}
		if c.fields++; !ok {
			c.t.Errorf("%s.%s is not described", path, name)
			continue
		}
		c.compare(path+"."+name, one, value)
	}
	for name := range properties {
		if _, there := v[name]; !there {
			c.t.Errorf("%s.%s is described, and never there", path, name)
		}
	}
}

func typesOf(schema map[string]any) (out []string) {
	switch x := schema["type"].(type) {
	case string:
		return []string{x}
	case []any:
		for _, one := range x {
			out = append(out, fmt.Sprint(one))
		}
	}
	return out
}

func typeOf(v any) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	}
	return "null"
}
