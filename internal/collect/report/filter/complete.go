package filter

import (
	"maps"
	"slices"
	"strings"
)

// Hint is what may stand at a place of an expression. Options replace the text between From and To.
// When Field is set, values of that field may stand there too, those that begin with Prefix; the caller
// looks them up.
type Hint struct {
	From, To int
	Prefix   string
	Options  []Option
	Field    *Field
}

// Option is one proposal.
type Option struct {
	Text string `json:"text"`
	Kind string `json:"kind"` // field, operator, keyword, value
	Doc  string `json:"doc"`
}

// place is what is expected next.
type place uint8

const (
	atStart    place = iota // a field, a pcap word, not, (
	atOperator              // after a field
	atValue                 // after an operator, or in a list
	atListOpen              // after in
	atListNext              // after a value in a list
	atJoin                  // after a whole comparison
	atWithin                // after new
	atEither                // after host, port or vlan: an operator, or a value as in pcap filters
	atEnd                   // after src or dst: host, net, port or portrange
	atProtocol              // after a protocol that stands alone: pcap words may follow
	atSegment               // after vxlan, geneve, …: perhaps a number
)

// Complete says what may stand at byte offset pos. It never fails: an expression that is wrong before
// that place gets proposals as far as it was understood.
func Complete(text string, pos int) Hint {
	pos = min(max(pos, 0), len(text))
	head := text[:pos]
	tokens, err := lex(head)
	if err != nil { // an open quote: complete inside it
		return completeQuoted(head, err.Pos)
	}
	h := Hint{From: pos, To: pos}
	tokens = tokens[:len(tokens)-1]
	if n := len(tokens); n > 0 && tokens[n-1].kind == tWord && tokens[n-1].end == pos {
		h.From, h.Prefix = tokens[n-1].pos, tokens[n-1].text
		tokens = tokens[:n-1]
	}
	for h.To < len(text) && wordByte(text[h.To]) {
		h.To++
	}
	if n := len(tokens); n > 0 && h.From == pos && tokens[n-1].kind == tBang && tokens[n-1].end == pos { // the first half of an operator
		if at, _ := walk(tokens[:n-1]); at == atOperator {
			h.From, h.Prefix, tokens = tokens[n-1].pos, "!", tokens[:n-1]
		}
	}
	h.fill(walk(tokens))
	return h
}

// completeQuoted proposes values after an open quote.
func completeQuoted(head string, quotePos int) Hint {
	h := Hint{From: quotePos, To: len(head)}
	if quotePos >= len(head) || head[quotePos] != '"' && head[quotePos] != '\'' {
		return h
	}
	tokens, err := lex(head[:quotePos])
	if err != nil {
		return h
	}
	at, field := walk(tokens[:len(tokens)-1])
	h.Prefix = head[quotePos+1:]
	if at == atValue || at == atEither {
		h.values(field)
	}
	return h
}

// walk follows whole tokens and says what is expected after them.
func walk(tokens []token) (place, *Field) {
	at, field := atStart, (*Field)(nil)
	for i, t := range tokens {
		p := parser{tokens: append(slices.Clone(tokens[i:]), token{kind: tEnd})}
		switch at {
		case atStart:
			at, field = afterStart(&p, t)
		case atEnd:
			at, field = afterEnd(t, tokens[i-1].text)
		case atProtocol:
			if at = atStart; !t.is("and") && !t.is("or") {
				at, field = afterStart(&p, t)
			}
			if at == atEither {
				at = atValue // no field's name may follow
			}
		case atSegment:
			if at = atJoin; t.is("and") || t.is("or") {
				at = atStart
			}
		case atOperator:
			switch {
			case t.is("in"):
				at = atListOpen
			case !t.is("not"):
				at = atValue
			}
		case atWithin:
			at, field = atValue, nil
		case atListOpen:
			at = atJoin
			if t.kind == tLeft {
				at = atValue
			}
		case atValue:
			if t.kind == tLeft {
				continue // host (a or b)
			}
			at = atJoin
			if inList(tokens[:i]) {
				at = atListNext
			}
		case atListNext:
			at = atValue
			if t.kind == tRight {
				at = atJoin
			}
		case atJoin:
			if t.is("and") || t.is("or") {
				at, field = atStart, nil
			}
		}
	}
	return at, field
}

// afterStart: what follows a token that begins a comparison.
func afterStart(p *parser, t token) (place, *Field) {
	word := strings.ToLower(t.text)
	switch {
	case t.kind != tWord || t.is("not"):
		return atStart, nil
	case t.is(history):
		return atWithin, nil
	case p.look(1).kind == tEnd && (word == "host" || word == "port" || word == "vlan"):
		return atEither, pcapField(word)
	case !p.pcapStarts():
	case word == "src" || word == "dst":
		return atEnd, nil
	case word == "host" || word == "port" || word == "vlan" || word == "net" || word == "portrange":
		return atValue, pcapField(word)
	case segmentWords[word] != 0:
		return atSegment, Lookup("vni")
	case Lookup(word) == nil:
		return atProtocol, nil
	}
	return atOperator, Lookup(word)
}

