package filter

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
)

// usualKinds are those that segments mostly are of, in order.
var usualKinds = []flow.SegmentKind{flow.KindNone, flow.KindVXLAN, flow.KindNVGRE, flow.KindVLAN, flow.KindGeneve, flow.KindGRE}

// manySegments is how many numbers are spelled out.
const manySegments = 32

// spelledOut reports whether a comparison is with few numbers.
func spelledOut(c *compare) bool {
	return c.field.Kind == VNI && (c.op == "=" || c.op == "in") && len(c.values) <= manySegments && !slices.ContainsFunc(c.values, func(v value) bool { return !single(c.field, v) })
}

// spelled lists the numbers in the kinds that the rows have, or in the usual ones.
func (g *gen) spelled(c *compare) string {
	kinds := usualKinds
	if g.Kinds != nil {
		kinds = append([]flow.SegmentKind{flow.KindNone}, g.Kinds...)
	}
	var all []string
	for _, v := range c.values {
		for _, k := range kinds {
			all = append(all, g.Dialect.number(uint64(k)<<56|v.lo))
		}
	}
	return strings.Join(all, ", ")
}

// segmentsOrNone holds for rows without a segment too: as one list where that is all it says, by which the engine leaves out most.
func (g *gen) segmentsOrNone(c *compare) string {
	if g.Kinds != nil && spelledOut(c) {
		return "segment IN (" + g.Dialect.number(0) + ", " + g.spelled(c) + ")"
	}
	return "(segment = 0 OR " + g.segments(c) + ")"
}

// segments is a condition that holds for segments with the numbers of a comparison, and for those of kinds that are not ours: in words
// about the stored column, so that the engine leaves out what lies elsewhere.
func (g *gen) segments(c *compare) string {
	if !spelledOut(c) {
		return g.node(c)
	}
	literal := func(k flow.SegmentKind, n uint64) string { return g.Dialect.number(uint64(k)<<56 | n) }
	if g.Kinds != nil {
		return "segment IN (" + g.spelled(c) + ")"
	}
	const rest = 1<<56 - 1
	return fmt.Sprintf("segment IN (%s) OR segment BETWEEN %s AND %s OR segment >= %s", g.spelled(c),
		literal(flow.KindNVGRE+1, 0), literal(flow.KindVLAN-1, rest), literal(flow.KindGRE+1, 0))
}

// compare: any column and any value.
func (g *gen) compare(c *compare) string {
	var parts []string
	for i := range c.field.Columns {
		parts = append(parts, g.column(c, g.ends.column(g.Dialect, c.field, i))...)
	}
	all := "(" + strings.Join(parts, " OR ") + ")"
	if len(c.field.Protos) == 0 {
		return all
	}
	var protos []string
	for _, p := range c.field.Protos {
		protos = append(protos, strconv.FormatUint(p, 10))
	}
	return "(proto IN (" + strings.Join(protos, ", ") + ") AND " + all + ")"
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
	case MAC, Number, Port, Bytes, Duration, VNI, Segment, Proto, Enum, ID, Bool, Micros:
	}
	return v.lo == v.hi
}

// literal binds a point.
func (g *gen) literal(f *Field, v value) string {
	switch f.Kind {
	case Text:
		return g.Bind(v.text)
	case Addr:
		return g.addr(v.prefix.Addr())
	case MAC, Number, Port, Bytes, Duration, VNI, Segment, Proto, Enum, Flag, ID, Bool, Micros:
	}
	return g.Bind(v.lo)
}

func (g *gen) one(f *Field, op, col string, v value) string {
	switch {
	case op == "like":
		return col + " LIKE " + g.Bind(g.Dialect.like(v.text))
	case op == "ilike":
		return col + " ILIKE " + g.Bind(g.Dialect.like(v.text))
	case op == "~":
		return g.Dialect.match(col, g.Bind(v.text))
	case op == "in":
		op = "="
	}
	switch {
	case f.Kind == Addr:
		return g.prefix(col, v.prefix)
	case f.Kind == Flag:
		return g.Dialect.bits(col, g.Bind(v.lo))
	case f.Kind == Bool:
		return fmt.Sprintf("%s = (%s <> 0)", col, g.Bind(v.lo))
	case v.lo != v.hi:
		return fmt.Sprintf("%s BETWEEN %s AND %s", col, g.Bind(v.lo), g.Bind(v.hi))
	}
	cond := col + " " + op + " " + g.literal(f, v)
	if f.Told && (op == "<" || op == "<=") {
		return "(" + col + " <> 0 AND " + cond + ")"
	}
	return cond
}

// addr binds an address.
func (g *gen) addr(a netip.Addr) string { return g.Dialect.wrap(g.Bind(g.Dialect.addr(a))) }

// prefix: all addresses of a network. Those of IPv4 are in no IPv6 network, and "not known" is in none.
func (g *gen) prefix(col string, p netip.Prefix) string {
	lo, hi := p.Masked().Addr(), last(p)
	if lo == hi {
		return col + " = " + g.addr(lo)
	}
	in := fmt.Sprintf("%s BETWEEN %s AND %s", col, g.addr(lo), g.addr(hi))
	if lo.Is4() || !p.Contains(netip.MustParseAddr("::fffe:0:0")) {
		return in
	}
	return fmt.Sprintf("(%s AND %s)", in, g.Dialect.six(col))
}

func (g *gen) family(n *family) string {
	if n.v6 {
		return g.Dialect.six("src")
	}
	return g.Dialect.four("src")
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
