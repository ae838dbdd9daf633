package filter

import (
	"maps"
	"slices"
	"strings"
)

// comparison: field [not] op value.
func (p *parser) comparison() (node, error) {
	t := p.take()
	p.before = qualifier{}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	f, err := fieldOf(t)
	if err != nil {
		return nil, err
	}
	if f.Kind == Bool && !p.peek().operator() {
		return &compare{span{t.pos, p.end()}, f, "=", []value{{lo: 1, hi: 1}}}, nil
	}
	negate := false
	if p.peek().is("not") {
		negate = true
		p.take()
	}
	n, err := p.operation(t, f, negate)
	if err != nil {
		return nil, err
	}
	if negate {
		return &notNode{span{t.pos, p.end()}, n}, nil
	}
	return n, nil
}

// fieldOf finds the field or says which one may be meant.
func fieldOf(t token) (*Field, error) {
	if f := Lookup(t.text); f != nil {
		return f, nil
	}
	name := strings.ToLower(t.text)
	if name == history {
		return nil, fail(t, `"within" is expected after "new"`, "such as new within 24h")
	}
	if name == "and" || name == "or" || slices.Contains(wordOperators, name) {
		return nil, fail(t, "a field or a pcap word is expected before "+quote(t.text), "")
	}
	if hint, ok := notRecorded[name]; ok {
		return nil, fail(t, "there is no field "+quote(t.text), hint)
	}
	if _, err := parseAddr(t.text); err == nil && nearestField(t.text) == "" {
		return nil, fail(t, "a field is expected before the address", "such as ip = "+t.text+" or host "+t.text)
	}
	return nil, noField(t, "")
}

// nearestField gives the field or pcap word most like a name, "" when none is near.
func nearestField(name string) string {
	return nearestTo(name, slices.Concat(slices.Sorted(maps.Keys(byName)), pcapNames))
}

// noField complains about a name that is no field's; more is added to the suggestion.
func noField(t token, more string) error {
	if near := nearestField(t.text); near != "" {
		return fail(t, "there is no field "+quote(t.text), `did you mean "`+near+`"?`+more)
	}
	return fail(t, "there is no field "+quote(t.text), "fields: vm, ip, port, tenant, vni, app, proto, vtep, host, …"+more)
}

// meantAsField reports whether a word where a value may stand names an end of the conversation or the outer header, as fields do.
func meantAsField(t token) bool {
	if t.kind != tWord || Lookup(t.text) != nil {
		return false
	}
	before, _, dotted := strings.Cut(strings.ToLower(t.text), ".")
	return dotted && (before == "src" || before == "dst" || before == "outer")
}

var wordOperators = []string{"in", "like", "ilike", "has", "not"}

// operation reads the operator and what it compares with; name is the field's token.
func (p *parser) operation(name token, f *Field, negated bool) (node, error) {
	t := p.peek()
	switch {
	case t.is("in"):
		p.take()
		return p.list(name, f)
	case t.is("like"), t.is("ilike"):
		p.take()
		return p.pattern(name, f, strings.ToLower(t.text), t)
	case t.is("has") && f.Kind == Flag:
		p.take()
		return p.single(name, f, "=", t)
	case t.kind == tOp && !negated:
		p.take()
		return p.relation(name, f, t)
	case negated:
		return nil, p.unexpected(`"in" or "like"`)
	case t.kind == tEnd:
		return nil, fail(t, "an operator is expected after "+quote(name.text), operatorsOf(f))
	}
	return nil, fail(t, "an operator is expected instead of "+quote(t.text), operatorsOf(f))
}

// operatorsOf lists what a field can be compared with.
func operatorsOf(f *Field) string { return "operators: " + strings.Join(Operators(f), " ") }

// Operators lists the operators of a field, the usual one first.
func Operators(f *Field) []string {
	switch f.Kind {
	case Text:
		return []string{"=", "!=", "like", "ilike", "in", "not in", "~", "!~"}
	case Number, Port, Bytes, Duration, Micros:
		return []string{"=", "!=", ">", ">=", "<", "<=", "in", "not in"}
	case VNI:
		return []string{"=", "!=", "in", "not in", ">", ">=", "<", "<="}
	case Flag:
		return []string{"=", "!=", "has", "in", "not in"}
	case Addr, MAC, Segment, Proto, Enum, ID, Bool:
	}
	return []string{"=", "!=", "in", "not in"}
}

