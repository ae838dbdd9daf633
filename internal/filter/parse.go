package filter

import (
	"fmt"
	"slices"
)

// parser is a recursive-descent parser of the pcap-filter grammar. "and" and "or" have the same
// precedence; an identifier without qualifiers takes those of the identifier before it.
type parser struct {
	toks []token
	i    int
	last qual // of the nearest identifier to the left
	deep int
}

const maxDepth = 200

func parse(text string) (expr, error) {
	toks, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	if p.peek().kind == tokEnd {
		return nil, nil
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, p.trailing(t)
	}
	return x, nil
}

func (p *parser) peek() token { return p.toks[p.i] }

func (p *parser) peekAt(n int) token { return p.toks[min(p.i+n, len(p.toks)-1)] }

func (p *parser) take() token {
	t := p.toks[p.i]
	if t.kind != tokEnd {
		p.i++
	}
	return t
}

// op takes the operator if it is next.
func (p *parser) op(text ...string) bool {
	t := p.peek()
	if t.kind == tokOp && slices.Contains(text, t.text) {
		p.i++
		return true
	}
	return false
}

// is reports whether t is one of these keywords.
func (t token) is(words ...string) bool {
	return t.kind == tokWord && !t.escaped && slices.Contains(words, t.text)
}

// word takes the keyword if it is next.
func (p *parser) word(words ...string) bool {
	if p.peek().is(words...) {
		p.i++
		return true
	}
	return false
}

func (p *parser) unexpected(t token, want string) error {
	e := &Error{Pos: t.pos, Len: max(t.end-t.pos, 1), Message: fmt.Sprintf("%q is not expected", t.text), Suggestion: "expected " + want}
	if t.kind == tokEnd {
		e.Message = "the expression ends too early"
	}
	if t.kind == tokWord && !t.escaped {
		if s := guess(t.text); s != "" {
			e.Suggestion = fmt.Sprintf("did you mean %q?", s)
		}
	}
	return e
}

// trailing is the error for what follows a whole expression. The word before it was taken for a host's name and may be
// a keyword spelled wrongly.
func (p *parser) trailing(t token) error {
	if before := p.toks[max(p.i-1, 0)]; before.kind == tokWord && !before.escaped && !keyword(before.text) {
		if s := guess(before.text); s != "" {
			return &Error{Pos: before.pos, Len: before.end - before.pos, Message: fmt.Sprintf("%q is not expected", before.text), Suggestion: fmt.Sprintf("did you mean %q?", s)}
		}
	}
	return p.unexpected(t, "and, or, or the end")
}

func (p *parser) enter(t token) error {
	if p.deep++; p.deep > maxDepth {
		return &Error{Pos: t.pos, Len: 1, Message: fmt.Sprintf("more than %d levels of nesting", maxDepth)}
	}
	return nil
}

// expr: term { (and|or) (term | identifier) }
func (p *parser) expr() (expr, error) {
	if err := p.enter(p.peek()); err != nil {
		return nil, err
	}
	defer func() { p.deep-- }()
	return p.terms(false)
}

// terms reads terms joined by and and or. With again set the first, too, may be an identifier alone.
func (p *parser) terms(again bool) (expr, error) {
	x, err := p.term(again)
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		and := p.word("and") || p.op("&&")
		if !and && !p.word("or") && !p.op("||") {
			return x, nil
		}
		y, err := p.term(true)
		if err != nil {
			return nil, err
		}
		x = &logical{span{t.pos, t.end - t.pos}, and, x, y}
	}
}

// term: [not] primary. With again set an identifier alone repeats the last qualifiers.
func (p *parser) term(again bool) (expr, error) {
	t := p.peek()
	if p.word("not") || p.op("!") {
		if err := p.enter(t); err != nil {
			return nil, err
		}
		defer func() { p.deep-- }()
		x, err := p.term(again)
		if err != nil {
			return nil, err
		}
		return &negation{span{t.pos, t.end - t.pos}, x}, nil
	}
	return p.primary(again)
}

func (p *parser) primary(again bool) (expr, error) {
	t := p.peek()
	if x, ok, err := p.relation(); ok || err != nil {
		return x, err
	}
	if t.kind == tokOp && t.text == "(" {
		return p.parens(again)
	}
	if t.is("inner", "outer") {
		return p.level()
	}
	if x, ok, err := p.other(); ok || err != nil {
		return x, err
	}
	if p.identifier(t) {
		if !again {
			p.last = qual{}
		}
		return p.id(p.last)
	}
	return p.qualified()
}

// parens: "(" expr ")", or identifiers that share the qualifiers before the parenthesis.
func (p *parser) parens(again bool) (expr, error) {
	open := p.take()
	if !again {
		p.last = qual{}
	}
	x, err := p.terms(true)
	if err != nil {
		return nil, err
	}
	if !p.op(")") {
		return nil, p.unexpected(p.peek(), fmt.Sprintf("a closing parenthesis for column %d", open.pos+1))
	}
	return x, nil
}

func (p *parser) level() (expr, error) {
	t := p.take()
	x, err := p.term(false)
	if err != nil {
		return nil, err
	}
	return &level{span{t.pos, t.end - t.pos}, t.text == "inner", x}, nil
}
