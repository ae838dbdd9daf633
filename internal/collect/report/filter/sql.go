package filter

import (
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
)

// Bind takes a value and returns the placeholder that stands for it. Values are uint64 or string.
type Bind func(v any) string

// Rows gives a condition that every row of a matching conversation fulfils, "" when there is none: the parts on the
// 5-tuple, either way round, and those on the segment, which a row may also lack. It is there to read less.
func (e *Expr) Rows(bind Bind) string {
	if e.Empty() {
		return ""
	}
	g := gen{bind: bind}
	var parts []string
	for _, n := range topTerms(e.root) {
		if levelOf(n) == Key && oneEnd(n) {
			back := gen{bind: bind, ends: backward}
			parts = append(parts, "("+g.node(n)+" OR "+back.node(n)+")")
		} else if levelOf(n) == Key {
			parts = append(parts, g.node(n))
		} else if c, ok := n.(*compare); ok && (c.field.Kind == VNI || c.field.Kind == Segment) {
			parts = append(parts, "(segment = 0 OR "+g.node(n)+")")
		}
	}
	return strings.Join(parts, " AND ")
}

// Flows gives the condition for rows of logical flows, with all that is known filled in. Observations
// are looked up in the table (rows of all observers, before filling): they hold when one observer's
// rows of the flow fit. A negated one holds when none does. When the filter names one end (OneEnd), the rows must
// have the column Turn, and src and dst are the ends of the conversation.
func (e *Expr) Flows(bind Bind, table string) string {
	if e.Empty() {
		return ""
	}
	g := gen{bind: bind, table: table, flows: true, ends: byTurn}
	return g.node(e.root)
}

// Row gives the condition for a single stored row: src is who sent it. Only seen_by looks at the other
// rows of the flow, in the table.
func (e *Expr) Row(bind Bind, table string) string {
	if e.Empty() {
		return ""
	}
	g := gen{bind: bind, table: table}
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
	bind  Bind
	table string
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
		return "(" + g.ends.column(n.left, 0) + " " + n.op + " " + g.ends.column(n.right, 0) + ")"
	case *family:
		return g.family(n)
	case *present:
		return fmt.Sprintf("(%s BETWEEN %s AND %s)", n.field.Columns[0], g.bind(n.lo), g.bind(n.hi))
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
	row := gen{bind: g.bind, ends: as}
	var inner string
	if c, ok := n.(*compare); ok && c.field.Name == seenBy {
		inner = row.seenBy(c)
	} else {
		inner = row.node(n)
	}
	return fmt.Sprintf("(CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM %s WHERE %s) ELSE %s END)", g.table, inner, inner)
}

