package dialect

import (
	"fmt"
	"math/big"
	"strings"
)

// expr writes an expression and tells what it is.
func (g *gen) expr(e expr, sc *scope) (string, kind) {
	switch e := e.(type) {
	case *numeral:
		sql := numeralSQL(e.text)
		switch {
		case sql != e.text:
			return sql, kind{of: signed}
		case strings.ContainsAny(sql, ".eE"):
			return sql, kind{of: floating}
		}
		return sql, kind{}
	case *literal:
		return quoteText(e.text), kind{of: chars}
	case *constant:
		switch e.text {
		case "TRUE":
			return "1", kind{of: boolean}
		case "FALSE":
			return "0", kind{of: boolean}
		}
		return "NULL", kind{}
	case *parameter:
		return fmt.Sprintf("{p%d:%s}", e.n, g.types[e.n-1]), kind{}
	case *name:
		return g.lookup(e, sc)
	case *prefix:
		sql, k := g.expr(e.expr, sc)
		if e.op == "NOT" {
			return "(NOT " + sql + ")", kind{of: boolean}
		}
		return "(-" + sql + ")", k
	case *infix:
		return g.infix(e, sc)
	case *between:
		return g.between(e, sc), kind{of: boolean}
	case *within:
		return g.within(e, sc), kind{of: boolean}
	case *isNull:
		sql, _ := g.expr(e.expr, sc)
		if e.not {
			return "isNotNull(" + sql + ")", kind{of: boolean}
		}
		return "isNull(" + sql + ")", kind{of: boolean}
	case *choice:
		return g.choice(e, sc)
	case *tuple:
		return "tuple(" + g.list(e.items, sc) + ")", kind{}
	case *list:
		k := kind{list: true}
		if len(e.items) > 0 {
			_, of := g.expr(e.items[0], sc)
			k.of = of.of
		}
		return "[" + g.list(e.items, sc) + "]", k
	case *subquery:
		sql, out := g.query(e.query)
		if len(out) != 1 {
			g.fail(0, "a query for one value has %d columns", len(out))
		}
		return "(" + sql + ")", out[0].kind
	case *slice:
		return g.slice(e, sc)
	case *cast:
		return g.cast(e, sc)
	case *call:
		return g.call(e, sc)
	}
	panic(fmt.Sprintf("dialect: expression %T", e))
}

func (g *gen) list(all []expr, sc *scope) string {
	parts := make([]string, len(all))
	for i, e := range all {
		parts[i], _ = g.expr(e, sc)
	}
	return strings.Join(parts, ", ")
}

// numeralSQL keeps whole numbers signed, as they are in the views' SQL: from 2³² on ClickHouse would take them for unsigned, which do not mix
// with signed ones.
func numeralSQL(s string) string {
	n, ok := new(big.Int).SetString(s, 10)
	switch {
	case !ok || n.BitLen() <= 32:
		return s
	case n.IsInt64():
		return "toInt64(" + s + ")"
	}
	return "toInt128('" + s + "')"
}

// operators that are functions.
var operatorCalls = map[string]string{"//": "intDiv", "&": "bitAnd", "|": "bitOr", "<<": "bitShiftLeft", ">>": "bitShiftRight"}

func (g *gen) infix(e *infix, sc *scope) (string, kind) {
	l, lk := g.expr(e.left, sc)
	r, rk := g.expr(e.right, sc)
	if f, ok := operatorCalls[e.op]; ok {
		return f + "(" + l + ", " + r + ")", kind{}
	}
	switch e.op {
	case "||":
		return "concat(" + g.textOf(l, lk) + ", " + g.textOf(r, rk) + ")", kind{of: chars}
	case "LIKE", "ILIKE": // a backslash is nothing special there
		return "(" + l + " " + e.op + " replaceAll(" + r + ", '\\\\', '\\\\\\\\'))", kind{of: boolean}
	case "+", "*", "%":
		k := kind{}
		if lk.of == floating || rk.of == floating {
			k.of = floating
		} else if lk.of == unsigned && (rk.of == unsigned || rk.of == other) || lk.of == other && rk.of == unsigned {
			k.of = unsigned
		}
		return "(" + l + " " + e.op + " " + r + ")", k
	case "-":
		if lk.of == floating || rk.of == floating {
			return "(" + l + " - " + r + ")", kind{of: floating}
		}
		return "(" + l + " - " + r + ")", kind{}
	case "/":
		return "(" + l + " / " + r + ")", kind{of: floating}
	}
	return "(" + l + " " + e.op + " " + r + ")", kind{of: boolean}
}