// relation: = != < <= > >= ~ !~ and a value or another field.
func (p *parser) relation(name token, f *Field, op token) (node, error) {
	text := op.text
	negate := strings.HasPrefix(text, "!")
	if negate {
		if text = text[1:]; text == "=" || text == "~" {
			op.text = text
		}
	}
	if !slices.Contains(Operators(f), text) {
		return nil, fail(op, quote(op.text)+" does not go with "+quote(f.Name), operatorsOf(f))
	}
	var n node
	var err error
	switch right := p.peek(); {
	case text == "~":
		n, err = p.pattern(name, f, "~", op)
	case right.kind == tWord && Lookup(right.text) != nil && !isValueOf(f, right.text):
		n, err = p.fieldRelation(name, f, text, negate)
		return n, err
	default:
		n, err = p.single(name, f, text, op)
	}
	if err != nil || !negate {
		return n, err
	}
	return &notNode{span{name.pos, p.end()}, n}, nil
}

// isValueOf: some names of fields are also values, such as "port" of role and "in" of direction.
func isValueOf(f *Field, word string) bool {
	_, ok := f.Names[strings.ToLower(word)]
	return ok
}

// fieldRelation: field op field.
func (p *parser) fieldRelation(name token, left *Field, op string, negate bool) (node, error) {
	t := p.take()
	right := Lookup(t.text)
	for _, side := range []struct {
		t token
		f *Field
	}{{name, left}, {t, right}} {
		if side.f.Either() {
			return nil, fail(side.t, quote(side.f.Name)+" stands for both ends and cannot be compared with a field",
				"write src."+side.f.Name+" or dst."+side.f.Name+`; text goes in quotes: "`+t.text+`"`)
		}
		if side.f.Name == seenBy {
			return nil, fail(side.t, "seen_by cannot be compared with a field", "use observer")
		}
	}
	if left.comparable() != right.comparable() {
		return nil, fail(t, quote(left.Name)+" and "+quote(right.Name)+" are of different kinds", `text goes in quotes: "`+t.text+`"`)
	}
	if negate {
		op = "!" + op
	}
	return &compareFields{span{name.pos, p.end()}, left, right, op}, nil
}

// comparable groups the kinds that can be compared with each other.
func (f *Field) comparable() Kind {
	switch f.Kind {
	case Port, Bytes, Duration, VNI, Proto, Enum, ID:
		return Number
	case Text, Addr, MAC, Number, Segment, Flag, Bool, Micros:
	}
	return f.Kind
}

// single: one value.
func (p *parser) single(name token, f *Field, op string, opToken token) (node, error) {
	if k := p.peek().kind; k != tWord && k != tString {
		if k == tEnd {
			return nil, fail(p.peek(), "a value is expected after "+quote(opToken.text), example(f))
		}
		return nil, p.unexpected("a value")
	}
	v, err := p.value(f)
	if err != nil {
		return nil, err
	}
	if v.lo != v.hi && op != "=" {
		return nil, fail(p.tokens[p.i-1], "a range has no order", "use = or in")
	}
	return &compare{span{name.pos, p.end()}, f, op, []value{v}}, nil
}

// list: (value, …), or one value or range without parentheses.
func (p *parser) list(name token, f *Field) (node, error) {
	if p.peek().kind != tLeft {
		n, err := p.single(name, f, "=", token{text: "in"})
		return n, err
	}
	open := p.take()
	var values []value
	for {
		if k := p.peek().kind; k == tRight && len(values) == 0 {
			return nil, fail(p.peek(), "the list is empty", example(f))
		} else if k != tWord && k != tString {
			if k == tEnd {
				return nil, fail(open, "the list is not closed", `add ")"`)
			}
			return nil, p.unexpected("a value")
		}
		v, err := p.value(f)
		if err != nil {
			return nil, err
		}
		if p.terms++; p.terms > maxTerms {
			return nil, fail(p.peek(), "the filter has too many values", "2000 at most")
		}
		values = append(values, v)
		switch t := p.take(); t.kind {
		case tComma:
		case tRight:
			return &compare{span{name.pos, p.end()}, f, "in", values}, nil
		case tEnd:
			return nil, fail(open, "the list is not closed", `add ")"`)
		default:
			return nil, fail(t, "unexpected "+quote(t.text)+" in a list", "values are separated by commas")
		}
	}
}
