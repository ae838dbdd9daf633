package dialect

import (
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds how deep questions nest.
const maxDepth = 200

// parser reads a question; the first mistake ends it by a panic that parse catches.
type parser struct {
	tokens []token
	i      int
	depth  int
	known  []*cte // names that may be used here, the innermost last
	inside *cte   // whose text is being read
	params int    // the greatest number of a placeholder
}

type failure struct{ err error }

// parse reads one statement, which must be a query.
func parse(text string) (q *query, params int, err error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, 0, err
	}
	p := &parser{tokens: tokens}
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			err = f.err
		default:
			panic(f)
		}
	}()
	q = p.query()
	for p.take(";") {
	}
	if p.now().class != end {
		p.fail("unexpected %q; one SELECT is expected", p.now().text)
	}
	return q, p.params, nil
}

func (p *parser) now() token  { return p.tokens[p.i] }
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

func (p *parser) exprs() []expr {
	out := []expr{p.expr()}
	for p.take(",") {
		out = append(out, p.expr())
	}
	return out
}

func (p *parser) expr() expr {
	p.enter()
	defer func() { p.depth-- }()
	return p.or()
}

func (p *parser) or() expr {
	e := p.and()
	for p.peek("or") {
		at := p.next().at
		e = &infix{at, "OR", e, p.and()}
	}
	return e
}

func (p *parser) and() expr {
	e := p.not()
	for p.peek("and") {
		at := p.next().at
		e = &infix{at, "AND", e, p.not()}
	}
	return e
}

func (p *parser) not() expr {
	if p.take("not") {
		p.enter()
		defer func() { p.depth-- }()
		return &prefix{"NOT", p.not()}
	}
	return p.comparison()
}

func (p *parser) comparison() expr {
	e := p.membership()
	for {
		switch t := p.now(); {
		case t.class == symbol && slices.Contains([]string{"=", "<>", "!=", "<", ">", "<=", ">="}, t.text):
			p.next()
			e = &infix{t.at, strings.Replace(t.text, "!=", "<>", 1), e, p.membership()}
		case p.take("is", "not", "null"):
			e = &isNull{e, true}
		case p.take("is", "null"):
			e = &isNull{e, false}
		default:
			return e
		}
	}
}

// membership reads BETWEEN, IN and LIKE.
func (p *parser) membership() expr {
	e := p.bits()
	for {
		at, not := p.now().at, false
		if p.peek("not", "between") || p.peek("not", "in") || p.peek("not", "like") || p.peek("not", "ilike") {
			not = p.take("not")
		}
		switch {
		case p.take("between"):
			low := p.bits()
			p.want("and")
			e = &between{e, low, p.bits(), not}
		case p.take("in"):
			e = p.in(e, not)
		case p.take("like"):
			e = negated(&infix{at, "LIKE", e, p.bits()}, not)
		case p.take("ilike"):
			e = negated(&infix{at, "ILIKE", e, p.bits()}, not)
		default:
			return e
		}
	}
}

func negated(e expr, not bool) expr {
	if not {
		return &prefix{"NOT", e}
	}
	return e
}

func (p *parser) in(e expr, not bool) expr {
	p.want("(")
	in := &within{expr: e, not: not}
	if p.peek("select") || p.peek("with") {
		in.query = p.query()
	} else {
		in.list = p.exprs()
	}
	p.want(")")
	return in
}

func (p *parser) bits() expr { return p.infixes(p.sum, "&", "|", "<<", ">>", "||") }
func (p *parser) sum() expr  { return p.infixes(p.product, "+", "-") }
func (p *parser) product() expr {
	return p.infixes(p.signed, "*", "/", "%", "//")
}

// infixes reads operators of one rank, from the left.
func (p *parser) infixes(part func() expr, ops ...string) expr {
	e := part()
	for t := p.now(); t.class == symbol && slices.Contains(ops, t.text); t = p.now() {
		p.next()
		e = &infix{t.at, t.text, e, part()}
	}
	return e
}

func (p *parser) signed() expr {
	if p.take("-") {
		p.enter()
		defer func() { p.depth-- }()
		return &prefix{"-", p.signed()}
	}
	p.take("+")
	return p.suffixed()
}

