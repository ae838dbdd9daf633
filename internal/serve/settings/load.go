package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"crosstap/internal/nearest"
	"crosstap/internal/yamltext"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Sources are where settings come from, the strongest last.
type Sources struct {
	File  string              // YAML; "" for none
	Env   []string            // as os.Environ gives it
	Flags map[string][]string // values of the flags that were given
}

// Origins says for each key where its value comes from: "default", "crosstap.yaml:3", "CROSSTAP_HTTP", "--http".
type Origins map[string]string

// others are CROSSTAP_* variables that mean something elsewhere.
var others = []string{"CROSSTAP_CONFIG", "CROSSTAP_SERVER", "CROSSTAP_CORPUS", "CROSSTAP_LAB_INIT", "CROSSTAP_LAB_VM", "CROSSTAP_BENCH_PCAP", "CROSSTAP_FUZZ_CORPUS", "CROSSTAP_VSPHERE_USER", "CROSSTAP_VSPHERE_PASSWORD", "CROSSTAP_VSPHERE_PASSWORD_FILE"}

// Load reads the sources, and checks the result. Warnings name variables that look like settings and are none. The error
// joins every mistake found, each with its place.
func Load(src Sources) (s Settings, from Origins, warnings []string, err error) {
	s, from = Default(), Origins{}
	for _, k := range All() {
		from[k.Key] = "default"
	}
	var errs []error
	if src.File != "" {
		errs = append(errs, s.file(src.File, from)...)
	}
	warnings, envErrs := s.env(src.Env, from)
	errs = append(errs, envErrs...)
	for _, k := range All() {
		if vs, ok := src.Flags[k.Key]; ok {
			errs = append(errs, s.apply(k, vs, "--"+k.Key, from))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return s, from, warnings, err
	}
	for _, err := range s.mistakes() {
		key, _, _ := strings.Cut(err.Error(), ":")
		errs = append(errs, fmt.Errorf("%s: %w", from[key], err))
	}
	return s, from, warnings, errors.Join(errs...)
}

// apply sets one key and notes where from.
func (s *Settings) apply(k Setting, values []string, origin string, from Origins) error {
	if err := k.set(s, values); err != nil {
		return fmt.Errorf("%s: %s: %w", origin, k.Key, err)
	}
	from[k.Key] = origin
	return nil
}

func (s *Settings) env(environ []string, from Origins) (warnings []string, errs []error) {
	all := All()
	known := make([]string, len(all))
	for i, k := range all {
		known[i] = k.Env()
	}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		i := slices.Index(known, name)
		switch {
		case i >= 0 && value != "":
			errs = append(errs, s.apply(all[i], []string{value}, name, from))
		case i < 0 && strings.HasPrefix(name, "CROSSTAP_") && !slices.Contains(others, name):
			warnings = append(warnings, "variable "+name+" means nothing here"+nearest.Behind(name, known))
		}
	}
	slices.Sort(warnings)
	return warnings, errs
}

// file reads a YAML file: one mapping, known keys only, each at most once.
func (s *Settings) file(path string, from Origins) []error {
	b, err := os.ReadFile(path)
	if err != nil {
		return []error{fmt.Errorf("config: %w", err)}
	}
	pairs, err := mapping(b)
	if err != nil {
		return []error{yamltext.In(path, err)}
	}
	var errs []error
	seen := map[string]int{}
	for _, p := range pairs {
		errs = append(errs, s.entry(path, p, seen, from))
	}
	return errs
}

func (s *Settings) entry(path string, p *ast.MappingValueNode, seen map[string]int, from Origins) (err error) {
	key, tok := p.Key.String(), p.Key.GetToken()
	at := fmt.Sprintf("%s:%d", path, tok.Position.Line)
	i := slices.IndexFunc(All(), func(k Setting) bool { return k.Key == key })
	if i < 0 {
		return fmt.Errorf("%s:%d: unknown key %q%s", at, tok.Position.Column, key, nearest.Behind(key, keys()))
	}
	if line := seen[key]; line > 0 {
		return fmt.Errorf("%s:%d: key %q stands in line %d already", at, tok.Position.Column, key, line)
	}
	seen[key] = tok.Position.Line
	if list, ok := p.Value.(*ast.SequenceNode); ok && key == "outputs" {
		from[key] = at
		s.Outputs = inlineOutputs
		if s.OutputList, err = outputsNode(list); err != nil {
			return fmt.Errorf("outputs: %w", yamltext.In(path, err))
		}
		return nil
	}
	values, err := scalars(p.Value, All()[i].Kind == "strings")
	if err != nil {
		return fmt.Errorf("%s: %s: %w", at, key, err)
	}
	return s.apply(All()[i], values, at, from)
}

func keys() []string {
	var out []string
	for _, k := range All() {
		out = append(out, k.Key)
	}
	return out
}

// mapping returns the entries of the document. An empty file is an empty mapping.
func mapping(b []byte) ([]*ast.MappingValueNode, error) {
	f, err := yamltext.Parse(b, parser.AllowDuplicateMapKey()) // duplicates are reported with both lines
	if err != nil {
		return nil, err
	}
	root, err := yamltext.Root(f)
	if root == nil || err != nil {
		return nil, err
	}
	switch n := root.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, errors.New("expected keys and values, such as http: 127.0.0.1:8474")
}

// scalars returns the value of an entry as text, or the texts of a list.
func scalars(n ast.Node, many bool) ([]string, error) {
	if seq, ok := n.(*ast.SequenceNode); ok && many {
		var out []string
		for _, v := range seq.Values {
			one, err := scalars(v, false)
			if err != nil {
				return nil, err
			}
			out = append(out, one...)
		}
		return out, nil
	}
	switch v := n.(type) {
	case *ast.StringNode:
		return []string{v.Value}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return []string{n.GetToken().Value}, nil
	}
	if many {
		return nil, errors.New("expected a value or a list of values")
	}
	return nil, errors.New("expected one value")
}
