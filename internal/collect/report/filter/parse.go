package filter

import (
	"strings"
)

// parser is a recursive-descent parser with the precedence of SQL: not, and, or.
type parser struct {
	tokens  []token
	i       int
	depth   int
	terms   int
	open    int // parentheses
	before  qualifier
	omitted []omission // by position
}

func (p *parser) peek() token { return p.tokens[p.i] }

// look returns the token n places on.
func (p *parser) look(n int) token { return p.tokens[min(p.i+n, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.tokens[p.i]
	if t.kind != tEnd {
		p.i++
	}
	return t
}

// end is the end of the last token taken.
func (p *parser) end() int {
	if p.i == 0 {
		return 0
	}
	return p.tokens[p.i-1].end
}

func fail(t token, message, suggestion string) error {
	return &Error{Pos: t.pos, Len: t.end - t.pos, Message: message, Suggestion: suggestion}
}

// unexpected complains about the next token.
func (p *parser) unexpected(want string) error {
	t := p.peek()
	switch {
	case t.kind == tEnd:
		return fail(t, "the filter ends too early", want+" is expected")
	case t.kind == tRight && p.open == 0:
		return fail(t, `unexpected ")"`, "there is no open parenthesis")
	}
	return fail(t, "unexpected "+quote(t.text), want+" is expected")
}

// enter bounds depth and size.
func (p *parser) enter() error {
	p.depth++
	p.terms++
	if p.depth > maxDepth {
		return fail(p.peek(), "parentheses and nots are nested too deeply", "100 levels at most")
	}
	if p.terms > maxTerms {
		return fail(p.peek(), "the filter has too many parts", "2000 at most; use a list: field in (…)")
	}
	return nil
}

func (p *parser) or() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	first, err := p.and()
	if err != nil || !p.peek().is("or") {
		return first, err
	}
	pos, _ := first.at()
	terms := []node{first}
	for p.peek().is("or") {
		p.take()
		n, err := p.and()
		if err != nil {
			return nil, err
		}
		terms = append(terms, n)
	}
	return &orNode{span{pos, p.end()}, terms}, nil
}

func (p *parser) and() (node, error) {
	first, err := p.not()
	if err != nil || !p.andFollows() {
		return first, err
	}
	pos, _ := first.at()
	terms := []node{first}
	for p.andFollows() {
		if p.peek().is("and") {
			p.take()
		}
		n, err := p.not()
		if err != nil {
			return nil, err
		}
		terms = append(terms, n)
	}
	return &andNode{span{pos, p.end()}, terms}, nil
}

// andFollows: "and", or a pcap word right after a bare protocol, as in "tcp port 80".
func (p *parser) andFollows() bool {
	if p.peek().is("and") {
		return true
	}
	return p.i > 0 && p.tokens[p.i-1].kind == tWord && bareProtocols[strings.ToLower(p.tokens[p.i-1].text)] && p.pcapStarts()
}

func (p *parser) not() (node, error) {
	t := p.peek()
	if !t.is("not") && t.kind != tBang {
		return p.primary()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	p.take()
	n, err := p.not()
	if err != nil {
		return nil, err
	}
	return &notNode{span{t.pos, p.end()}, n}, nil
}

func (p *parser) primary() (node, error) {
	t := p.peek()
	switch {
	case t.kind == tLeft:
		return p.parenthesis()
	case t.is(history) && !p.look(1).operator():
		return p.newWithin()
	case t.kind == tWord && p.pcapStarts():
		return p.pcap()
	case p.repeats():
		return p.again()
	case t.kind == tWord:
		return p.comparison()
	case t.kind == tString:
		return nil, fail(t, "a field is expected before the text "+quote(t.text), `such as vm = "`+t.text+`"`)
	}
	return nil, p.unexpected("a field or a pcap word")
}

// newWithin: "new within 24h", a pair that was not seen before that.
func (p *parser) newWithin() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	t := p.take()
	within := p.take()
	if !within.is("within") {
		hint := "such as new within 24h"
		if nearestTo(within.text, []string{"within"}) != "" {
			hint = `did you mean "within"?`
		}
		return nil, fail(within, `"within" is expected after "new"`, hint)
	}
	v, err := p.single(within, Lookup("duration"), "=", within)
	if err != nil {
		return nil, err
	}
	ms := v.(*compare).values[0].lo
	if ms == 0 || ms > maxNewMS {
		pos, end := v.at()
		return nil, fail(token{pos: within.end, end: max(end, pos)}, "pairs are new for 1 ms to 400 days", "such as new within 24h")
	}
	return &newPair{span{t.pos, p.end()}, ms}, nil
}

// maxNewMS is the longest time for which a pair can be called new.
const maxNewMS = 400 * 86400e3

func (p *parser) parenthesis() (node, error) {
	open := p.take()
	p.open++
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	p.open--
	p.before = qualifier{}
	if p.peek().kind != tRight {
		if p.peek().kind == tEnd {
			return nil, fail(open, "the parenthesis is not closed", `add ")"`)
		}
		return nil, p.unexpected(`"and", "or" or ")"`)
	}
	p.take()
	return n, nil
}