// seenBy compares with the observer's name or with the name of its role.
func (g *gen) seenBy(c *compare) string {
	parts := []string{g.compare(c)}
	for _, v := range c.values {
		if role, ok := roles[strings.ToLower(v.text)]; ok && (c.op == "=" || c.op == "in") {
			parts = append(parts, "role = "+g.bind(role))
		}
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

// compare: any column and any value.
func (g *gen) compare(c *compare) string {
	var parts []string
	for i := range c.field.Columns {
		parts = append(parts, g.column(c, g.ends.column(c.field, i))...)
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

// column gives the alternatives for one column; single values of a long list share one IN.
func (g *gen) column(c *compare, col string) []string {
	var parts, in []string
	for _, v := range c.values {
		if c.op == "in" && single(c.field, v) {
			in = append(in, g.literal(c.field, v))
			continue
		}
		parts = append(parts, g.one(c.field, c.op, col, v))
	}
	if len(in) > 0 {
		parts = append(parts, col+" IN ("+strings.Join(in, ", ")+")")
	}
	return parts
}

// single reports whether a value is one point.
func single(f *Field, v value) bool {
	switch f.Kind {
	case Text:
		return true
	case Addr:
		return v.prefix.IsSingleIP()
	case Flag:
		return false
	case MAC, Number, Port, Bytes, Duration, VNI, Segment, Proto, Enum, ID, Bool:
	}
	return v.lo == v.hi
}

// literal binds a point.
func (g *gen) literal(f *Field, v value) string {
	switch f.Kind {
	case Text:
		return g.bind(v.text)
	case Addr:
		return g.bind(uuidText(v.prefix.Addr())) + "::UUID"
	case MAC, Number, Port, Bytes, Duration, VNI, Segment, Proto, Enum, Flag, ID, Bool:
	}
	return g.bind(v.lo)
}

func (g *gen) one(f *Field, op, col string, v value) string {
	switch {
	case op == "like":
		return col + " LIKE " + g.bind(v.text)
	case op == "ilike":
		return col + " ILIKE " + g.bind(v.text)
	case op == "~":
		return "regexp_matches(" + col + ", " + g.bind(v.text) + ")"
	case op == "in":
		op = "="
	}
	switch {
	case f.Kind == Addr:
		return g.prefix(col, v.prefix)
	case f.Kind == Flag:
		return fmt.Sprintf("(%s & %s) <> 0", col, g.bind(v.lo))
	case f.Kind == Bool:
		return fmt.Sprintf("%s = (%s <> 0)", col, g.bind(v.lo))
	case v.lo != v.hi:
		return fmt.Sprintf("%s BETWEEN %s AND %s", col, g.bind(v.lo), g.bind(v.hi))
	}
	return col + " " + op + " " + g.literal(f, v)
}

// Addresses are stored in the 16-byte form, IPv4 mapped (RFC 4291, section 2.5.5.2).
const (
	mappedLo = "00000000-0000-0000-0000-ffff00000000"
	mappedHi = "00000000-0000-0000-0000-ffffffffffff"
	zeroAddr = "00000000-0000-0000-0000-000000000000"
)

// prefix: all addresses of a network. Those of IPv4 are in no IPv6 network, and "not known" is in none.
func (g *gen) prefix(col string, p netip.Prefix) string {
	lo, hi := p.Masked().Addr(), last(p)
	if lo == hi {
		return col + " = " + g.bind(uuidText(lo)) + "::UUID"
	}
	in := fmt.Sprintf("%s BETWEEN %s::UUID AND %s::UUID", col, g.bind(uuidText(lo)), g.bind(uuidText(hi)))
	if lo.Is4() || !p.Contains(netip.MustParseAddr("::fffe:0:0")) {
		return in
	}
	return fmt.Sprintf("(%s AND %s)", in, g.six(col))
}

// six: an IPv6 address.
func (g *gen) six(col string) string {
	return fmt.Sprintf("(%[1]s NOT BETWEEN '%[2]s'::UUID AND '%[3]s'::UUID AND %[1]s <> '%[4]s'::UUID)", col, mappedLo, mappedHi, zeroAddr)
}

func (g *gen) family(n *family) string {
	if n.v6 {
		return g.six("src")
	}
	return fmt.Sprintf("(src BETWEEN '%s'::UUID AND '%s'::UUID)", mappedLo, mappedHi)
}

// last is the greatest address of a network.
func last(p netip.Prefix) netip.Addr {
	b := new(big.Int).SetBytes(p.Masked().Addr().AsSlice())
	host := p.Addr().BitLen() - p.Bits()
	b.Or(b, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(host)), big.NewInt(1)))
	a, _ := netip.AddrFromSlice(b.FillBytes(make([]byte, p.Addr().BitLen()/8)))
	return a
}

// uuidText is the address in the form of a UUID.
func uuidText(a netip.Addr) string {
	b := a.As16()
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Values gives a query for the values of a field by frequency, those that begin with a prefix, as
// (text, count) from a table; "" when the field's values are not to be looked up.
func (f *Field) Values(bind Bind, table, prefix string, limit int) string {
	switch f.Kind {
	case Text, Addr, Number, Port, VNI, MAC, Segment:
	default:
		return ""
	}
	var from []string
	for _, col := range f.Columns {
		from = append(from, "SELECT "+col+" AS v FROM "+table)
	}
	cond := "true"
	if f.Kind == Text {
		cond = "v <> ''"
		if prefix != "" {
			cond += " AND starts_with(lower(v), lower(" + bind(prefix) + "))"
		}
	}
	if f.Kind == Number || f.Kind == Port || f.Kind == VNI {
		cond = "v <> 0"
		if prefix != "" {
			cond += " AND starts_with(v::VARCHAR, " + bind(prefix) + ")"
		}
	}
	return "SELECT v::VARCHAR, count(*) AS n FROM (" + strings.Join(from, " UNION ALL ") + ") WHERE " + cond + " GROUP BY v ORDER BY n DESC, v LIMIT " + strconv.Itoa(limit)
}
