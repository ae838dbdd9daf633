package yamltext

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// fraction returns the mistake of a number that is not whole where one shall be, which the library would cut; nil when there is none. A type that
// reads itself is not looked into.
func fraction(n ast.Node, t reflect.Type) *Error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t == reflect.TypeFor[time.Duration]() || readsItself(t) {
		return nil
	}
	switch k := t.Kind(); {
	case k >= reflect.Int && k <= reflect.Uint64:
		if x, err := strconv.ParseFloat(number(n), 64); err == nil && x != math.Trunc(x) {
			return wrong(n, wordOf(t))
		}
	case k == reflect.Slice || k == reflect.Array:
		if list, ok := n.(*ast.SequenceNode); ok {
			for _, v := range list.Values {
				if e := fraction(v, t.Elem()); e != nil {
					return e
				}
			}
		}
	case k == reflect.Map:
		return fractionIn(n, func(string) reflect.Type { return t.Elem() })
	case k == reflect.Struct:
		return fractionIn(n, func(key string) reflect.Type { return fieldType(t, key) })
	}
	return nil
}

// fractionIn looks into the values of a mapping; typeOf returns the type of that with a key, nil for none.
func fractionIn(n ast.Node, typeOf func(key string) reflect.Type) *Error {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = append(pairs, m)
	}
	for _, p := range pairs {
		if e := fraction(p.Value, typeOf(p.Key.GetToken().Value)); e != nil {
			return e
		}
	}
	return nil
}

// number returns what the library may take for a number, "" for anything else.
func number(n ast.Node) string {
	switch n := n.(type) {
	case *ast.FloatNode:
		return fmt.Sprint(n.Value)
	case *ast.StringNode:
		return n.Value
	}
	return ""
}

// fieldType returns the type of the field that has a key, nil for none.
func fieldType(t reflect.Type, key string) reflect.Type {
	for f := range t.Fields() {
		tag := cmp.Or(f.Tag.Get("yaml"), f.Tag.Get("json"))
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Type.Kind() == reflect.Struct && (options == "inline" || f.Anonymous && name == ""):
			if inner := fieldType(f.Type, key); inner != nil {
				return inner
			}
		case cmp.Or(name, strings.ToLower(f.Name)) == key:
			return f.Type
		}
	}
	return nil
}

var readers = []reflect.Type{
	reflect.TypeFor[yaml.BytesUnmarshaler](), reflect.TypeFor[yaml.InterfaceUnmarshaler](), reflect.TypeFor[yaml.NodeUnmarshaler](),
	reflect.TypeFor[encoding.TextUnmarshaler](),
}

func readsItself(t reflect.Type) bool {
	for _, r := range readers {
		if reflect.PointerTo(t).Implements(r) {
			return true
		}
	}
	return false
}
