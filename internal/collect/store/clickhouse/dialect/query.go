package dialect

import (
	"maps"
	"slices"
	"strings"
)

// with writes the steps that a text needs, in order.
func (g *gen) with(needs map[*cte]bool) string {
	all := maps.Clone(needs)
	for _, c := range slices.Backward(g.order) {
		if all[c] {
			maps.Copy(all, c.needs)
		}
	}
	var parts []string
	for _, c := range g.order {
		if all[c] {
			parts = append(parts, quote(c.alias)+" AS ("+c.sql+")")
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "WITH " + strings.Join(parts, ",\n") + "\n"
}

// uses counts how often a step would be worked out if it were not kept.
func (c *cte) uses() (n int) {
	for _, u := range c.users {
		switch {
		case u == nil || u.kept():
			n++
		default:
			n += u.uses()
		}
		if n > 1 {
			return n
		}
	}
	return n
}

// kept reports whether a step becomes a table of the session.
func (c *cte) kept() bool { return (c.keep || c.loose) && c.uses() > 1 }

// step writes a step once. One that nobody names is left out.
func (g *gen) step(c *cte) {
	if len(c.users) == 0 {
		return
	}
	outer := g.needs
	g.needs = map[*cte]bool{}
	c.sql, c.out = g.query(c.query)
	c.needs, g.needs = g.needs, outer
	c.alias, c.done = g.unique(c.name), true
	if c.kept() {
		c.saved = true
		g.steps = append(g.steps, Step{c.alias, g.with(c.needs) + c.sql})
		return
	}
	g.order = append(g.order, c)
}

// query writes a query and gives its columns.
func (g *gen) query(q *query) (string, []column) {
	for _, c := range q.with {
		g.step(c)
	}
	tail := func(order string) string {
		s := order
		if q.limit != nil {
			sql, _ := g.expr(q.limit, &scope{})
			s += " LIMIT " + sql
		}
		if q.offset != nil {
			sql, _ := g.expr(q.offset, &scope{})
			s += " OFFSET " + sql
		}
		return s
	}
	if len(q.selects) == 1 && q.selects[0].nested == nil {
		body, out, sc := g.selection(q.selects[0])
		return body + tail(g.ordering(q.order, sc)), out
	}
	body, out := g.union(q)
	if len(q.order) == 0 && q.limit == nil && q.offset == nil {
		return body, out
	}
	alias := g.unique("u")
	sc := &scope{sources: []from{{alias, out}}}
	var names []string
	for _, c := range out {
		names = append(names, quote(c.name))
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM (" + body + ") AS " + quote(alias) + tail(g.ordering(q.order, sc)), out
}

// union writes the selects of a query; the columns have the names of the first. Where signed and unsigned numbers meet, they become wide
// enough for both.
func (g *gen) union(q *query) (string, []column) {
	parts, all := make([]string, len(q.selects)), make([][]column, len(q.selects))
	for i, s := range q.selects {
		if s.nested != nil {
			sql, cols := g.query(s.nested)
			parts[i], all[i] = "SELECT * FROM ("+sql+")", cols
		} else {
			parts[i], all[i], _ = g.selection(s)
		}
		if len(all[i]) != len(all[0]) {
			g.fail(0, "UNION of %d and %d columns", len(all[0]), len(all[i]))
		}
	}
	out := slices.Clone(all[0])
	mixed := map[int]bool{}
	for j := range out {
		for _, cols := range all {
			if k := cols[j].kind; out[j].kind.meets(k) {
				mixed[j] = true
			} else {
				out[j].kind = out[j].kind.or(k)
			}
		}
	}
	var b strings.Builder
	for i := range parts {
		if i > 0 {
			b.WriteString("\n" + q.unions[i-1] + " ")
		}
		if len(mixed) == 0 {
			b.WriteString(parts[i])
			continue
		}
		var cols []string
		alias := quote(g.unique("b"))
		for j, c := range all[i] {
			sql := alias + "." + quote(c.name)
			if mixed[j] {
				sql, out[j].kind = "toInt128("+sql+")", kind{}
			}
			cols = append(cols, sql+" AS "+quote(out[j].name))
		}
		b.WriteString("SELECT " + strings.Join(cols, ", ") + " FROM (" + parts[i] + ") AS " + alias)
	}
	return b.String(), out
}

// ordering writes ORDER BY. Here the names of the answer's columns come before those of tables.
func (g *gen) ordering(order []ordered, sc *scope) string {
	if len(order) == 0 {
		return ""
	}
	var parts []string
	for _, o := range order {
		sql := ""
		if n, ok := o.expr.(*name); ok && n.table == "" {
			if sql = sc.made[n.name]; sql != "" {
				sql = "(" + sql + ")"
			}
		}
		if num, ok := o.expr.(*numeral); ok {
			sql = num.text
		}
		if sql == "" {
			sql, _ = g.expr(o.expr, sc)
		}
		if o.desc {
			sql += " DESC"
		}
		if o.nulls != "" {
			sql += " NULLS " + o.nulls
		}
		parts = append(parts, sql)
	}
	return " ORDER BY " + strings.Join(parts, ", ")
}
