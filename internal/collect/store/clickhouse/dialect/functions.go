package dialect

import (
	"strings"
)

// arg is an argument that is written already.
type arg struct {
	sql  string
	kind kind
	expr expr
}

// function says how one is written. The functions that are not in the table cannot be called.
type function struct {
	aggregate bool
	write     func(g *gen, c *call, a []arg, sc *scope) (string, kind)
	least     int // arguments
	most      int
}

// functions that questions may call, by their names in the views' SQL.
var functions map[string]function

func init() { //nolint:gochecknoinits // the table's functions read the table
	functions = map[string]function{}
	for name, as := range sameFunctions {
		functions[name] = function{write: named(as), least: 1, most: 64}
	}
	for name, f := range scalars {
		functions[name] = f
	}
	for name, f := range windows {
		functions[name] = f
	}
	for name, f := range aggregateFunctions {
		functions[name] = f
	}
}

// sameFunctions differ in name only; they give what their first argument is, or a number.
var sameFunctions = map[string]string{
	"abs": "abs", "ceil": "ceil", "floor": "floor", "round": "round", "pow": "pow", "sign": "sign",
	"coalesce": "coalesce", "nullif": "nullIf", "ifnull": "ifNull", "least": "least", "greatest": "greatest", "lower": "lower", "upper": "upper", "trim": "trim",
	"substr": "substringUTF8", "substring": "substringUTF8", "replace": "replaceAll", "left": "leftUTF8", "right": "rightUTF8",
	"list_sort": "arraySort", "list_distinct": "arrayDistinct", "flatten": "arrayFlatten", "list_concat": "arrayConcat", "list_reverse_sort": "arrayReverseSort",
	"bit_count": "bitCount", "isnan": "isNaN",
}

// named writes a function under another name.
func named(as string) func(*gen, *call, []arg, *scope) (string, kind) {
	return func(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
		var k kind
		for _, x := range a {
			k = k.or(x.kind)
		}
		return as + "(" + join(a) + ")", k
	}
}

func join(a []arg) string {
	parts := make([]string, len(a))
	for i, x := range a {
		parts[i] = x.sql
	}
	return strings.Join(parts, ", ")
}

// shape writes a function whose result is of one kind, from a pattern with ? for each argument.
func shape(pattern string, of base) func(*gen, *call, []arg, *scope) (string, kind) {
	return func(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
		var b strings.Builder
		parts := strings.Split(pattern, "?")
		for i, p := range parts {
			b.WriteString(p)
			if i < len(parts)-1 {
				b.WriteString(a[i].sql)
			}
		}
		return b.String(), kind{of: of}
	}
}

var scalars = map[string]function{
	"if":                {write: writeIf, least: 3, most: 3},
	"concat":            {write: writeConcat, least: 1, most: 64},
	"concat_ws":         {write: writeConcatWS, least: 2, most: 64},
	"epoch_ms":          {write: shape("toUnixTimestamp64Milli(?)", signed), least: 1, most: 1},
	"make_timestamp_ms": {write: shape("fromUnixTimestamp64Milli(toInt64(?), 'UTC')", moment), least: 1, most: 1},
	"hash":              {write: writeHash, least: 1, most: 8},
	"xor":               {write: shape("bitXor(?, ?)", other), least: 2, most: 2},
	"starts_with":       {write: shape("startsWith(?, ?)", boolean), least: 2, most: 2},
	"ends_with":         {write: shape("endsWith(?, ?)", boolean), least: 2, most: 2},
	"contains":          {write: shape("(position(?, ?) > 0)", boolean), least: 2, most: 2},
	"regexp_matches":    {write: shape("match(?, ?)", boolean), least: 2, most: 2},
	"regexp_extract":    {write: shape("extract(?, ?)", chars), least: 2, most: 2},
	"regexp_replace":    {write: shape("replaceRegexpOne(?, ?, ?)", chars), least: 3, most: 3},
	"split_part":        {write: shape("arrayElement(splitByString(?, ?), ?)", chars), least: 3, most: 3},
	"sqrt":              {write: shape("sqrt(?)", floating), least: 1, most: 1},
	"ln":                {write: shape("log(?)", floating), least: 1, most: 1},
	"log10":             {write: shape("log10(?)", floating), least: 1, most: 1},
	"log2":              {write: shape("log2(?)", floating), least: 1, most: 1},
	"length":            {write: writeLength, least: 1, most: 1},
	"len":               {write: writeLength, least: 1, most: 1},
	"chr":               {write: shape("char(?)", chars), least: 1, most: 1},
	"printf":            {write: writePrintf, least: 2, most: 2},
	"to_json":           {write: writeJSON, least: 1, most: 1},
	"range":             {write: writeRange, least: 2, most: 2},
	"unnest":            {write: writeUnnest, least: 1, most: 1},
	"list_contains":     {write: shape("has(?, ?)", boolean), least: 2, most: 2},
	"list_transform":    {write: writeTransform, least: 2, most: 2},
	"list_filter":       {write: writeFilter, least: 2, most: 2},
	"string_split":      {write: writeSplit, least: 2, most: 2},
	"date_trunc":        {write: shape("toDateTime64(dateTrunc(?, ?, 'UTC'), 3, 'UTC')", moment), least: 2, most: 2},
	"strftime":          {write: shape("formatDateTime(?, ?)", chars), least: 2, most: 2},

	// of the administrators' views
	"addr": {write: shape("toIPv6(?)", address), least: 1, most: 1},
	"mac":  {write: shape("lower(leftPad(hex(toUInt64(?)), 12, '0'))", chars), least: 1, most: 1},
	"vni":  {write: shape("bitAnd(?, 4294967295)", other), least: 1, most: 1},
}

