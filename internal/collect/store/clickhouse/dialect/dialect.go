// Package dialect says in ClickHouse's SQL what reports and administrators say in the SQL of the store's views, which is a part of
// DuckDB's. A question is read into a tree, its names are resolved against the tables it may use, and the tree is written
// again: nothing passes as text, so that a question can name no other table and no function that is not listed here.
package dialect

import (
	"fmt"
	"strings"
)

// Column is a column of a table or of an answer; types are those of the views' SQL.
type Column struct{ Name, Type string }

// Table is what a name in FROM stands for.
type Table struct {
	SQL     string // a table of the server, or a query in parentheses
	Columns []Column
}

// Plan is a question in ClickHouse's SQL. Values are bound to {p1}, {p2} and so on.
type Plan struct {
	Steps   []Step // tables of the session that must be made first, in order
	SQL     string
	Columns []Column // types are UUID, BOOLEAN, TIMESTAMP or "" for others
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
	defer caught(&err)
	body, out := g.query(q)
	plan = Plan{Steps: g.steps, SQL: g.with(g.needs) + body}
	for _, c := range out {
		plan.Columns = append(plan.Columns, Column{c.name, c.kind.typeName()})
	}
	return plan, nil
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
