package filter

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// kind is the kind of a token.
type kind uint8

const (
	tEnd    kind = iota
	tWord        // name, number, address, prefix: what stands between blanks and operators
	tString      // quoted
	tOp          // = != < <= > >= ~ !~
	tLeft        // (
	tRight       // )
	tComma
	tBang // !
)

// token is a piece of the expression. text is the value: without quotes, operators in their usual form.
type token struct {
	kind     kind
	text     string
	pos, end int // byte offsets
}

// operator reports whether the token is an operator.
func (t token) operator() bool {
	return t.kind == tOp || t.kind == tBang || t.kind == tWord && slices.Contains(wordOperators, strings.ToLower(t.text))
}

// is reports whether the token is that keyword.
func (t token) is(word string) bool { return t.kind == tWord && strings.EqualFold(t.text, word) }

// operators in the order of trying, with their usual form.
var operators = []struct{ text, op string }{
	{"==", "="}, {"!=", "!="}, {"<>", "!="}, {"<=", "<="}, {">=", ">="}, {"!~", "!~"},
	{"=", "="}, {"<", "<"}, {">", ">"}, {"~", "~"},
}

// lex cuts the expression into tokens; the last one is tEnd.
func lex(s string) ([]token, *Error) {
	var out []token
	for i := 0; ; {
		n, err := skip(s, i)
		if err != nil {
			return nil, err
		}
		i = n
		if i >= len(s) {
			return append(out, token{kind: tEnd, pos: len(s), end: len(s)}), nil
		}
		t, err := next(s, i)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		i = t.end
	}
}

// skip goes over blanks and comments: "# …" and "-- …" to the end of the line, "/* … */".
func skip(s string, i int) (int, *Error) {
	for i < len(s) {
		switch rest := s[i:]; {
		case strings.IndexByte(" \t\r\n", s[i]) >= 0:
			i++
		case s[i] == '#', strings.HasPrefix(rest, "--"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				return len(s), nil
			}
			i += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				return 0, &Error{Pos: i, Len: len(rest), Message: "the comment does not end", Suggestion: "close it with */"}
			}
			i += n + 2
		default:
			return i, nil
		}
	}
	return i, nil
}

// next reads the token at i.
func next(s string, i int) (token, *Error) {
	single := map[byte]kind{'(': tLeft, ')': tRight, ',': tComma}
	if k, ok := single[s[i]]; ok {
		return token{k, s[i : i+1], i, i + 1}, nil
	}
	switch rest := s[i:]; {
	case strings.HasPrefix(rest, "&&"):
		return token{tWord, "and", i, i + 2}, nil
	case strings.HasPrefix(rest, "||"):
		return token{tWord, "or", i, i + 2}, nil
	case s[i] == '"' || s[i] == '\'':
		return quoted(s, i)
	}
	for _, o := range operators {
		if strings.HasPrefix(s[i:], o.text) {
			return token{tOp, o.op, i, i + len(o.text)}, nil
		}
	}
	if s[i] == '!' {
		return token{tBang, "!", i, i + 1}, nil
	}
	n := i
	for n < len(s) && wordByte(s[n]) {
		n++
	}
	if n == i {
		r, size := utf8.DecodeRuneInString(s[i:])
		return token{}, &Error{Pos: i, Len: size, Message: "unexpected character " + quote(string(r)), Suggestion: "put text in quotes"}
	}
	return token{tWord, s[i:n], i, n}, nil
}

// wordByte: letters, digits and what stands inside names, addresses, prefixes, ranges and numbers; all
// of UTF-8 beyond ASCII.
func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || strings.IndexByte("._:/-%*@", c) >= 0
}

// quoted reads text in single or double quotes; a doubled quote or a backslash before it stands for
// the quote itself.
func quoted(s string, i int) (token, *Error) {
	q := s[i]
	var b strings.Builder
	for n := i + 1; n < len(s); n++ {
		switch c := s[n]; {
		case c == '\\' && n+1 < len(s) && (s[n+1] == q || s[n+1] == '\\'):
			n++
			b.WriteByte(s[n])
		case c == q && n+1 < len(s) && s[n+1] == q:
			n++
			b.WriteByte(q)
		case c == q:
			return token{tString, b.String(), i, n + 1}, nil
		default:
			b.WriteByte(c)
		}
	}
	return token{}, &Error{Pos: i, Len: len(s) - i, Message: "the text does not end", Suggestion: "close it with " + string(q)}
}

// quote shows text from outside, cut when it is long.
func quote(s string) string {
	if len(s) > 40 {
		cut := 40
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return "\"" + s + "\""
}
