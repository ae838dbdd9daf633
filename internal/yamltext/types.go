package yamltext

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// mistyped makes an *Error of what the library says of a value that is of another type than its field: the place, what was expected, and what
// stands there. It returns nil for any other error, and when the value is not found below root.
func mistyped(root ast.Node, err error) *Error {
	at, want := expected(err)
	if at == nil {
		return nil
	}
	f := finder{token: at}
	ast.Walk(&f, root)
	if f.node == nil {
		return nil
	}
	return wrong(f.node, want)
}

// wrong says of a node what should stand there.
func wrong(n ast.Node, want string) *Error {
	e := &Error{Place: n.GetPath()}
	e.Line, e.Column = begin(n)
	e.Message = fmt.Sprintf("want %s, found %s", want, found(n))
	if text, ok := n.(*ast.StringNode); ok && want == aList {
		e.Message += fmt.Sprintf("; write [%q]", short(text.Value))
	}
	if p := strings.TrimPrefix(strings.TrimPrefix(e.Place, "$"), "."); p != "" {
		e.Message = p + ": " + e.Message
	}
	return e
}

// Words for what is expected.
const (
	aList    = "a list"
	aMapping = "a mapping (key: value)"
)

// expected returns the token of a value with the wrong type, and what should stand there; nil when that is not the mistake.
func expected(err error) (at *token.Token, want string) {
	var other *yaml.TypeError
	var big *yaml.OverflowError
	var shape *yaml.UnexpectedNodeTypeError
	switch {
	case errors.As(err, &other):
		return other.Token, wordOf(other.DstType)
	case errors.As(err, &big):
		return big.Token, rangeOf(big.DstType)
	case errors.As(err, &shape) && shape.Expected == ast.SequenceType:
		return shape.Token, aList
	case errors.As(err, &shape) && shape.Expected == ast.MappingType:
		return shape.Token, aMapping
	}
	return nil, ""
}

// wordOf says what a field takes.
func wordOf(t reflect.Type) string {
	switch k := t.Kind(); {
	case k == reflect.Pointer:
		return wordOf(t.Elem())
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.Slice || k == reflect.Array:
		return aList
	case k == reflect.Map || k == reflect.Struct:
		return aMapping
	}
	return "a text"
}

// rangeOf says which whole numbers a field takes.
func rangeOf(t reflect.Type) string {
	if t.Kind() >= reflect.Uint {
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	}
	most := int64(math.MaxInt64) >> (64 - t.Bits())
	return fmt.Sprintf("a whole number from %d to %d", -most-1, most)
}

// found says what stands at a node.
func found(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return aList
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.StringNode:
		return fmt.Sprintf("the text %q", short(n.Value))
	case *ast.LiteralNode:
		return fmt.Sprintf("the text %q", short(n.Value.Value))
	}
	return "a " + n.Type().YAMLName()
}

// short cuts a text for a message.
func short(text string) string {
	const most = 40
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// finder looks for the outermost node of a token.
type finder struct {
	token *token.Token
	node  ast.Node
}

// Visit implements ast.Visitor.
func (f *finder) Visit(n ast.Node) ast.Visitor {
	if f.node == nil && n.GetToken() == f.token {
		f.node = n
	}
	if f.node != nil {
		return nil
	}
	return f
}
