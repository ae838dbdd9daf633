package filter

import (
	"encoding/hex"
	"maps"
	"slices"

	"crosstap/internal/nearest"
)

// others are the keywords with arguments of their own.
var others = slices.Concat(common, numberFields, units, named)

// common are those of them that are no words of single link types.
var common = []string{"less", "greater", "byte", "broadcast", "multicast", "inbound", "outbound", "ifindex", "vlan", "mpls", "pppoed",
	"pppoes", "vxlan", "geneve", "llc", "vntag", "etag", "gre", "erspan", "nsh", "payload"}

// words are the other keywords.
var words = []string{"and", "or", "not", "src", "dst", "host", "net", "mask", "netmask", "port", "portrange", "proto", "protochain", "gateway",
	"len", "length", "inner", "outer"}

// keyword reports whether an unescaped word has a meaning of its own.
func keyword(s string) bool {
	if _, ok := protoWords[s]; ok {
		return true
	}
	if _, ok := wlanDirections[s]; ok {
		return true
	}
	return slices.Contains(others, s) || slices.Contains(words, s)
}

// guess returns the keyword that a word was probably meant to be, "" for none.
func guess(s string) string {
	if g := nearest.Of(s, slices.Sorted(maps.Keys(protoWords))); g != "" && g != s {
		return g
	}
	if g := nearest.Of(s, slices.Concat(common, words)); g != "" && g != s {
		return g
	}
	if g := nearest.Of(s, slices.Sorted(maps.Keys(constants))); g != s {
		return g
	}
	return ""
}

// other reads a keyword with its arguments; ok is false when none begins here.
func (p *parser) other() (expr, bool, error) {
	t := p.peek()
	x := &other{span: span{t.pos, t.end - t.pos}}
	if pr, ok := protoWords[t.text]; ok && t.kind == tokWord && !t.escaped && p.peekAt(1).is("broadcast", "multicast", "type", "subtype", "dir", "direction") {
		p.take()
		x.q.proto = pr
		t = p.peek()
	}
	if !t.is(others...) {
		return nil, false, nil
	}
	p.take()
	x.word = t.text
	return x, true, p.arguments(x)
}

func (p *parser) arguments(x *other) error {
	switch x.word {
	case "less", "greater", "ifindex":
		return p.numberArg(x)
	case "vlan", "mpls", "pppoes", "vxlan", "geneve", "etag", "gre", "erspan":
		if p.peek().kind == tokNumber && !p.relational(p.peekAt(1)) {
			return p.numberArg(x)
		}
	case "byte":
		return p.byteArgs(x)
	case "llc":
		if t := p.peek(); t.is("i", "s", "u", "rr", "rnr", "rej") || t.kind == tokWord && llcU[t.text] != 0 {
			x.args = append(x.args, p.take())
		}
	case "vntag":
		for p.peek().is("src", "dst") && p.peekAt(1).kind == tokNumber {
			x.args = append(x.args, p.take())
			x.add(p.take())
		}
	case "payload":
		return p.payloadArgs(x)
	}
	switch {
	case slices.Contains(numberFields, x.word):
		return p.comparisonArgs(x)
	case slices.Contains(named, x.word):
		return p.nameArgs(x)
	}
	return nil
}

// comparisonArgs: [op] N, or "(" N { or N } ")".
func (p *parser) comparisonArgs(x *other) error {
	op := token{kind: tokOp, text: "="}
	if t := p.peek(); p.op("=", "==", "!=", "<", ">", "<=", ">=") {
		op = t
	}
	x.args = append(x.args, op)
	if !p.op("(") {
		return p.numberArg(x)
	}
	for {
		if err := p.numberArg(x); err != nil {
			return err
		}
		if !p.word("or") && !p.op("||") {
			break
		}
	}
	if !p.op(")") {
		return p.unexpected(p.peek(), "or, or a closing parenthesis")
	}
	return nil
}

// nameArgs: a name or a number; "type T" may have "subtype S" behind it.
func (p *parser) nameArgs(x *other) error {
	t := p.take()
	if t.kind != tokWord && t.kind != tokNumber {
		return p.unexpected(t, "a name or a number")
	}
	x.args = append(x.args, t)
	if x.word == "type" && p.word("subtype") {
		return p.nameArgs(x)
	}
	return nil
}

// relational reports whether t makes arithmetic of the number before it.
func (p *parser) relational(t token) bool {
	return t.kind == tokOp && slices.Contains([]string{"=", "==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "|", "^", "<<", ">>"}, t.text)
}

func (p *parser) numberArg(x *other) error {
	t := p.take()
	if t.kind != tokNumber {
		return p.unexpected(t, "a number")
	}
	x.add(t)
	return nil
}

func (x *other) add(number token) {
	x.num = append(x.num, number.num)
	x.nums = append(x.nums, span{number.pos, number.end - number.pos})
}

func (p *parser) byteArgs(x *other) error {
	if err := p.numberArg(x); err != nil {
		return err
	}
	t := p.take()
	if t.kind != tokOp || !slices.Contains([]string{"=", "==", "<", ">", "&", "|"}, t.text) {
		return p.unexpected(t, "one of = < > & |")
	}
	x.args = append(x.args, t)
	return p.numberArg(x)
}

// payloadArgs: "text" | hex DIGITS | regex /…/, the first two with "at N".
func (p *parser) payloadArgs(x *other) error {
	switch t := p.peek(); {
	case t.kind == tokString:
		x.args = append(x.args, p.take())
	case p.word("regex"):
		if t = p.take(); t.kind != tokRegex && t.kind != tokString {
			return p.unexpected(t, "an expression such as /GET .*admin/")
		}
		t.kind = tokRegex
		x.args = append(x.args, t)
		return nil
	case p.word("hex"):
		t = p.take()
		b, err := hex.DecodeString(t.text)
		if err != nil || len(b) == 0 {
			return p.unexpected(t, "an even number of hexadecimal digits")
		}
		t.kind, t.text = tokString, string(b)
		x.args = append(x.args, t)
	default:
		return p.unexpected(t, `"text", hex DIGITS or regex /…/`)
	}
	if p.word("at") {
		return p.numberArg(x)
	}
	return nil
}