func (g *gen) between(e *between, sc *scope) string {
	v, _ := g.expr(e.expr, sc)
	low, _ := g.expr(e.low, sc)
	high, _ := g.expr(e.high, sc)
	if e.not {
		return "(" + v + " < " + low + " OR " + v + " > " + high + ")"
	}
	return "(" + v + " >= " + low + " AND " + v + " <= " + high + ")"
}

// within writes IN. A list must hold constants there, so others become comparisons.
func (g *gen) within(e *within, sc *scope) string {
	v, _ := g.expr(e.expr, sc)
	not := ""
	if e.not {
		not = "NOT "
	}
	if e.query != nil {
		sql, _ := g.query(e.query)
		return "(" + v + " " + not + "IN (" + sql + "))"
	}
	constants := !fixed(e.expr)
	var parts, same []string
	for _, x := range e.list {
		constants = constants && fixed(x)
		sql, _ := g.expr(x, sc)
		parts, same = append(parts, sql), append(same, v+" = "+sql)
	}
	if constants {
		return "(" + v + " " + not + "IN (" + strings.Join(parts, ", ") + "))"
	}
	return "(" + not + "(" + strings.Join(same, " OR ") + "))"
}

// fixed reports whether an expression is the same for every row.
func fixed(e expr) bool {
	switch e := e.(type) {
	case *numeral, *literal, *constant, *parameter:
		return true
	case *cast:
		return fixed(e.expr)
	case *prefix:
		return fixed(e.expr)
	}
	return false
}

func (g *gen) choice(e *choice, sc *scope) (string, kind) {
	var b strings.Builder
	b.WriteString("(CASE")
	of := ""
	if e.of != nil {
		of, _ = g.expr(e.of, sc)
		of += " = "
	}
	var k kind
	for _, w := range e.whens {
		when, _ := g.expr(w[0], sc)
		then, tk := g.expr(w[1], sc)
		k = k.or(tk)
		b.WriteString(" WHEN " + of + when + " THEN " + then)
	}
	if e.other != nil {
		sql, ok := g.expr(e.other, sc)
		k = k.or(ok)
		b.WriteString(" ELSE " + sql)
	} else {
		b.WriteString(" ELSE NULL")
	}
	b.WriteString(" END)")
	return b.String(), k
}

func (g *gen) slice(e *slice, sc *scope) (string, kind) {
	v, k := g.expr(e.expr, sc)
	if e.single {
		i, _ := g.expr(e.from, sc)
		return "arrayElement(" + v + ", " + i + ")", kind{of: k.of}
	}
	from := "1"
	if e.from != nil {
		from, _ = g.expr(e.from, sc)
	}
	if e.to == nil {
		return "arraySlice(" + v + ", " + from + ")", k
	}
	to, _ := g.expr(e.to, sc)
	return "arraySlice(" + v + ", " + from + ", greatest(" + to + " - " + from + " + 1, 0))", k
}

// conversions to the types of the views' SQL. They keep NULL.
var conversions = map[string]string{
	"utinyint": "toUInt8", "usmallint": "toUInt16", "uinteger": "toUInt32", "ubigint": "toUInt64", "uhugeint": "toUInt128",
	"tinyint": "toInt8", "smallint": "toInt16", "integer": "toInt32", "int": "toInt32", "bigint": "toInt64", "hugeint": "toInt128",
	"double": "toFloat64", "float": "toFloat32",
}

