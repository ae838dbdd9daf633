package dialect

import (
	"slices"
	"strings"
)

// maxDepth bounds how deep questions nest.
const maxDepth = 200

// parser reads a question; the first mistake ends it by a panic with a failure.
type parser struct {
	tokens []token
	i      int
	depth  int
	known  []*cte // names that may be used here, the innermost last
	inside *cte   // whose text is being read
	params int    // the greatest number of a placeholder
}

// failure is the first mistake of a question, on its way out of the parser or the writer.
type failure struct{ err error }

// caught is to be deferred: it makes an error of a failure.
func caught(err *error) {
	switch f := recover().(type) {
	case nil:
	case failure:
		*err = f.err
	default:
		panic(f)
	}
}

// parse reads one statement, which must be a query.
func parse(text string) (q *query, params int, err error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, 0, err
	}
	p := &parser{tokens: tokens}
	defer caught(&err)
	q = p.query()
	for p.take(";") {
	}
	if p.now().class != end {
		p.fail("unexpected %q; one SELECT is expected", p.now().text)
	}
	return q, p.params, nil
}

func (p *parser) now() token { return p.tokens[p.i] }

func (p *parser) next() token { t := p.tokens[p.i]; p.i = min(p.i+1, len(p.tokens)-1); return t }

func (p *parser) fail(format string, args ...any) {
	panic(failure{mistake(p.now().at, format, args...)})
}

// peek reports whether the words come next.
func (p *parser) peek(words ...string) bool {
	for i, w := range words {
		if p.i+i >= len(p.tokens) || !p.tokens[p.i+i].is(w) {
			return false
		}
	}
	return true
}

// take passes the words if they come next.
func (p *parser) take(words ...string) bool {
	if !p.peek(words...) {
		return false
	}
	p.i += len(words)
	return true
}

func (p *parser) want(words ...string) {
	for _, w := range words {
		if !p.take(w) {
			p.fail("expected %s", strings.ToUpper(w))
		}
	}
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail("more than %d levels", maxDepth)
	}
}

func (p *parser) query() *query {
	p.enter()
	defer func(n int) { p.known = p.known[:n]; p.depth-- }(len(p.known))
	q := &query{}
	if p.take("with") {
		for {
			q.with = append(q.with, p.cte())
			if !p.take(",") {
				break
			}
		}
	}
	q.selects = append(q.selects, p.selection())
	for p.take("union") {
		how := "UNION DISTINCT"
		if p.take("all") {
			how = "UNION ALL"
		}
		q.unions, q.selects = append(q.unions, how), append(q.selects, p.selection())
	}
	if p.take("order", "by") {
		q.order = p.ordering()
	}
	if p.take("limit") {
		q.limit = p.expr()
	}
	if p.take("offset") {
		q.offset = p.expr()
	}
	return q
}

func (p *parser) cte() *cte {
	c := &cte{name: p.identifier()}
	p.want("as")
	switch {
	case p.take("not", "materialized"):
	case p.take("materialized"):
		c.keep = true
	default:
		c.loose = true
	}
	p.want("(")
	before := p.inside
	p.inside = c
	c.query = p.query()
	p.inside = before
	p.want(")")
	p.known = append(p.known, c)
	return c
}

func (p *parser) selection() *selection {
	if p.take("(") {
		s := &selection{nested: p.query()}
		p.want(")")
		return s
	}
	p.want("select")
	s := &selection{distinct: p.take("distinct")}
	for {
		s.items = append(s.items, p.item())
		if !p.take(",") {
			break
		}
	}
	if p.take("from") {
		p.from(s)
	}
	if p.take("where") {
		s.where = p.expr()
	}
	if p.take("group", "by") {
		if s.groupAll = p.take("all"); !s.groupAll {
			s.group = p.exprs()
		}
	}
	if p.take("having") {
		s.having = p.expr()
	}
	if p.take("qualify") {
		s.qualify = p.expr()
	}
	return s
}