var windows = map[string]function{
	"lag":        {write: writeLag, least: 1, most: 1},
	"row_number": {write: writeRank("row_number")}, "rank": {write: writeRank("rank")}, "dense_rank": {write: writeRank("dense_rank")},
}

// aggregateFunctions give NULL when nothing was added up, as in the views' SQL; ClickHouse would give 0 or "".
var aggregateFunctions = map[string]function{
	"sum": adds("sum"), "min": adds("min"), "max": adds("max"), "avg": adds("avg"), "any_value": adds("any"), "bit_or": adds("groupBitOr"), "bit_and": adds("groupBitAnd"),
	"bool_or": adds("max"), "bool_and": adds("min"), "stddev": adds("stddevSamp"), "median": {aggregate: true, write: writeMedian, least: 1, most: 1},
	"arg_max": {aggregate: true, write: writeAggregate("argMax"), least: 2, most: 2}, "arg_min": {aggregate: true, write: writeAggregate("argMin"), least: 2, most: 2},
	"count":                 {aggregate: true, write: writeCount, most: 1},
	"approx_count_distinct": {aggregate: true, write: counts("uniqCombined64"), least: 1, most: 1},
	"quantile_cont":         {aggregate: true, write: writeQuantile("quantileExactInclusive"), least: 2, most: 2},
	"approx_quantile":       {aggregate: true, write: writeQuantile("quantileTDigest"), least: 2, most: 2},
	"list":                  {aggregate: true, write: writeList, least: 1, most: 1},
	"string_agg":            {aggregate: true, write: writeStringAgg, least: 2, most: 2},
}

func adds(as string) function {
	return function{aggregate: true, write: writeAggregate(as), least: 1, most: 1}
}

// call writes a call of one of the functions.
func (g *gen) call(c *call, sc *scope) (string, kind) {
	f, ok := functions[c.name]
	switch {
	case !ok:
		g.fail(c.at, "there is no function %q here", c.name)
	case c.star && c.name != "count":
		g.fail(c.at, "%s(*)", c.name)
	case len(c.args) < f.least || len(c.args) > f.most:
		g.fail(c.at, "%s takes %d to %d values, not %d", c.name, f.least, f.most, len(c.args))
	case !f.aggregate && (c.filter != nil || c.distinct || len(c.order) > 0):
		g.fail(c.at, "%s adds nothing up", c.name)
	}
	inner := sc
	if l, ok := last(c.args).(*lambda); ok { // its parameter is an element of the list before it
		_, k := g.expr(c.args[0], sc)
		inner = sc.with(l.of, kind{of: k.of})
	}
	args := make([]arg, len(c.args))
	for i, e := range c.args {
		if l, ok := e.(*lambda); ok {
			body, k := g.expr(l.body, inner)
			args[i] = arg{quote(l.of) + " -> " + body, k, e}
			continue
		}
		sql, k := g.expr(e, sc)
		args[i] = arg{sql, k, e}
	}
	return f.write(g, c, args, sc)
}

