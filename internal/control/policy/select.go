package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/nearest"
)

// Target is what a selector looks at: one port with what is known of it. VM, Host and Switch may be nil.
type Target struct {
	Platform string
	Port     *platform.Port
	VM       *platform.VM
	Host     *platform.Host
	Switch   *platform.Switch
	Tenant   string
}

// Selector chooses ports. The zero Selector is empty: it chooses none.
type Selector struct {
	Text string // as it was written, on one line
	root node   // nil for an empty one
}

// Empty reports whether the selector says nothing.
func (s Selector) Empty() bool { return s.root == nil }

// Match reports whether the selector chooses a port.
func (s Selector) Match(t *Target) bool { return s.root != nil && s.root.match(t) }

// Asks reports whether the selector asks for a field, such as port.
func (s Selector) Asks(field string) bool { return s.root != nil && s.root.uses(field) }

// Unknown tells of a name that the selector asks for and none of the targets has, and what was probably meant; "" when there is none.
func (s Selector) Unknown(all []*Target) (text string) {
	tests(s.root, func(c test) {
		if text != "" || c.word == "" {
			return
		}
		have := map[string]bool{}
		for _, t := range all {
			if v := c.value(t); v != "" {
				have[v] = true
			}
		}
		for v := range have {
			if c.holds(v) {
				return
			}
		}
		text = fmt.Sprintf("no port that is known has %s = %q", c.field, c.word)
		if strings.ContainsAny(c.word, "%*") {
			text += fmt.Sprintf("; a pattern is written with like, and %% for any letters: %s like %q", c.field, strings.ReplaceAll(c.word, "*", "%"))
			return
		}
		text += nearest.Behind(c.word, slices.Sorted(maps.Keys(have)))
	})
	return text
}

// tests visits the tests of a selector that must hold, or of which one must.
func tests(n node, visit func(test)) {
	switch n := n.(type) {
	case conjunction:
		for _, x := range n {
			tests(x, visit)
		}
	case disjunction:
		for _, x := range n {
			tests(x, visit)
		}
	case test:
		visit(n)
	}
}

// ParseSelector reads an expression such as: tenant = "blue" and vm like "db-%".
func ParseSelector(text string) (Selector, error) {
	if strings.TrimSpace(text) == "" {
		return Selector{}, nil
	}
	n, err := parseExpr(text)
	if err != nil {
		return Selector{}, err
	}
	return Selector{Text: strings.TrimSpace(text), root: n}, nil
}

// selectSpec is a selector as it is written: an expression, or lists of names that may have * and ? in them. All keys must hold; of a
// list one entry.
type selectSpec struct {
	VMs       []string          `yaml:"vms"`
	Hosts     []string          `yaml:"hosts"`
	Tenants   []string          `yaml:"tenants"`
	Segments  []string          `yaml:"segments"`
	Groups    []string          `yaml:"groups"`
	Switches  []string          `yaml:"switches"`
	Ports     []string          `yaml:"ports"`
	Platforms []string          `yaml:"platforms"`
	Tags      map[string]string `yaml:"tags"`
	Where     string            `yaml:"where"`
}

// UnmarshalYAML reads both forms.
func (s *selectSpec) UnmarshalYAML(read func(any) error) error {
	var text string
	if err := read(&text); err == nil {
		*s = selectSpec{Where: text}
		return nil
	}
	type plain selectSpec
	return read((*plain)(s))
}

// selector makes the lists an expression.
func (r *reader) selector(place string, s selectSpec) Selector {
	var parts []node
	var text []string
	list := func(field string, values []string) {
		if len(values) == 0 {
			return
		}
		var any disjunction
		for _, v := range values {
			n, err := comparison(field, "~", v)
			if err != nil {
				r.fail(place, "", "%s %q: %v", field, v, err)
				return
			}
			any = append(any, n)
		}
		parts = append(parts, any)
		text = append(text, field+" in ("+strings.Join(values, ", ")+")")
	}
	list("vm", s.VMs)
	list("host", s.Hosts)
	list("tenant", s.Tenants)
	list("segment", s.Segments)
	list("group", s.Groups)
	list("switch", s.Switches)
	list("port", s.Ports)
	list("platform", s.Platforms)
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		list("tag."+key, []string{s.Tags[key]})
	}
	if strings.TrimSpace(s.Where) != "" {
		n, err := parseExpr(s.Where)
		if err != nil {
			r.fail(place, "", "%v", err)
			return Selector{}
		}
		parts = append(parts, n)
		text = append(text, strings.TrimSpace(s.Where))
	}
	switch len(parts) {
	case 0:
		return Selector{}
	case 1:
		return Selector{Text: text[0], root: parts[0]}
	}
	return Selector{Text: strings.Join(text, " and "), root: conjunction(parts)}
}
