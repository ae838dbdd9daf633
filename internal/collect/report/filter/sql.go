package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
)

// Bind takes a value and returns the placeholder that stands for it. Values are uint64 or string.
type Bind func(v any) string

// Target is what SQL is written for.
type Target struct {
	Dialect *Dialect
	Bind    Bind
	// Table has the rows of all observers, before what is known is filled in.
	Table string
	// Pair is the list of expressions that tell the pair of a row, whichever way it went; Seen names a table with the pairs
	// that were seen before the newest so many milliseconds. Both are for "new within".
	Pair string
	Seen func(withinMS uint64) string
	// Kinds are those that the segments of rows are of, beside "not known"; nil for any.
	Kinds []flow.SegmentKind
}

// Rows gives a condition that every row of a matching conversation fulfils, "" when there is none: the parts on the
// 5-tuple, either way round, and those on the segment, which a row may also lack. It is there to read less.
func (e *Expr) Rows(t Target) string {
	if e.Empty() {
		return ""
	}
	g := gen{Target: t}
	var parts []string
	for _, n := range topTerms(e.root) {
		if levelOf(n) == Key && oneEnd(n) {
			back := gen{Target: t, ends: backward}
			parts = append(parts, "("+g.node(n)+" OR "+back.node(n)+")")
		} else if levelOf(n) == Key {
			parts = append(parts, g.node(n))
		} else if c, ok := n.(*compare); ok && (c.field.Kind == VNI || c.field.Kind == Segment) {
			parts = append(parts, g.segmentsOrNone(c))
		}
	}
	return strings.Join(parts, " AND ")
}

// Sums gives a condition that every roll-up row that matches fulfils, on the segment alone; "" when there is none. It is there to
// read less.
func (e *Expr) Sums(t Target) string {
	if e.Empty() {
		return ""
	}
	g := gen{Target: t}
	var parts []string
	for _, n := range topTerms(e.root) {
		if c, ok := n.(*compare); ok && (c.field.Kind == VNI || c.field.Kind == Segment) {
			parts = append(parts, "("+g.segments(c)+")")
		}
	}
	return strings.Join(parts, " AND ")
}

// Narrow reports whether the conditions of Rows leave a small part of most stores' rows: they name a segment or a machine's
// address.
func (e *Expr) Narrow() bool {
	if e.Empty() {
		return false
	}
	return slices.ContainsFunc(topTerms(e.root), func(n node) bool {
		c, ok := n.(*compare)
		if !ok || c.op != "=" && c.op != "in" || len(c.values) > 4 || slices.ContainsFunc(c.values, func(v value) bool { return !single(c.field, v) }) {
			return false
		}
		return c.field.Kind == VNI || c.field.Kind == Segment || c.field.Kind == Addr && c.field.Level == Key
	})
}

// Certain gives a condition on the segment alone, without values to bind, that every matching row fulfils and rows without a segment do not, and the numbers
// that it asks for; "" when there is none.
func (e *Expr) Certain() (cond string, numbers []uint64) {
	if e.Empty() {
		return "", nil
	}
	for _, n := range topTerms(e.root) {
		c, ok := n.(*compare)
		if !ok || c.field.Kind != VNI || c.op != "=" && c.op != "in" || len(c.values) > manySegments || slices.ContainsFunc(c.values, func(v value) bool { return !single(c.field, v) || v.lo == 0 }) {
			continue
		}
		for _, v := range c.values {
			numbers = append(numbers, v.lo)
		}
		g := gen{Target: Target{Dialect: DuckDB}}
		return g.segments(c), numbers
	}
	return "", nil
}

// Numbers gives the numbers of the segments that the filter asks for, whatever their kind, when it asks for nothing else.
func (e *Expr) Numbers() (numbers []uint64, only bool) {
	if e.Empty() || len(topTerms(e.root)) > 1 {
		return nil, false
	}
	_, numbers = e.Certain()
	return numbers, len(numbers) > 0
}

// Addrs gives inner addresses, as UUIDs, one of which every matching row has at an end; nil when the filter asks for none of its own.
func (e *Expr) Addrs() (all []string) {
	if e.Empty() {
		return nil
	}
	for _, n := range topTerms(e.root) {
		c, ok := n.(*compare)
		if !ok || !c.field.Addressed() || c.field.Kind != Addr || c.op != "=" && c.op != "in" || slices.ContainsFunc(c.values, func(v value) bool { return !single(c.field, v) }) {
			continue
		}
		for _, v := range c.values {
			all = append(all, uuidText(v.prefix.Addr()))
		}
		return all
	}
	return nil
}

// Addressed reports whether the filter reads inner addresses.
func (e *Expr) Addressed() bool {
	if e.Empty() {
		return false
	}
	found := false
	walkNodes(e.root, func(n node) {
		switch n.(type) {
		case *family, *newPair:
			found = true
		}
	})
	return found || slices.ContainsFunc(e.Fields(), (*Field).Addressed)
}

// Addressed reports whether a field is, or depends on, an inner address.
func (f *Field) Addressed() bool {
	stored := f.Stored()
	return slices.Contains(stored, "src") || slices.Contains(stored, "dst")
}

// Flows gives the condition for rows of logical flows, with all that is known filled in. Observations
// are looked up in the table: they hold when one observer's
// rows of the flow fit. A negated one holds when none does. When the filter names one end (OneEnd), the rows must
// have the column Turn, and src and dst are the ends of the conversation.
func (e *Expr) Flows(t Target) string {
	if e.Empty() {
		return ""
	}
	g := gen{Target: t, flows: true, ends: byTurn}
	return g.node(e.root)
}

