package dialect

import (
	"slices"
	"strconv"
	"strings"
)

// Expressions, from the operators that bind least to those that bind most.

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

func (p *parser) sum() expr { return p.infixes(p.product, "+", "-") }

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
