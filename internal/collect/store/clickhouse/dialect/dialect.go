package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/collect/store"
)

// Table is what a name in FROM stands for.
type Table struct {
	SQL     string // a table of the server, or a query in parentheses
	Columns []store.Column
}

// Plan is a question in ClickHouse's SQL. Values are bound to {p1}, {p2} and so on.
type Plan struct {
	Steps   []Step // tables of the session that must be made first, in order
	SQL     string
	Columns []store.Column // types are UUID, BOOLEAN, TIMESTAMP or "" for others
}

// Step is a part of a question that is used more than once.
type Step struct{ Name, SQL string }

// Translate writes a question about the tables. types gives the type of each bound value in ClickHouse's words.
func Translate(text string, tables map[string]Table, types []string) (plan Plan, err error) {
	q, params, err := parse(text)
	if err != nil {
		return plan, err
	}
	if params > len(types) {
		return plan, fmt.Errorf("%d values for $%d", len(types), params)
	}
	g := &gen{tables: tables, types: types, needs: map[*cte]bool{}}
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			err = f.err
		default:
			panic(f)
		}
	}()
	body, out := g.query(q)
	plan = Plan{Steps: g.steps, SQL: g.with(g.needs) + body}
	for _, c := range out {
		plan.Columns = append(plan.Columns, store.Column{Name: c.name, Type: c.kind.typeName()})
	}
	return plan, nil
}

// base is what writing must know of a value's type.
type base uint8

const (
	other base = iota
	address
	boolean
	moment
	chars
	signed   // 64 bits; narrower numbers mix with both
	unsigned // 64 bits
	floating
)

type kind struct {
	of   base
	list bool
}

func (k kind) typeName() string {
	if k.list {
		return ""
	}
	return map[base]string{address: "UUID", boolean: "BOOLEAN", moment: "TIMESTAMP"}[k.of]
}

func kindOf(sqlType string) kind {
	switch strings.ToUpper(sqlType) {
	case "UUID":
		return kind{of: address}
	case "BOOLEAN":
		return kind{of: boolean}
	case "TIMESTAMP":
		return kind{of: moment}
	case "VARCHAR":
		return kind{of: chars}
	case "UBIGINT":
		return kind{of: unsigned}
	case "BIGINT":
		return kind{of: signed}
	case "DOUBLE", "FLOAT":
		return kind{of: floating}
	}
	return kind{}
}

// or is the kind of what is one or the other.
func (k kind) or(l kind) kind {
	if k == (kind{}) {
		return l
	}
	return k
}

// column is one of a table or step.
type column struct {
	name string
	kind kind
}

// gen writes one question.
type gen struct {
	tables map[string]Table
	types  []string
	steps  []Step
	order  []*cte        // written, in order
	needs  map[*cte]bool // of the text being written
	n      int           // names made
}

func (g *gen) fail(at int, format string, args ...any) { panic(failure{mistake(at, format, args...)}) }

func (g *gen) unique(word string) string {
	g.n++
	return fmt.Sprintf("%s_%d", word, g.n)
}

