package policy

import (
	"fmt"
	"strings"
)

// Limits of an expression.
const (
	maxExpr  = 64 << 10
	maxDepth = 100
)

// token is a word of an expression: kind 'w' a word, 's' a quoted string, else the operator's first byte; 0 at the end.
type exprToken struct {
	kind byte
	text string
	pos  int
}

type exprParser struct {
	text  string
	toks  []exprToken
	at    int
	depth int
}

func parseExpr(text string) (node, error) {
	if len(text) > maxExpr {
		return nil, fmt.Errorf("expression of %d bytes, the limit is %d", len(text), maxExpr)
	}
	p := &exprParser{text: text}
	if err := p.lex(); err != nil {
		return nil, err
	}
	n, err := p.or()
	if err == nil && p.peek().kind != 0 {
		err = p.fail(p.peek(), "expected and, or, or the end")
	}
	return n, err
}

func (p *exprParser) fail(t exprToken, format string, args ...any) error {
	got := "the end"
	if t.kind != 0 {
		got = fmt.Sprintf("%q", t.text)
	}
	return fmt.Errorf("column %d, at %s: %s", t.pos+1, got, fmt.Sprintf(format, args...))
}

// lex cuts the text into tokens.
func (p *exprParser) lex() error {
	for i := 0; i < len(p.text); {
		switch c := p.text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '"' || c == '\'':
			end := strings.IndexByte(p.text[i+1:], c)
			if end < 0 {
				return fmt.Errorf("column %d: the string has no end", i+1)
			}
			p.toks = append(p.toks, exprToken{'s', p.text[i+1 : i+1+end], i})
			i += end + 2
		case c == '(' || c == ')' || c == ',' || c == '=' || c == '~':
			n := 1
			if c == '=' && strings.HasPrefix(p.text[i:], "==") {
				n = 2
			}
			p.toks = append(p.toks, exprToken{c, p.text[i : i+1], i})
			i += n
		case strings.HasPrefix(p.text[i:], "!="):
			p.toks = append(p.toks, exprToken{'!', "!=", i})
			i += 2
		default:
			n := strings.IndexAny(p.text[i:], " \t\r\n()=,~\"'!")
			if n < 0 {
				n = len(p.text) - i
			}
			if n == 0 {
				return fmt.Errorf("column %d: unexpected %q", i+1, c)
			}
			p.toks = append(p.toks, exprToken{'w', p.text[i : i+n], i})
			i += n
		}
	}
	p.toks = append(p.toks, exprToken{pos: len(p.text)})
	return nil
}

func (p *exprParser) peek() exprToken { return p.toks[p.at] }

func (p *exprParser) next() exprToken {
	t := p.toks[p.at]
	if t.kind != 0 {
		p.at++
	}
	return t
}

// word takes the next token when it is that word.
func (p *exprParser) word(w string) bool {
	if t := p.peek(); t.kind == 'w' && strings.EqualFold(t.text, w) {
		p.at++
		return true
	}
	return false
}

func (p *exprParser) or() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.peek(), "more than %d nested parts", maxDepth)
	}
	defer func() { p.depth-- }()
	n, err := p.and()
	any := disjunction{n}
	for err == nil && p.word("or") {
		n, err = p.and()
		any = append(any, n)
	}
	if len(any) == 1 {
		return any[0], err
	}
	return any, err
}

func (p *exprParser) and() (node, error) {
	n, err := p.not()
	all := conjunction{n}
	for err == nil && p.word("and") {
		n, err = p.not()
		all = append(all, n)
	}
	if len(all) == 1 {
		return all[0], err
	}
	return all, err
}

func (p *exprParser) not() (node, error) {
	negate := false
	for p.word("not") {
		negate = !negate
	}
	var n node
	var err error
	if p.peek().kind == '(' {
		p.next()
		if n, err = p.or(); err == nil && p.next().kind != ')' {
			err = p.fail(p.toks[max(p.at-1, 0)], "expected )")
		}
	} else {
		n, err = p.test()
	}
	if negate {
		n = negation{n}
	}
	return n, err
}

func (p *exprParser) test() (node, error) {
	f := p.next()
	if f.kind != 'w' {
		return nil, p.fail(f, "expected a field: vm, tenant, segment, host, tag.KEY …")
	}
	negate := p.word("not")
	op := p.next()
	word := strings.ToLower(op.text)
	switch {
	case op.kind == 'w' && word == "in":
		n, err := p.list(f)
		if negate {
			n = negation{n}
		}
		return n, err
	case op.kind == 'w' && word == "like":
	case negate:
		return nil, p.fail(op, "expected like or in after not")
	case op.kind == '=' || op.kind == '~':
	case op.kind == '!':
		word, negate = "=", true
	default:
		return nil, p.fail(op, "expected =, !=, like, ~ or in")
	}
	n, err := p.compare(f, word)
	if negate {
		n = negation{n}
	}
	return n, err
}

// list reads "(value, …)", or one value without them.
func (p *exprParser) list(f exprToken) (node, error) {
	if p.peek().kind != '(' {
		return p.compare(f, "=")
	}
	p.next()
	var any disjunction
	for {
		n, err := p.compare(f, "=")
		if err != nil {
			return nil, err
		}
		any = append(any, n)
		switch t := p.next(); t.kind {
		case ',':
		case ')':
			return any, nil
		default:
			return nil, p.fail(t, "expected , or )")
		}
	}
}

func (p *exprParser) compare(f exprToken, op string) (node, error) {
	v := p.next()
	if v.kind != 'w' && v.kind != 's' {
		return nil, p.fail(v, "expected a value")
	}
	n, err := comparison(f.text, op, v.text)
	if err != nil {
		return nil, fmt.Errorf("column %d: %w", f.pos+1, err)
	}
	return n, nil
}
