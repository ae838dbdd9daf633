// Package filter is the flow filter language: one SQL-like grammar for console, command line, API and
// alerts, which also takes the words of pcap filters by habit.
//
//	vni = 5001 and dst.vm like "db-%" and not app in (dns, ntp)
//	src.port < dst.port or ip in 10.1.0.0/16        # comments run to the end of the line
//	host 10.1.0.5 and tcp port 443
//
// Fields that begin with src. or dst. (and outer.src, outer.dst) name the ends of a conversation as reports show them:
// the source is the client, which opened it, and both directions pass. Only in the list of flows, where every row has
// one direction, the source is who sent.
//
// A parsed filter becomes SQL; values are always bound, never part of the text. Keywords and names of
// fields are understood in any case, values as written.
package filter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Error says where in an expression the mistake is.
type Error struct {
	Pos        int    `json:"pos"` // byte offset
	Len        int    `json:"len"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion"`
}

// Error gives "filter: column N: message; suggestion".
func (e *Error) Error() string {
	s := "filter: column " + strconv.Itoa(e.Pos+1) + ": " + e.Message
	if e.Suggestion != "" {
		s += "; " + e.Suggestion
	}
	return s
}

// Limits of an expression: what is longer is a mistake or an attack.
const (
	maxLength = 64 << 10
	maxDepth  = 100
	maxTerms  = 2000
)

// Expr is a parsed filter. The zero value and nil let everything pass.
type Expr struct {
	text    string
	root    node
	omitted []omission
}

// node is a part of the syntax tree: and, or, not, compare, between fields, anything.
type node interface{ at() (pos, end int) }

type (
	span struct{ pos, end int }

	andNode struct {
		span
		terms []node
	}
	orNode struct {
		span
		terms []node
	}
	notNode struct {
		span
		term node
	}
	// compare is "field op value": for "in" any of the values fits.
	compare struct {
		span
		field  *Field
		op     string // = < <= > >= in like ilike ~
		values []value
	}
	// compareFields is "field op field"; both stand for one end.
	compareFields struct {
		span
		left, right *Field
		op          string
	}
	// family is the pcap word ip or ip6.
	family struct {
		span
		v6 bool
	}
	// present is a field that must not be zero: the pcap words vxlan, vlan, …
	present struct {
		span
		field  *Field
		lo, hi uint64 // of the segment's number, for kinds of segment
	}
	// newPair is "new within 24h".
	newPair struct {
		span
		withinMS uint64
	}
)

func (s span) at() (int, int) { return s.pos, s.end }

// value is one value, or a range or prefix of them.
type value struct {
	text   string       // Text, patterns
	lo, hi uint64       // numbers; lo = hi for a single one
	prefix netip.Prefix // Addr; a single address has all bits
}

// Parse reads an expression. The error, if any, is an *Error. An empty expression lets everything pass.
func Parse(text string) (*Expr, error) {
	if len(text) > maxLength {
		return nil, &Error{Pos: maxLength, Len: len(text) - maxLength, Message: "the filter is longer than 64 KiB"}
	}
	tokens, lexErr := lex(text)
	if lexErr != nil {
		return nil, lexErr
	}
	e := &Expr{text: text}
	p := &parser{tokens: tokens}
	if p.peek().kind == tEnd {
		return e, nil
	}
	root, err := p.or()
	if err == nil && p.peek().kind != tEnd {
		err = p.unexpected(`"and", "or" or the end`)
	}
	if err != nil {
		return nil, err
	}
	e.root, e.omitted = root, p.omitted
	return e, nil
}

// Empty reports whether the filter lets everything pass.
func (e *Expr) Empty() bool { return e == nil || e.root == nil }

// Terms returns the texts of the parts that are joined by "and" at the top.
func (e *Expr) Terms() []string {
	if e.Empty() {
		return nil
	}
	var out []string
	for _, n := range topTerms(e.root) {
		out = append(out, e.whole(n))
	}
	return out
}

// whole is a part's text with the words that it left out because they stand in another part.
func (e *Expr) whole(n node) string {
	pos, end := n.at()
	var b strings.Builder
	for _, o := range e.omitted {
		if o.pos >= pos && o.pos < end {
			b.WriteString(e.text[pos:o.pos] + o.words)
			pos = o.pos
		}
	}
	return b.String() + e.text[pos:end]
}

// topTerms are the nodes joined by "and" at the top.
func topTerms(n node) []node {
	a, ok := n.(*andNode)
	if !ok {
		return []node{n}
	}
	var out []node
	for _, t := range a.terms {
		out = append(out, topTerms(t)...)
	}
	return out
}

// Steady reports whether the filter keeps or drops all rows of a flow alike.
func (e *Expr) Steady() bool { return e.Empty() || steady(e.root) }

func steady(n node) bool {
	all := func(terms []node) bool {
		return !slices.ContainsFunc(terms, func(t node) bool { return !steady(t) })
	}
	switch n := n.(type) {
	case *andNode:
		return all(n.terms)
	case *orNode:
		return all(n.terms)
	case *notNode:
		return steady(n.term)
	case *compare:
		return n.field.steady()
	case *compareFields:
		return n.left.steady() && n.right.steady()
	}
	return true
}

// walkNodes calls see for a node and all below it.
func walkNodes(n node, see func(node)) {
	see(n)
	var terms []node
	switch n := n.(type) {
	case *andNode:
		terms = n.terms
	case *orNode:
		terms = n.terms
	case *notNode:
		terms = []node{n.term}
	}
	for _, t := range terms {
		walkNodes(t, see)
	}
}

// New returns the spans of "new within", in milliseconds, each once, shortest first.
func (e *Expr) New() []uint64 {
	var out []uint64
	if !e.Empty() {
		walkNodes(e.root, func(n node) {
			if w, ok := n.(*newPair); ok {
				out = append(out, w.withinMS)
			}
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Fields returns the fields that the filter names, each once.
func (e *Expr) Fields() []*Field {
	var out []*Field
	add := func(f *Field) {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	if e.Empty() {
		return nil
	}
	walkNodes(e.root, func(n node) {
		switch n := n.(type) {
		case *compare:
			add(n.field)
		case *compareFields:
			add(n.left)
			add(n.right)
		case *present:
			add(n.field)
		}
	})
	return out
}

// Stored returns the stored columns that a field reads, of both ends when it is of one.
func (f *Field) Stored() []string {
	var out []string
	for _, c := range f.Columns {
		switch {
		case stored[c] != nil:
			out = append(out, stored[c]...)
		case opposite[c] != "":
			out = append(out, c, opposite[c])
		default:
			out = append(out, c)
		}
	}
	return out
}

// steady: the same in all rows of a flow once what is known is filled in, or looked up by flow.
func (f *Field) steady() bool {
	return f.Level != Row || slices.Contains([]string{"vm", "src.vm", "dst.vm", "vm_id", "src.vm_id", "dst.vm_id", "vni", "segment", "tenant", "src.tenant", "dst.tenant", "fabric", "app"}, f.Name)
}
