package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"crosstap/internal/nearest"
	"crosstap/internal/yamltext"
)

// Limits of a file.
const (
	maxFileBytes = 16 << 20
	maxResources = 20000
)

// ErrMistake is what every error is about policies that cannot be meant as they are written: theirs is the mistake, and not ours or a platform's.
var ErrMistake = errors.New("policy")

// Error is a mistake in a file of resources. Line and Column count from 1; zero means the file as a whole.
type Error struct {
	File         string
	Line, Column int
	Message      string
	Suggestion   string
}

// Error gives "policy: FILE:LINE:COLUMN: message; suggestion".
func (e *Error) Error() string {
	s := "policy: " + e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	s += ": " + e.Message
	if e.Suggestion != "" {
		s += "; " + e.Suggestion
	}
	return s
}

// Unwrap returns ErrMistake.
func (e *Error) Unwrap() error { return ErrMistake }

// or suggests the word that was probably meant, or lists a few words; "" when there are none.
func or(word string, words []string) string {
	if hint := nearest.Behind(word, words); hint != "" {
		return hint
	}
	if len(words) == 0 || len(words) > 12 {
		return ""
	}
	return "; there are: " + strings.Join(words, ", ")
}

// Parse reads a file of resources, YAML documents between "---", strictly: an unknown key is a mistake. name stands for it in errors,
// which are of type *Error and name the first mistake of each document (joined). Names within the file are unique for each kind;
// references are not looked at (Set.Check).
func Parse(name string, text []byte) (*Set, error) {
	if len(text) > maxFileBytes {
		return nil, &Error{File: name, Message: fmt.Sprintf("%d bytes, the limit is %d", len(text), maxFileBytes), Suggestion: "split it"}
	}
	file, err := yamltext.Parse(text)
	if err != nil {
		return nil, syntax(name, err, nil)
	}
	set, errs := &Set{}, []error{}
	seen, written := map[[2]string]bool{}, yamltext.Sources(text, file)
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		if len(seen) >= maxResources {
			return nil, &Error{File: name, Message: fmt.Sprintf("more than %d resources", maxResources), Suggestion: "split it"}
		}
		r := reader{file: name, node: doc.Body}
		source := ""
		if len(written) > 0 {
			source, written = written[0], written[1:]
		}
		kind, id := r.resource(set, documentText(doc, source))
		key := [2]string{kind, id}
		if r.err == nil && seen[key] {
			r.fail("$.metadata.name", "give each a name of its own", "there is a %s %q above", kind, id)
		}
		seen[key] = true
		if r.err != nil {
			errs = append(errs, r.err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(seen) == 0 {
		return nil, &Error{File: name, Message: "there is no resource in it", Suggestion: `begin with "apiVersion: ` + APIVersion + `" and a kind`}
	}
	return (&Set{}).Merged(set), nil
}

// documentText is what is kept of a document: what was written, with its comments. JSON is written anew as YAML.
func documentText(doc *ast.DocumentNode, source string) string {
	if source == "" {
		return strings.TrimSpace(doc.Body.String()) + "\n"
	}
	if json.Valid([]byte(source)) {
		if text, err := yamltext.InLines(doc.Body); err == nil {
			return text
		}
	}
	return source
}

// Same reports whether two texts of a resource say the same: they differ in comments and layout at most.
func Same(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	return yamltext.Decode([]byte(a), &x) == nil && yamltext.Decode([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// reader reads one document and remembers its first mistake.
type reader struct {
	file string
	node ast.Node
	err  *Error
}

// fail remembers a mistake at a place such as "$.spec.budget.mirror".
func (r *reader) fail(place, suggestion, format string, args ...any) {
	if r.err != nil {
		return
	}
	message := fmt.Sprintf(format, args...)
	if p := strings.TrimPrefix(strings.TrimPrefix(place, "$"), "."); p != "" {
		message = p + ": " + message
	}
	r.err = &Error{File: r.file, Message: message, Suggestion: suggestion}
	r.err.Line, r.err.Column = yamltext.Position(r.node, place)
}

// header is what all documents have.
type header struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
}

type metadata struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
	Owner  string            `yaml:"owner"`
	Reason string            `yaml:"reason"`
}

// document is a header with the specification of a kind.
type document[T any] struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       T        `yaml:"spec"`
}

// names of resources: they stand in marks on switches.
var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,46}[a-z0-9])?$`)

// resource reads the document into the set.
func (r *reader) resource(set *Set, text string) (kind, name string) {
	var h header
	if err := yamltext.DecodeNode(r.node, &h, false); err != nil {
		r.err = syntax(r.file, err, nil)
		return "", ""
	}
	if h.APIVersion != APIVersion {
		r.fail("$.apiVersion", `write "apiVersion: `+APIVersion+`"`, "is %q", h.APIVersion)
	}
	if !slices.Contains(Kinds(), h.Kind) {
		r.fail("$.kind", strings.TrimPrefix(or(h.Kind, Kinds()), "; "), "%q is no kind", h.Kind)
	}
	if !nameForm.MatchString(h.Metadata.Name) {
		r.fail("$.metadata.name", "up to 48 of a-z, 0-9, - and ., letters or digits at both ends", "%q is no name", h.Metadata.Name)
	}
	if r.err != nil {
		return h.Kind, h.Metadata.Name
	}
	meta := Meta{Name: h.Metadata.Name, Labels: h.Metadata.Labels, Owner: h.Metadata.Owner, Reason: h.Metadata.Reason, Text: text}
	switch h.Kind {
	case KindTap:
		set.Taps = append(set.Taps, r.tap(meta))
	case KindDestination:
		set.Destinations = append(set.Destinations, r.destination(meta))
	case KindPlatform:
		set.Platforms = append(set.Platforms, r.platform(meta))
	case KindTenant:
		set.Tenants = append(set.Tenants, r.tenant(meta))
	}
	return h.Kind, h.Metadata.Name
}

// spec reads the specification of a kind, strictly.
func spec[T any](r *reader, keys []string) (s T) {
	var d document[T]
	if r.err != nil {
		return s
	}
	if err := yamltext.DecodeNode(r.node, &d, true); err != nil {
		r.err = syntax(r.file, err, keys)
	}
	return d.Spec
}

// syntax makes an Error of what the reader says.
func syntax(file string, err error, keys []string) *Error {
	e := &Error{File: file, Message: err.Error()}
	var y *yamltext.Error
	if !errors.As(err, &y) {
		return e
	}
	e.Message, e.Line, e.Column = y.Message, y.Line, y.Column
	if y.Key == "" {
		e.Suggestion = examples[y.Place[strings.LastIndexByte(y.Place, '.')+1:]]
		return e
	}
	others := append(slices.Clone(keys), "apiVersion", "kind", "metadata", "spec", "name", "labels", "owner", "reason")
	elsewhere := slices.Contains(others, y.Key)
	others = slices.DeleteFunc(others, func(k string) bool { return k == y.Key })
	if near := nearest.Of(y.Key, others); near != "" {
		e.Suggestion = fmt.Sprintf("did you mean %q?", near)
	} else if elsewhere {
		e.Suggestion = "it stands elsewhere in the document"
	}
	return e
}

// examples show how keys are written whose values are often of the wrong type.
var examples = map[string]string{
	"select": `write it as select: 'vm = "web-1"' or select: {vms: [web-1]}`, "exclude": `write it as exclude: 'vm = "web-1"' or exclude: {vms: [web-1]}`,
	"vms": `write it as vms: [web-1]`, "tags": "write it as tags: {role: db}", "budget": "write it as budget: {mirror: 200Mbit/s}", "flows": "write it as flows: {sampling: 64}",
	"port": "write it as port: {vm: ids}", "password": "write it as password: {file: PATH} or {env: NAME}", "tls": "write it as tls: {ca: PATH}",
	"metadata": "write it as metadata: {name: NAME}", "labels": "write it as labels: {team: dba}", "segments": "a Platform has segments: {br-int/10: vxlan:5001}, a Tenant segments: [vxlan:5001]",
}
