// Package yamltext reads YAML that people and strangers write. It is the library's reader with five things added: a document that is nested
// too deep is refused before it is read (the library's memory grows with the square of the depth), what follows an empty document is read, a
// panic of the library becomes an error, a number with a fraction is none that is whole, and every mistake has the place where it stands.
package yamltext

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"crosstap/internal/nearest"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Error is a mistake in a text. Line and Column count from 1; zero means the text as a whole.
type Error struct {
	Line, Column int
	Message      string
	Key          string // the key that is unknown, when that is the mistake
	Near         string // the known key that was probably meant, if there is one
	Place        string // the value that has the wrong type, when that is the mistake, such as "$.spec.vlans[0]"; Message has it too
}

// Error gives "LINE:COLUMN: message; did you mean KEY?".
func (e *Error) Error() string {
	s := e.Message
	if e.Line > 0 {
		s = fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
	}
	if e.Near != "" {
		s += fmt.Sprintf("; did you mean %q?", e.Near)
	}
	return s
}

// In puts the name of a file before an error: "FILE:LINE:COLUMN: message".
func In(file string, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Line > 0 {
		return fmt.Errorf("%s:%w", file, e)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// Parse returns the documents of a text. Errors are of type *Error.
func Parse(text []byte, opts ...parser.Option) (f *ast.File, err error) {
	defer recovered(&err)
	tokens := lexer.Tokenize(string(text))
	if at := tooDeep(tokens); at != nil {
		return nil, &Error{Line: at.Line, Column: at.Column, Message: fmt.Sprintf("more than %d lists and mappings stand in each other here", MaxDepth)}
	}
	f, err = parser.Parse(withoutEmpty(tokens), 0, opts...)
	return f, translate(err)
}

// withoutEmpty leaves out documents with nothing in them that others follow: the library takes the first of those for the last of all.
func withoutEmpty(tokens token.Tokens) token.Tokens {
	var out token.Tokens
	header := -1 // in out, of a document in which nothing was found yet
	for _, t := range tokens {
		if t.Type == token.DocumentHeaderType && header >= 0 {
			out = slices.Delete(out, header, header+1)
		}
		switch t.Type {
		case token.CommentType:
		case token.DocumentHeaderType:
			header = len(out)
		default:
			header = -1
		}
		out = append(out, t)
	}
	return out
}

// Root returns the content of the only document of a file; nil when there is none in it.
func Root(f *ast.File) (ast.Node, error) {
	if len(f.Docs) > 1 {
		return nil, &Error{Message: fmt.Sprintf("%d documents, want one", len(f.Docs))}
	}
	if len(f.Docs) == 0 {
		return nil, nil
	}
	switch n := f.Docs[0].Body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	default:
		return n, nil
	}
}

// Decode reads a text of one document into v, strictly: a key that v has no field for is a mistake. An empty document leaves v as it is.
// Errors are of type *Error.
func Decode(text []byte, v any) error {
	f, err := Parse(text)
	if err != nil {
		return err
	}
	n, err := Root(f)
	if n == nil || err != nil {
		return err
	}
	return DecodeNode(n, v, true)
}

// DecodeNode reads a part of a document into v. Errors are of type *Error.
func DecodeNode(n ast.Node, v any, strict bool) (err error) {
	defer recovered(&err)
	if e := fraction(n, reflect.TypeOf(v)); e != nil {
		return e
	}
	var opts []yaml.DecodeOption
	if strict {
		opts = append(opts, yaml.Strict())
	}
	err = yaml.NewDecoder(&bytes.Buffer{}, opts...).DecodeFromNode(n, v)
	if e := mistyped(n, err); e != nil {
		return e
	}
	err = translate(err)
	if e, ok := err.(*Error); ok && e.Key != "" {
		e.Near = nearest.Of(e.Key, slices.DeleteFunc(keys(v), func(k string) bool { return k == e.Key })) // it may be known elsewhere
	}
	return err
}

// recovered makes an error of a panic of the library.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &Error{Message: fmt.Sprintf("not readable as YAML: %v", p)}
	}
}

// translate makes an *Error of an error of the library.
func translate(err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Message: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		e.Message = y.GetMessage()
		if strings.HasPrefix(e.Message, "found character '\t'") || strings.HasPrefix(e.Message, "found a tab character") {
			e.Message = "a tab stands where YAML takes only spaces"
		}
		if tk := y.GetToken(); tk != nil && tk.Position != nil {
			e.Line, e.Column = tk.Position.Line, tk.Position.Column
		}
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) && unknown.Token != nil {
		e.Key = unknown.Token.Value
		e.Message = fmt.Sprintf("unknown key %q", e.Key)
	}
	return e
}
