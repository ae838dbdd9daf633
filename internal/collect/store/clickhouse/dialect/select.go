package dialect

import (
	"strings"
)

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