func last(all []expr) expr {
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// with is the scope inside of a lambda.
func (sc *scope) with(param string, k kind) *scope {
	in := *sc
	in.local = map[string]kind{param: k}
	for n, k := range sc.local {
		if n != param {
			in.local[n] = k
		}
	}
	return &in
}

// over writes what stands behind an aggregate or a window function.
func (g *gen) over(c *call, sc *scope) string {
	if c.over == nil {
		return ""
	}
	s := ""
	if len(c.over.by) > 0 {
		s = "PARTITION BY " + g.list(c.over.by, sc)
	}
	if len(c.over.order) > 0 {
		s += g.ordering(c.over.order, &scope{sources: sc.sources, merged: sc.merged, aliases: sc.aliases, local: sc.local})
	}
	return " OVER (" + strings.TrimSpace(s) + ")"
}

// aggregate writes one: with the condition of FILTER, and NULL for nothing where there may be nothing.
func (g *gen) aggregate(c *call, as, params string, a []arg, sc *scope, orNull bool) string {
	sql := join(a)
	if orNull && (c.filter != nil || !sc.grouped && c.over == nil) {
		as += "OrNull"
	}
	if c.filter != nil {
		cond, _ := g.expr(c.filter, sc)
		as += "If"
		if sql != "" {
			sql += ", "
		}
		sql += cond
	}
	return as + params + "(" + sql + ")" + g.over(c, sc)
}

func writeAggregate(as string) func(*gen, *call, []arg, *scope) (string, kind) {
	return func(g *gen, c *call, a []arg, sc *scope) (string, kind) {
		if c.distinct || len(c.order) > 0 {
			g.fail(c.at, "%s with DISTINCT or ORDER BY", c.name)
		}
		k := a[0].kind
		if as == "avg" || as == "stddevSamp" {
			k = kind{of: floating}
		}
		return g.aggregate(c, as, "", a, sc, true), k
	}
}

func writeQuantile(as string) func(*gen, *call, []arg, *scope) (string, kind) {
	return func(g *gen, c *call, a []arg, sc *scope) (string, kind) {
		if !fixed(a[1].expr) {
			g.fail(c.at, "%s: the part must be a number", c.name)
		}
		return g.aggregate(c, as, "("+a[1].sql+")", a[:1], sc, true), kind{of: floating}
	}
}

func writeMedian(g *gen, c *call, a []arg, sc *scope) (string, kind) {
	return g.aggregate(c, "quantileExactInclusive", "(0.5)", a, sc, true), kind{of: floating}
}

// writeCount counts rows or different values. Numbers are signed there.
func writeCount(g *gen, c *call, a []arg, sc *scope) (string, kind) {
	if c.distinct {
		return counts("uniqExact")(g, c, a, sc)
	}
	return "toInt64(" + g.aggregate(c, "count", "", a, sc, false) + ")", kind{of: signed}
}

func counts(as string) func(*gen, *call, []arg, *scope) (string, kind) {
	return func(g *gen, c *call, a []arg, sc *scope) (string, kind) {
		return "toInt64(" + g.aggregate(c, as, "", a, sc, false) + ")", kind{of: signed}
	}
}

func writeList(g *gen, c *call, a []arg, sc *scope) (string, kind) {
	k := kind{of: a[0].kind.of, list: true}
	switch {
	case c.distinct:
		sql := g.aggregate(c, "groupUniqArray", "", a, sc, false)
		if len(c.order) > 0 {
			return "arraySort(" + sql + ")", k
		}
		return sql, k
	case len(c.order) == 1:
		by, _ := g.expr(c.order[0].expr, sc)
		sort := "arraySort"
		if c.order[0].desc {
			sort = "arrayReverseSort"
		}
		pairs := g.aggregate(c, "groupArray", "", []arg{{sql: "tuple(" + by + ", " + a[0].sql + ")"}}, sc, false)
		return "arrayMap(x_ -> x_.2, " + sort + "(x_ -> x_.1, " + pairs + "))", k
	}
	return g.aggregate(c, "groupArray", "", a, sc, false), k
}

func writeStringAgg(g *gen, c *call, a []arg, sc *scope) (string, kind) {
	texts := []arg{{sql: g.textOf(a[0].sql, a[0].kind), kind: kind{of: chars}}}
	sql, _ := writeList(g, c, texts, sc)
	return "arrayStringConcat(" + sql + ", " + a[1].sql + ")", kind{of: chars}
}

func writeRank(as string) func(*gen, *call, []arg, *scope) (string, kind) {
	return func(g *gen, c *call, _ []arg, sc *scope) (string, kind) {
		if c.over == nil {
			g.fail(c.at, "%s without OVER", c.name)
		}
		return "toInt64(" + as + "()" + g.over(c, sc) + ")", kind{of: signed}
	}
}

// writeLag gives the value of the row before, NULL for the first.
func writeLag(g *gen, c *call, a []arg, sc *scope) (string, kind) {
	if c.over == nil || len(c.over.order) == 0 {
		g.fail(c.at, "lag without OVER (ORDER BY …)")
	}
	return "lagInFrame(toNullable(" + a[0].sql + "))" + g.over(c, sc), a[0].kind
}

func writeIf(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "if(" + join(a) + ")", a[1].kind.or(a[2].kind)
}

func writeConcat(g *gen, _ *call, a []arg, _ *scope) (string, kind) {
	var parts []string
	for _, x := range a {
		parts = append(parts, g.textOf(x.sql, x.kind))
	}
	return "concat(" + strings.Join(parts, ", ") + ", '')", kind{of: chars}
}

func writeConcatWS(g *gen, _ *call, a []arg, _ *scope) (string, kind) {
	var parts []string
	for _, x := range a[1:] {
		parts = append(parts, g.textOf(x.sql, x.kind))
	}
	return "arrayStringConcat([" + strings.Join(parts, ", ") + "], " + a[0].sql + ")", kind{of: chars}
}

func writeLength(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	if a[0].kind.list {
		return "toInt64(length(" + a[0].sql + "))", kind{}
	}
	return "toInt64(lengthUTF8(" + a[0].sql + "))", kind{}
}

// writeHash mixes values. Only that equal values give equal numbers is promised.
func writeHash(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "cityHash64(" + join(a) + ")", kind{}
}

// writePrintf knows numbers in hexadecimal digits of a fixed width.
func writePrintf(g *gen, c *call, a []arg, _ *scope) (string, kind) {
	widths := map[string]string{"%016x": "16", "%012x": "12", "%08x": "8", "%04x": "4", "%02x": "2"}
	if l, ok := a[0].expr.(*literal); ok && widths[l.text] != "" {
		return "lower(leftPad(hex(toUInt64(" + a[1].sql + ")), " + widths[l.text] + ", '0'))", kind{of: chars}
	}
	g.fail(c.at, "printf with another format than %%016x")
	return "", kind{}
}

func writeJSON(g *gen, c *call, a []arg, _ *scope) (string, kind) {
	x := a[0]
	switch {
	case x.kind.list && (x.kind.of == address || x.kind.of == boolean || x.kind.of == moment):
		return "toJSONString(arrayMap(x_ -> " + g.textOf("x_", kind{of: x.kind.of}) + ", " + x.sql + "))", kind{of: chars}
	case x.kind.of == address:
		return "toJSONString(" + g.textOf(x.sql, x.kind) + ")", kind{of: chars}
	}
	return "toJSONString(" + x.sql + ")", kind{of: chars}
}

func writeRange(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "range(toInt64(" + a[0].sql + "), toInt64(" + a[1].sql + "))", kind{of: signed, list: true}
}

func writeUnnest(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "arrayJoin(" + a[0].sql + ")", kind{of: a[0].kind.of}
}

func writeTransform(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "arrayMap(" + a[1].sql + ", " + a[0].sql + ")", kind{of: a[1].kind.of, list: true}
}

func writeFilter(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "arrayFilter(" + a[1].sql + ", " + a[0].sql + ")", a[0].kind
}

func writeSplit(_ *gen, _ *call, a []arg, _ *scope) (string, kind) {
	return "splitByString(" + a[1].sql + ", " + a[0].sql + ")", kind{of: chars, list: true}
}