// unset are the types of NULL.
var unset = map[string]string{
	"utinyint": "UInt8", "usmallint": "UInt16", "uinteger": "UInt32", "ubigint": "UInt64", "uhugeint": "UInt128", "tinyint": "Int8", "smallint": "Int16", "integer": "Int32",
	"int": "Int32", "bigint": "Int64", "hugeint": "Int128", "double": "Float64", "float": "Float32", "varchar": "String", "text": "String", "uuid": "IPv6", "boolean": "UInt8",
	"timestamp": "DateTime64(3, 'UTC')",
}

func (g *gen) cast(e *cast, sc *scope) (string, kind) {
	to := strings.ToLower(e.to)
	if c, ok := e.expr.(*constant); ok && c.text == "NULL" && unset[to] != "" {
		return "CAST(NULL, " + quoteText("Nullable("+unset[to]+")") + ")", kindOf(to)
	}
	sql, k := g.expr(e.expr, sc)
	if n, ok := e.expr.(*numeral); ok {
		sql = n.text
	}
	if f, ok := conversions[to]; ok {
		if k.of == floating && kindOf(to).of != floating {
			sql = "round(" + sql + ")" // ClickHouse would cut; both round halves to even
		}
		return f + "(" + sql + ")", kindOf(to)
	}
	switch to {
	case "varchar", "text":
		if k.list {
			g.fail(e.at, "a list as text; use to_json")
		}
		return g.textOf(sql, k), kind{of: chars}
	case "boolean":
		return "toBool(" + sql + ")", kind{of: boolean}
	case "timestamp":
		if k.of == moment {
			return sql, k
		}
		return "parseDateTime64BestEffort(" + sql + ", 3, 'UTC')", kind{of: moment}
	case "uuid":
		if k.of == address {
			return sql, k
		}
		return g.addressOf(e, sql), kind{of: address}
	}
	g.fail(e.at, "there is no type %q here", e.to)
	return "", kind{}
}

// addressOf turns 32 hexadecimal digits, with or without dashes, into an address.
func (g *gen) addressOf(e *cast, sql string) string {
	if l, ok := e.expr.(*literal); ok {
		hex := strings.ReplaceAll(l.text, "-", "")
		if len(hex) != 32 || strings.Trim(strings.ToLower(hex), "0123456789abcdef") != "" {
			g.fail(e.at, "%q is no address of 32 hexadecimal digits", l.text)
		}
		var b strings.Builder
		for i := 0; i < 32; i += 4 {
			b.WriteString(":" + hex[i:i+4])
		}
		return "toIPv6('" + b.String()[1:] + "')"
	}
	return "toIPv6(IPv6NumToString(toFixedString(unhex(replaceAll(" + sql + ", '-', '')), 16)))"
}

// textOf is a value as text, in the form that it has in the views' SQL.
func (g *gen) textOf(sql string, k kind) string {
	switch k.of {
	case address:
		return "UUIDNumToString(reinterpret(" + sql + ", 'FixedString(16)'))"
	case boolean:
		return "if(" + sql + ", 'true', 'false')"
	case chars:
		return sql
	case other, moment, signed, unsigned, floating:
	}
	return "toString(" + sql + ")"
}

// aggregates reports whether an expression adds up rows.
func aggregates(e expr) bool {
	any := func(all ...expr) bool {
		for _, x := range all {
			if x != nil && aggregates(x) {
				return true
			}
		}
		return false
	}
	switch e := e.(type) {
	case *call:
		if f, ok := functions[e.name]; ok && f.aggregate && e.over == nil {
			return true
		}
		return any(e.args...)
	case *cast:
		return any(e.expr)
	case *prefix:
		return any(e.expr)
	case *infix:
		return any(e.left, e.right)
	case *between:
		return any(e.expr, e.low, e.high)
	case *within:
		return any(append([]expr{e.expr}, e.list...)...)
	case *isNull:
		return any(e.expr)
	case *tuple:
		return any(e.items...)
	case *list:
		return any(e.items...)
	case *slice:
		return any(e.expr, e.from, e.to)
	case *choice:
		for _, w := range e.whens {
			if any(w[0], w[1]) {
				return true
			}
		}
		return any(e.of, e.other)
	}
	return false
}