func (p *parser) item() item {
	it := item{at: p.now().at}
	switch {
	case p.take("*"):
		it.star = true
	case p.now().class == word && p.i+2 < len(p.tokens) && p.tokens[p.i+1].is(".") && p.tokens[p.i+2].is("*"):
		it.star, it.table = true, p.identifier()
		p.i += 2
	default:
		it.expr = p.expr()
		if p.take("as") {
			it.name = p.anyName()
		} else if t := p.now(); t.class == word && (t.quoted || !slices.Contains(reserved, t.text)) {
			it.name = p.next().text
		}
		return it
	}
	if p.take("exclude") {
		it.exclude = map[string]bool{}
		p.want("(")
		for {
			it.exclude[p.anyName()] = true
			if !p.take(",") {
				break
			}
		}
		p.want(")")
	}
	if p.take("replace") {
		it.replace = map[string]expr{}
		p.want("(")
		for {
			e := p.expr()
			p.want("as")
			it.replace[p.anyName()] = e
			if !p.take(",") {
				break
			}
		}
		p.want(")")
	}
	return it
}

// reserved words end an expression or a table; they name nothing unless quoted.
var reserved = []string{
	"select", "from", "where", "group", "having", "qualify", "order", "limit", "offset", "union", "except", "intersect", "on", "using", "join", "left", "right", "full",
	"inner", "cross", "outer", "as", "and", "or", "not", "in", "is", "between", "like", "ilike", "case", "when", "then", "else", "end", "with", "filter", "over", "desc", "asc",
	"nulls", "exclude", "replace", "distinct", "null", "true", "false", "by", "semi", "anti", "asof", "natural", "positional", "lateral", "window",
}

// identifier is a name that is no reserved word.
func (p *parser) identifier() string {
	t := p.now()
	if t.class != word || !t.quoted && slices.Contains(reserved, t.text) {
		p.fail("expected a name")
	}
	return p.next().text
}

// anyName is a name after AS, where any word may stand.
func (p *parser) anyName() string {
	if p.now().class != word {
		p.fail("expected a name")
	}
	return p.next().text
}

func (p *parser) from(s *selection) {
	s.from = append(s.from, p.source(""))
	for {
		how := ""
		switch {
		case p.take(","), p.take("cross", "join"):
			how = "CROSS"
		case p.take("inner", "join"), p.take("join"):
			how = "INNER"
		case p.take("left", "outer", "join"), p.take("left", "join"):
			how = "LEFT"
		case p.take("right", "outer", "join"), p.take("right", "join"):
			how = "RIGHT"
		case p.take("full", "outer", "join"), p.take("full", "join"):
			how = "FULL"
		default:
			return
		}
		s.from = append(s.from, p.source(how))
	}
}

func (p *parser) source(how string) source {
	src := source{at: p.now().at, join: how}
	if p.take("(") {
		src.query = p.query()
		p.want(")")
	} else {
		src.table = p.identifier()
		for i := len(p.known) - 1; i >= 0 && src.cte == nil; i-- {
			if p.known[i].name == src.table {
				src.cte = p.known[i]
				src.cte.users = append(src.cte.users, p.inside)
			}
		}
	}
	if p.take("as") {
		src.alias = p.anyName()
	} else if t := p.now(); t.class == word && (t.quoted || !slices.Contains(reserved, t.text)) {
		src.alias = p.next().text
	}
	if how == "" || how == "CROSS" {
		return src
	}
	if p.take("using") {
		p.want("(")
		for {
			src.using = append(src.using, p.anyName())
			if !p.take(",") {
				break
			}
		}
		p.want(")")
		return src
	}
	p.want("on")
	src.on = p.expr()
	return src
}

func (p *parser) ordering() []ordered {
	var out []ordered
	for {
		o := ordered{expr: p.expr()}
		if o.desc = p.take("desc"); !o.desc {
			p.take("asc")
		}
		if p.take("nulls", "first") {
			o.nulls = "FIRST"
		} else if p.take("nulls", "last") {
			o.nulls = "LAST"
		}
		out = append(out, o)
		if !p.take(",") {
			return out
		}
	}
}