// pcapField is the field whose values a pcap word takes: names of machines after host, addresses after net.
func pcapField(word string) *Field {
	switch word {
	case "host":
		return Lookup("vm")
	case "net":
		return Lookup("ip")
	case "portrange":
		return Lookup("port")
	}
	return Lookup(word)
}

// afterEnd: what follows the word after src or dst.
func afterEnd(t token, end string) (place, *Field) {
	word := strings.ToLower(t.text)
	if !slices.Contains(endWords, word) {
		return atJoin, nil // an address
	}
	return atValue, Lookup(strings.ToLower(end) + "." + pcapField(word).Name)
}

// endWords may stand after src and dst, protocolWords after a protocol too.
var (
	endWords      = []string{"host", "net", "port", "portrange"}
	protocolWords = []string{"port", "portrange", "host", "net", "src", "dst"}
)

// inList reports whether the tokens end inside the parentheses of a list.
func inList(tokens []token) bool {
	for i := len(tokens) - 1; i > 0; i-- {
		switch tokens[i].kind {
		case tLeft:
			return tokens[i-1].is("in")
		case tRight, tOp:
			return false
		case tWord, tString, tComma, tBang, tEnd:
		}
	}
	return false
}

// fill adds the proposals that fit the prefix.
func (h *Hint) fill(at place, field *Field) {
	switch at {
	case atStart:
		for i := range fields {
			h.add(fields[i].Name, "field", fields[i].Doc)
		}
		for _, w := range pcapNames {
			if Lookup(w) == nil {
				h.add(w, "keyword", pcapDoc)
			}
		}
		h.add("not", "keyword", "")
	case atOperator:
		if field == nil {
			return
		}
		h.operators(field)
	case atEither:
		named := field
		if field == Lookup("vm") { // the field of the same name has another meaning
			named = Lookup("host")
		}
		h.operators(named)
		h.values(field)
		if h.Prefix != "" && h.Prefix[0] >= '0' && h.Prefix[0] <= '9' && named != field {
			h.Field = Lookup("ip")
		}
	case atEnd:
		h.words(endWords)
	case atProtocol:
		h.add("and", "keyword", "")
		h.add("or", "keyword", "")
		h.words(protocolWords)
	case atSegment:
		h.add("and", "keyword", "")
		h.add("or", "keyword", "")
		h.Field = field
	case atListOpen:
		h.add("(", "keyword", "list of values")
		h.Field = field
	case atValue:
		h.values(field)
	case atListNext:
		h.add(",", "keyword", "")
		h.add(")", "keyword", "")
	case atWithin:
		h.add("within", "keyword", "pairs that were not seen before")
	case atJoin:
		h.add("and", "keyword", "")
		h.add("or", "keyword", "")
	}
}

func (h *Hint) operators(field *Field) {
	for _, op := range Operators(field) {
		h.add(op, "operator", "")
	}
}

// words adds words of pcap filters.
func (h *Hint) words(all []string) {
	for _, w := range all {
		h.add(w, "keyword", pcapDoc)
	}
}

const pcapDoc = "as in pcap filters"

// values adds the names that a field's values can have; others are for the caller to look up.
func (h *Hint) values(field *Field) {
	h.Field = field
	if field == nil {
		return
	}
	table := field.Names
	switch field.Kind {
	case Proto:
		table = protocols
	case Bool:
		table = map[string]uint64{"true": 1, "false": 0}
	case Port:
		table = nil
		if h.Prefix != "" && (h.Prefix[0] < '0' || h.Prefix[0] > '9') {
			table = services
		}
	case Text, Addr, MAC, Number, Bytes, Duration, VNI, Segment, Enum, Flag, ID, Micros:
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		h.add(name, "value", "")
	}
	if field.Name == seenBy {
		for _, name := range []string{"agent", "port", "mirror", "tunnel", "underlay"} {
			h.add(name, "value", "role of an observer")
		}
	}
}

func (h *Hint) add(text, kind, doc string) {
	if strings.HasPrefix(strings.ToLower(text), strings.ToLower(h.Prefix)) {
		h.Options = append(h.Options, Option{text, kind, doc})
	}
}

// Quoted writes a value so that it reads back as itself: in quotes when it must be.
func Quoted(f *Field, s string) string {
	if f.Kind != Text {
		return s
	}
	for i := range len(s) {
		if !wordByte(s[i]) {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		}
	}
	t := token{kind: tWord, text: s}
	if s == "" || Lookup(s) != nil || meantAsField(t) || t.is("and") || t.is("or") || t.is("not") || strings.HasPrefix(s, "--") || strings.HasPrefix(s, "/*") {
		return `"` + s + `"`
	}
	return s
}
