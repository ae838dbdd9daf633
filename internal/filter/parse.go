package filter

import (
	"fmt"
	"slices"
	"strconv"
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
		if s := nearest(t.text); s != "" {
			e.Suggestion = fmt.Sprintf("did you mean %q?", s)
		}
	}
	return e
}

// trailing is the error for what follows a whole expression. The word before it was taken for a host's name and may be
// a keyword spelled wrongly.
func (p *parser) trailing(t token) error {
	if before := p.toks[max(p.i-1, 0)]; before.kind == tokWord && !before.escaped && !keyword(before.text) {
		if s := nearest(before.text); s != "" {
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
	x, err := p.term(false)
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
	first, err := p.term(true)
	if err != nil {
		return nil, err
	}
	x := first
	for {
		t := p.peek()
		and := p.word("and") || p.op("&&")
		if !and && !p.word("or") && !p.op("||") {
			break
		}
		y, err := p.term(true)
		if err != nil {
			return nil, err
		}
		x = &logical{span{t.pos, t.end - t.pos}, and, x, y}
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

// identifier reports whether t can be an identifier rather than a keyword.
func (p *parser) identifier(t token) bool {
	switch t.kind {
	case tokNumber, tokIPv4, tokIPv6, tokMAC, tokAddr8:
		return true
	case tokWord:
		return t.escaped || !keyword(t.text)
	}
	return false
}

// id reads one identifier, or several in parentheses, under the qualifiers q.
func (p *parser) id(q qual) (expr, error) {
	p.last = q
	t := p.peek()
	if p.word("not") || p.op("!") {
		x, err := p.id(q)
		if err != nil {
			return nil, err
		}
		return &negation{span{t.pos, t.end - t.pos}, x}, nil
	}
	if t.kind == tokOp && t.text == "(" {
		if err := p.enter(t); err != nil {
			return nil, err
		}
		defer func() { p.deep-- }()
		return p.parens(true)
	}
	if !p.identifier(t) {
		return nil, p.unexpected(t, q.kind.wants())
	}
	p.take()
	x := &primitive{span: span{t.pos, t.end - t.pos}, q: q, id: t}
	if q.kind != kindPort && q.kind != kindPortRange && (t.kind == tokIPv4 || t.kind == tokNumber || t.kind == tokIPv6) {
		if err := p.mask(x); err != nil {
			return nil, err
		}
	}
	if q.kind == kindPortRange {
		if t := p.peek(); p.op("-") {
			if x.to = p.take(); x.to.kind != tokNumber && x.to.kind != tokWord {
				return nil, p.unexpected(x.to, "the last port of the range")
			}
			x.by = t.text
		}
	}
	return x, nil
}

// mask reads "/LEN" or "mask M" behind a network.
func (p *parser) mask(x *primitive) error {
	switch {
	case p.op("/"):
		x.by = "/"
		if x.to = p.take(); x.to.kind != tokNumber {
			return p.unexpected(x.to, "a prefix length")
		}
	case x.q.kind == kindNet && p.word("mask", "netmask"):
		x.by = "mask"
		if x.to = p.take(); x.to.kind != tokIPv4 {
			return p.unexpected(x.to, "a mask such as 255.255.255.0")
		}
	}
	return nil
}

func (k kind) wants() string {
	switch k {
	case kindPort, kindPortRange:
		return "a port number or a service name"
	case kindProto, kindProtoChain:
		return "a protocol number or an escaped name such as \\tcp"
	case kindNet:
		return "a network such as 10.0.0.0/8"
	}
	return "an address or a name"
}

// qualified: [proto] [dir] [type] identifier, or a protocol alone.
func (p *parser) qualified() (expr, error) {
	start := p.peek()
	var q qual
	if pr, ok := protoWords[start.text]; ok && start.kind == tokWord && !start.escaped {
		q.proto = pr
		p.take()
	}
	q.dir = p.direction()
	switch t := p.peek(); {
	case p.word("host"):
		q.kind = kindHost
	case p.word("net"):
		q.kind = kindNet
	case p.word("port"):
		q.kind = kindPort
	case p.word("portrange"):
		q.kind = kindPortRange
	case q.dir == dirDefault && p.word("gateway"):
		q.kind = kindGateway
	case q.dir == dirDefault && p.word("proto"):
		q.kind = kindProto
	case q.dir == dirDefault && p.word("protochain"):
		q.kind = kindProtoChain
	case q.proto != protoDefault && q.dir == dirDefault && !p.identifier(t) && !(t.kind == tokOp && (t.text == "(" || t.text == "!") || t.is("not")):
		return &bare{span{start.pos, start.end - start.pos}, q.proto}, nil
	case q == qual{}:
		return nil, p.unexpected(t, "a filter term such as host, net, port, tcp or vxlan")
	}
	return p.id(q)
}

// direction: src | dst | src or dst | src and dst, in either order.
func (p *parser) direction() dir {
	t := p.peek()
	if !t.is("src", "dst") {
		return dirDefault
	}
	p.take()
	other := map[string]string{"src": "dst", "dst": "src"}[t.text]
	op := p.peek()
	if p.peekAt(1).is(other) && (op.is("or", "and") || op.kind == tokOp && (op.text == "||" || op.text == "&&")) {
		p.i += 2
		if op.text == "or" || op.text == "||" {
			return dirOr
		}
		return dirAnd
	}
	if t.text == "src" {
		return dirSrc
	}
	return dirDst
}

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