// quote writes a name.
func quote(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

// quoteText writes a text.
func quoteText(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}

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

// meets reports whether numbers of the two kinds have no type in common.
func (k kind) meets(l kind) bool {
	return k.of == signed && l.of == unsigned || k.of == unsigned && l.of == signed
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

// from is a table in FROM with its columns.
type from struct {
	alias   string
	columns []column
}

// scope is what names may mean in a selection.
type scope struct {
	sources []from
	merged  map[string]string // columns of USING: what stands for both
	hidden  map[[2]string]bool
	aliases map[string]kind   // columns of the answer
	made    map[string]string // of them, those that are not simply a column of the same name
	local   map[string]kind   // parameters of lambdas
	grouped bool
}

// lookup finds a name: a column of a table, else one of the answer.
func (g *gen) lookup(n *name, sc *scope) (string, kind) {
	if k, ok := sc.local[n.name]; ok && n.table == "" {
		return quote(n.name), k
	}
	if sql, ok := sc.merged[n.name]; ok && n.table == "" {
		for _, f := range sc.sources {
			for _, c := range f.columns {
				if c.name == n.name {
					return sql, c.kind
				}
			}
		}
	}
	for _, f := range sc.sources {
		if n.table != "" && n.table != f.alias {
			continue
		}
		for _, c := range f.columns {
			if c.name == n.name {
				return quote(f.alias) + "." + quote(c.name), c.kind
			}
		}
	}
	if k, ok := sc.aliases[n.name]; ok && n.table == "" {
		return quote(n.name), k
	}
	g.fail(n.at, "there is no column %q", strings.TrimPrefix(n.table+"."+n.name, "."))
	return "", kind{}
}

// selection writes one SELECT.
func (g *gen) selection(s *selection) (string, []column, *scope) {
	sc := &scope{merged: map[string]string{}, hidden: map[[2]string]bool{}, aliases: map[string]kind{}, made: map[string]string{}, grouped: s.groupAll || len(s.group) > 0}
	tables := g.from(s, sc)
	for _, it := range s.items {
		if it.name != "" {
			sc.aliases[it.name] = kind{}
		}
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	if s.distinct {
		b.WriteString("DISTINCT ")
	}
	items, out, plain := g.items(s, sc)
	b.WriteString(strings.Join(items, ", "))
	b.WriteString(tables)
	if s.where != nil {
		sql, _ := g.expr(s.where, sc)
		b.WriteString(" WHERE " + sql)
	}
	switch {
	case s.groupAll && len(plain) > 0:
		b.WriteString(" GROUP BY " + strings.Join(plain, ", "))
	case len(s.group) > 0:
		var keys []string
		for _, e := range s.group {
			sql, _ := g.expr(e, sc)
			keys = append(keys, sql)
		}
		b.WriteString(" GROUP BY " + strings.Join(keys, ", "))
	}
	if s.having != nil {
		sql, _ := g.expr(s.having, sc)
		b.WriteString(" HAVING " + sql)
	}
	if s.qualify != nil {
		sql, _ := g.expr(s.qualify, sc)
		b.WriteString(" QUALIFY " + sql)
	}
	return b.String(), out, sc
}

// items writes the columns of the answer; plain are those without an aggregate.
func (g *gen) items(s *selection, sc *scope) (items []string, out []column, plain []string) {
	taken := map[string]bool{}
	add := func(sql, as string, k kind) {
		if as == "" || taken[as] {
			as = g.unique("c")
		}
		taken[as] = true
		items, out = append(items, sql+" AS "+quote(as)), append(out, column{as, k})
	}
	for _, it := range s.items {
		if it.star {
			g.star(it, sc, add)
			continue
		}
		sql, k := g.expr(it.expr, sc)
		if l, ok := it.expr.(*list); ok && len(l.items) == 0 {
			sql = "CAST([], 'Array(String)')" // a column must have a type
		}
		as := it.name
		n, isName := it.expr.(*name)
		if as == "" && isName {
			as = n.name
		}
		if it.name != "" {
			sc.aliases[as] = k
			if !isName || n.name != as {
				sc.made[as] = sql
			}
		}
		if !aggregates(it.expr) {
			plain = append(plain, sql)
		}
		add(sql, as, k)
	}
	return items, out, plain
}

// star writes all columns of one table or of all.
func (g *gen) star(it item, sc *scope, add func(sql, as string, k kind)) {
	found := false
	for _, f := range sc.sources {
		if it.table != "" && it.table != f.alias {
			continue
		}
		found = true
		for _, c := range f.columns {
			if it.exclude[c.name] || it.table == "" && sc.hidden[[2]string{f.alias, c.name}] {
				continue
			}
			if e := it.replace[c.name]; e != nil {
				sql, k := g.expr(e, sc)
				add(sql, c.name, k.or(c.kind))
				continue
			}
			sql := quote(f.alias) + "." + quote(c.name)
			if m, ok := sc.merged[c.name]; ok && it.table == "" {
				sql = m
			}
			add(sql, c.name, c.kind)
		}
	}
	if !found {
		g.fail(it.at, "there is no table %q here", it.table)
	}
}

// from writes FROM and its joins.
func (g *gen) from(s *selection, sc *scope) string {
	var b strings.Builder
	for i, src := range s.from {
		if i == 0 {
			b.WriteString(" FROM ")
		} else {
			b.WriteString(" " + src.join + " JOIN ")
		}
		sql, f := g.source(src)
		for _, have := range sc.sources {
			if have.alias == f.alias {
				g.fail(src.at, "two tables are called %q", f.alias)
			}
		}
		b.WriteString(sql + " AS " + quote(f.alias))
		left := *sc
		sc.sources = append(sc.sources, f)
		switch {
		case src.on != nil:
			on, _ := g.expr(src.on, sc)
			b.WriteString(" ON " + on)
		case len(src.using) > 0:
			b.WriteString(" ON " + g.using(src, f, &left, sc))
		}
	}
	return b.String()
}

// using writes the condition of a join, and makes one column of each two.
func (g *gen) using(src source, f from, left, sc *scope) string {
	var on []string
	for _, col := range src.using {
		l, _ := g.lookup(&name{src.at, "", col}, left)
		r, _ := g.lookup(&name{src.at, f.alias, col}, sc)
		on = append(on, l+" = "+r)
		switch src.join {
		case "RIGHT":
			sc.merged[col] = r
		case "FULL":
			sc.merged[col] = "coalesce(" + l + ", " + r + ")"
		default:
			sc.merged[col] = l
		}
		sc.hidden[[2]string{f.alias, col}] = true
	}
	return strings.Join(on, " AND ")
}

func (g *gen) source(src source) (string, from) {
	if src.query != nil {
		alias := src.alias
		if alias == "" {
			alias = g.unique("t")
		}
		sql, out := g.query(src.query)
		return "(" + sql + ")", from{alias, out}
	}
	alias := src.alias
	if alias == "" {
		alias = src.table
	}
	if c := src.cte; c != nil {
		if !c.done {
			g.fail(src.at, "%q is not known yet", src.table)
		}
		if !c.saved {
			g.needs[c] = true
		}
		return quote(c.alias), from{alias, c.out}
	}
	t, ok := g.tables[src.table]
	if !ok {
		g.fail(src.at, "there is no table %q", src.table)
	}
	f := from{alias: alias}
	for _, c := range t.Columns {
		f.columns = append(f.columns, column{c.Name, kindOf(c.Type)})
	}
	return t.SQL, f
}