// Row gives the condition for a single stored row: src is who sent it. Only seen_by looks at the other
// rows of the flow, in the table.
func (e *Expr) Row(t Target) string {
	if e.Empty() {
		return ""
	}
	g := gen{Target: t}
	return g.node(e.root)
}

// levelOf is the highest level among a node's fields.
func levelOf(n node) Level {
	switch n := n.(type) {
	case *andNode:
		return levelOfAll(n.terms)
	case *orNode:
		return levelOfAll(n.terms)
	case *notNode:
		return levelOf(n.term)
	case *compare:
		return n.field.Level
	case *compareFields:
		return max(n.left.Level, n.right.Level)
	case *present:
		return n.field.Level
	case *newPair:
		return Row
	}
	return Key
}

func levelOfAll(terms []node) (l Level) {
	for _, t := range terms {
		l = max(l, levelOf(t))
	}
	return l
}

// observed reports whether a node speaks of one observer's row only, without a negation.
func observed(n node) bool {
	switch n := n.(type) {
	case *andNode:
		return allObserved(n.terms)
	case *orNode:
		return allObserved(n.terms)
	case *compare:
		return n.field.Level == Observation && n.field.Name != seenBy
	case *compareFields:
		return n.left.Level == Observation && n.right.Level == Observation
	}
	return false
}

func allObserved(terms []node) bool {
	for _, t := range terms {
		if !observed(t) {
			return false
		}
	}
	return true
}

// gen writes SQL.
type gen struct {
	Target
	flows bool // observations are looked up by flow
	ends  ends
}

func (g *gen) node(n node) string {
	if g.flows && observed(n) {
		return g.lookup(n)
	}
	switch n := n.(type) {
	case *andNode:
		return g.and(n)
	case *orNode:
		return g.join(n.terms, " OR ")
	case *notNode:
		return "(NOT " + g.node(n.term) + ")"
	case *compare:
		if n.field.Name == seenBy {
			return g.lookup(n)
		}
		return g.compare(n)
	case *compareFields:
		return "(" + g.ends.column(g.Dialect, n.left, 0) + " " + n.op + " " + g.ends.column(g.Dialect, n.right, 0) + ")"
	case *family:
		return g.family(n)
	case *present:
		return fmt.Sprintf("(%s BETWEEN %s AND %s)", n.field.Columns[0], g.Bind(n.lo), g.Bind(n.hi))
	case *newPair:
		return fmt.Sprintf("((%s) NOT IN (SELECT * FROM %s))", g.Pair, g.Seen(n.withinMS))
	}
	return "false"
}

// and keeps the terms about an observer's row together: they must hold for one and the same.
func (g *gen) and(n *andNode) string {
	if !g.flows {
		return g.join(n.terms, " AND ")
	}
	var same, rest []node
	for _, t := range n.terms {
		if observed(t) {
			same = append(same, t)
		} else {
			rest = append(rest, t)
		}
	}
	if len(same) > 1 {
		rest = append(rest, &andNode{n.span, same})
	} else {
		rest = append(rest, same...)
	}
	return g.join(rest, " AND ")
}

func (g *gen) join(terms []node, with string) string {
	parts := make([]string, len(terms))
	for i, t := range terms {
		parts[i] = g.node(t)
	}
	return "(" + strings.Join(parts, with) + ")"
}

// lookup: some row of the flow fits. All rows of a flow go the same way.
func (g *gen) lookup(n node) string {
	if g.ends == byTurn && oneEnd(n) {
		return "(CASE WHEN " + Turn + " THEN " + g.lookupAs(n, backward) + " ELSE " + g.lookupAs(n, forward) + " END)"
	}
	return g.lookupAs(n, forward)
}

// lookupAs: a row without a flow id speaks for itself.
func (g *gen) lookupAs(n node, as ends) string {
	row := gen{Target: g.Target, ends: as}
	var inner string
	if c, ok := n.(*compare); ok && c.field.Name == seenBy {
		inner = row.seenBy(c)
	} else {
		inner = row.node(n)
	}
	return fmt.Sprintf("(CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM %s WHERE %s) ELSE %s END)", g.Table, inner, inner)
}

// seenBy compares with the observer's name or with the name of its role.
func (g *gen) seenBy(c *compare) string {
	parts := []string{g.compare(c)}
	for _, v := range c.values {
		if role, ok := roles[strings.ToLower(v.text)]; ok && (c.op == "=" || c.op == "in") {
			parts = append(parts, "role = "+g.Bind(role))
		}
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

// Values gives a query for the values of a field by frequency, those that begin with a prefix, as
// (text, count) from the table; "" when the field's values are not to be looked up.
func (f *Field) Values(t Target, prefix string, limit int) string {
	switch f.Kind {
	case Text, Addr, Number, Port, VNI, MAC, Segment:
	default:
		return ""
	}
	var from []string
	for _, col := range f.Columns {
		from = append(from, "SELECT "+t.Dialect.Column(col)+" AS v FROM "+t.Table)
	}
	cond := "true"
	if f.Kind == Text {
		cond = "v <> ''"
		if prefix != "" {
			cond += " AND starts_with(lower(v), lower(" + t.Bind(prefix) + "))"
		}
	}
	if f.Kind == Number || f.Kind == Port || f.Kind == VNI {
		cond = "v <> 0"
		if prefix != "" {
			cond += " AND starts_with(" + t.Dialect.text("v") + ", " + t.Bind(prefix) + ")"
		}
	}
	if t.Dialect == ClickHouse {
		cond = strings.ReplaceAll(cond, "starts_with(", "startsWith(")
	}
	return "SELECT " + t.Dialect.text("v") + ", count(*) AS n FROM (" + strings.Join(from, " UNION ALL ") + ") WHERE " + cond + " GROUP BY v ORDER BY n DESC, v LIMIT " + strconv.Itoa(limit)
}
