// Package openapi adds to an OpenAPI document what a part of the server answers by itself, beside the operations of package api.
package openapi

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// A Part is what one part of the server adds. Several packages have types of the same name, and a document holds a schema's name once: a Part's
// begin with its own name, then that of the type's package.
type Part struct{ reg huma.Registry }

// NewPart returns a part of that name. Types of the packages own have no package in their names.
func NewPart(name string, own ...string) Part {
	return Part{huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		typeName := huma.DefaultSchemaNamer(t, hint)
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		of := path.Base(t.PkgPath()) // "." where a type has no package
		if of == "." || slices.Contains(own, of) {
			return name + typeName
		}
		return name + strings.ToUpper(of[:1]) + of[1:] + typeName
	})}
}

// Schema returns a reference to the schema of a type.
func (p Part) Schema(t reflect.Type) *huma.Schema { return p.reg.Schema(t, true, "") }

// Add puts the operations and every schema asked for until now into a document.
func (p Part) Add(doc *huma.OpenAPI, operations []*huma.Operation) {
	maps.Copy(doc.Components.Schemas.Map(), p.reg.Map())
	for _, op := range operations {
		doc.AddOperation(op)
	}
}

// Content is a body of one kind, such as application/json.
func Content(kind string, s *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{kind: {Schema: s}}
}