// suffixed reads ::TYPE and [i].
func (p *parser) suffixed() expr {
	e := p.primary()
	for {
		at := p.now().at
		switch {
		case p.take("::"):
			e = &cast{at, e, p.typeName()}
		case p.take("["):
			s := &slice{expr: e}
			if !p.peek(":") {
				s.from = p.expr()
			}
			if s.single = !p.take(":"); !s.single && !p.peek("]") {
				s.to = p.expr()
			}
			p.want("]")
			e = s
		default:
			return e
		}
	}
}

// typeName is such as UBIGINT, DECIMAL(38, 0) or VARCHAR[].
func (p *parser) typeName() string {
	s := p.anyName()
	if p.take("[") {
		p.want("]")
		s += "[]"
	}
	return s
}

func (p *parser) primary() expr {
	t := p.now()
	switch t.class {
	case number:
		return &numeral{p.next().text}
	case text:
		return &literal{p.next().text}
	case placeholder:
		p.next()
		n, err := strconv.Atoi(t.text)
		if err != nil || n < 1 || n > 1<<16 {
			p.fail("placeholder $%s", t.text)
		}
		p.params = max(p.params, n)
		return &parameter{t.at, n}
	case symbol:
		switch {
		case p.take("("):
			return p.parentheses()
		case p.take("["):
			l := &list{}
			if !p.peek("]") {
				l.items = p.exprs()
			}
			p.want("]")
			return l
		}
	case word:
		return p.wordly()
	case end:
	}
	p.fail("expected an expression")
	return nil
}

// parentheses hold an expression, a tuple or a query.
func (p *parser) parentheses() expr {
	if p.peek("select") || p.peek("with") {
		q := p.query()
		p.want(")")
		return &subquery{q}
	}
	all := p.exprs()
	p.want(")")
	if len(all) == 1 {
		return all[0]
	}
	return &tuple{all}
}

func (p *parser) wordly() expr {
	t := p.now()
	switch {
	case p.take("null"), p.take("true"), p.take("false"):
		return &constant{strings.ToUpper(t.text)}
	case p.take("case"):
		return p.choice()
	case p.take("cast", "("):
		e := p.expr()
		p.want("as")
		to := p.typeName()
		p.want(")")
		return &cast{t.at, e, to}
	}
	id := p.callOrName()
	if !t.quoted && p.take("(") {
		return p.call(t.at, id)
	}
	if p.take("->") {
		return &lambda{id, p.expr()}
	}
	if p.take(".") {
		return &name{t.at, id, p.anyName()}
	}
	return &name{t.at, "", id}
}

// callOrName is an identifier, or a function whose name is a reserved word.
func (p *parser) callOrName() string {
	if t := p.now(); t.class == word && (t.text == "left" || t.text == "right") && p.tokens[p.i+1].is("(") {
		return p.next().text
	}
	return p.identifier()
}

func (p *parser) choice() expr {
	c := &choice{}
	if !p.peek("when") {
		c.of = p.expr()
	}
	for p.take("when") {
		when := p.expr()
		p.want("then")
		c.whens = append(c.whens, [2]expr{when, p.expr()})
	}
	if p.take("else") {
		c.other = p.expr()
	}
	p.want("end")
	if len(c.whens) == 0 {
		p.fail("CASE without WHEN")
	}
	return c
}

func (p *parser) call(at int, id string) expr {
	c := &call{at: at, name: id}
	if !p.take(")") {
		if c.star = p.take("*"); !c.star {
			c.distinct = p.take("distinct")
			c.args = p.exprs()
		}
		if p.take("order", "by") {
			c.order = p.ordering()
		}
		p.want(")")
	}
	if p.take("filter", "(") {
		p.take("where")
		c.filter = p.expr()
		p.want(")")
	}
	if p.take("over", "(") {
		c.over = &window{}
		if p.take("partition", "by") {
			c.over.by = p.exprs()
		}
		if p.take("order", "by") {
			c.over.order = p.ordering()
		}
		p.want(")")
	}
	return c
}
