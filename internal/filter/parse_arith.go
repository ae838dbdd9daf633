package filter

import (
	"slices"
	"strconv"
)

// relation: arith relop arith. ok is false when what follows is not arithmetic.
func (p *parser) relation() (expr, bool, error) {
	start, last := p.i, p.last
	if !p.arithmetic() {
		return nil, false, nil
	}
	l, err := p.arith(0)
	if err != nil {
		if p.sure(start) {
			return nil, false, err
		}
		p.i, p.last = start, last
		return nil, false, nil
	}
	t := p.peek()
	if t.kind != tokOp || !slices.Contains([]string{"=", "==", "!=", "<", ">", "<=", ">="}, t.text) {
		if p.sure(start) {
			return nil, false, p.unexpected(t, "a comparison such as = or >")
		}
		p.i, p.last = start, last
		return nil, false, nil
	}
	p.take()
	r, err := p.arith(0)
	if err != nil {
		return nil, false, err
	}
	op := t.text
	if op == "==" {
		op = "="
	}
	return &relation{span{t.pos, t.end - t.pos}, op, l, r}, true, nil
}

// arithmetic reports whether an arithmetic expression may begin here.
func (p *parser) arithmetic() bool {
	t := p.peek()
	switch t.kind {
	case tokNumber:
		return true
	case tokOp:
		return t.text == "(" || t.text == "-"
	case tokWord:
		if t.escaped {
			return false
		}
		if _, ok := constants[t.text]; ok || t.text == "len" || t.text == "length" {
			return true
		}
		_, ok := protoWords[t.text]
		next := p.peekAt(1)
		return ok && next.kind == tokOp && next.text == "["
	}
	return false
}

// sure reports whether what begins at token i can only be arithmetic.
func (p *parser) sure(i int) bool {
	t := p.toks[i]
	next := p.toks[min(i+1, len(p.toks)-1)]
	return t.kind == tokWord && (t.text == "len" || t.text == "length" || next.text == "[") || t.kind == tokOp && t.text == "-"
}

var arithLevels = [][]string{{"|", "&", "^"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}

// arith reads operators of this level of precedence and above.
func (p *parser) arith(lvl int) (arith, error) {
	if lvl == len(arithLevels) {
		return p.factor()
	}
	l, err := p.arith(lvl + 1)
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		if !p.op(arithLevels[lvl]...) {
			return l, nil
		}
		r, err := p.arith(lvl + 1)
		if err != nil {
			return nil, err
		}
		l = &operation{span{t.pos, t.end - t.pos}, t.text, l, r}
	}
}

func (p *parser) factor() (arith, error) {
	t := p.take()
	at := span{t.pos, t.end - t.pos}
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer func() { p.deep-- }()
	switch {
	case t.kind == tokNumber:
		return &number32{at, t.num}, nil
	case t.is("len", "length"):
		return &packetLen{at}, nil
	case t.kind == tokOp && t.text == "-":
		x, err := p.factor()
		return &minus{at, x}, err
	case t.kind == tokOp && t.text == "(":
		x, err := p.arith(0)
		if err == nil && !p.op(")") {
			err = p.unexpected(p.peek(), "a closing parenthesis")
		}
		return x, err
	case t.kind == tokWord && !t.escaped:
		if v, ok := constants[t.text]; ok {
			return &number32{at, v}, nil
		}
		if pr, ok := protoWords[t.text]; ok {
			return p.index(t, pr)
		}
	}
	return nil, p.unexpected(t, "a number, len, or bytes such as ip[9]")
}

// index: proto "[" arith [ ":" size ] "]"
func (p *parser) index(t token, pr proto) (arith, error) {
	if !p.op("[") {
		return nil, p.unexpected(p.peek(), "an opening bracket")
	}
	off, err := p.arith(0)
	if err != nil {
		return nil, err
	}
	x := &index{span{t.pos, t.end - t.pos}, pr, off, 1}
	if p.op(":") {
		n := p.take()
		if n.kind != tokNumber {
			return nil, p.unexpected(n, "the number of bytes: 1, 2 or 4")
		}
		if x.size = n.num; x.size != 1 && x.size != 2 && x.size != 4 {
			return nil, &Error{Pos: n.pos, Len: n.end - n.pos, Message: "data size must be 1, 2, or 4, not " + strconv.Itoa(int(n.num))}
		}
	}
	if !p.op("]") {
		return nil, p.unexpected(p.peek(), "a closing bracket")
	}
	return x, nil
}
