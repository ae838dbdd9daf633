package filter

import (
	"fmt"
	"math"
	"strings"
)

// tokenKind is the class of a token.
type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokWord             // identifier, keyword or escaped identifier
	tokNumber           // integer
	tokIPv4             // two to four dotted numbers
	tokIPv6             //
	tokMAC              // six hexadecimal bytes
	tokAddr8            // $xx, an ARCNET or MS/TP address
	tokRegex            // /…/ after payload
	tokString           // "…"
	tokOp               // operator or bracket
)

type token struct {
	kind    tokenKind
	text    string // as written, without the backslash of an escaped word
	num     uint32
	pos     int
	end     int
	escaped bool // the word was written with a backslash: never a keyword
}

func (t token) at() (int, int) { return t.pos, t.end - t.pos }

// operators, longest first.
var operators = []string{"&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "(", ")", "[", "]", "+", "-", "*", "/", "%", "&", "|", "^", "=", "<", ">", "!", ":"}

// lex cuts the expression into tokens.
func lex(s string) ([]token, error) {
	var out []token
	for i := 0; ; {
		for i < len(s) && strings.IndexByte(" \t\r\n", s[i]) >= 0 {
			i++
		}
		if i == len(s) {
			return append(out, token{kind: tokEnd, pos: i, end: i}), nil
		}
		t, err := next(s, i, len(out) > 0 && wantsRegex(out))
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		i = t.end
	}
}

// wantsRegex reports whether a slash after these tokens opens a regular expression.
func wantsRegex(toks []token) bool {
	last := toks[len(toks)-1]
	return last.kind == tokWord && !last.escaped && (last.text == "regex" || last.text == "payload")
}

// next reads the token at s[i].
func next(s string, i int, regex bool) (token, error) {
	switch c := s[i]; {
	case regex && c == '/', c == '"':
		return quoted(s, i, c)
	case c == '$':
		return address8(s, i)
	case c == '\\':
		n := wordLen(s[i+1:])
		if n == 0 {
			return token{}, &Error{Pos: i, Len: 1, Message: `nothing follows the "\"`, Suggestion: `a name must follow, such as \tcp`}
		}
		return token{kind: tokWord, text: s[i+1 : i+1+n], pos: i, end: i + 1 + n, escaped: true}, nil
	case isAlnum(c) || c == ':' && strings.HasPrefix(s[i:], "::"):
		return word(s, i)
	}
	for _, op := range operators {
		if strings.HasPrefix(s[i:], op) {
			return token{kind: tokOp, text: op, pos: i, end: i + len(op)}, nil
		}
	}
	return token{}, &Error{Pos: i, Len: 1, Message: fmt.Sprintf("%q has no meaning here", s[i])}
}

func quoted(s string, i int, quote byte) (token, error) {
	var text strings.Builder
	for j := i + 1; j < len(s); j++ {
		switch {
		case s[j] == '\\' && j+1 < len(s) && s[j+1] == quote:
			j++
			text.WriteByte(quote)
		case s[j] == quote:
			kind := tokString
			if quote == '/' {
				kind = tokRegex
			}
			return token{kind: kind, text: text.String(), pos: i, end: j + 1}, nil
		default:
			text.WriteByte(s[j])
		}
	}
	return token{}, &Error{Pos: i, Len: len(s) - i, Message: "the closing " + string(quote) + " is missing"}
}

func address8(s string, i int) (token, error) {
	n := 0
	var v uint32
	for i+1+n < len(s) && isHex(s[i+1+n]) && n < 3 {
		v = v<<4 | uint32(hexValue(s[i+1+n]))
		n++
	}
	if n == 0 || n > 2 {
		return token{}, &Error{Pos: i, Len: n + 1, Message: "an 8-bit link address is $ and one or two hexadecimal digits"}
	}
	return token{kind: tokAddr8, text: s[i : i+1+n], num: v, pos: i, end: i + 1 + n}, nil
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

// wordLen returns the length of the identifier at the start of s: letters, digits, and - _ . between them.
func wordLen(s string) int {
	n := 0
	for n < len(s) && (isAlnum(s[n]) || n > 0 && strings.IndexByte("-_.", s[n]) >= 0) {
		n++
	}
	return n
}

// word reads what begins with a letter, a digit or "::".
func word(s string, i int) (token, error) {
	if t, ok, err := numeric(s, i); ok || err != nil {
		return t, err
	}
	n := wordLen(s[i:])
	for n > 1 && s[i+n-1] == '-' { // "a-" is a name and a minus
		n--
	}
	if n == 0 {
		return token{}, &Error{Pos: i, Len: 1, Message: fmt.Sprintf("%q has no meaning here", s[i])}
	}
	return token{kind: tokWord, text: s[i : i+n], pos: i, end: i + n}, nil
}

// run returns the length of the longest prefix of s made of these characters.
func run(s, chars string) int {
	n := 0
	for n < len(s) && strings.IndexByte(chars, s[n]) >= 0 {
		n++
	}
	return n
}

const hexDigits = "0123456789abcdefABCDEF"

// numeric reads a number or an address; ok is false when it is neither.
func numeric(s string, i int) (t token, ok bool, err error) {
	if n := run(s[i:], hexDigits+":."); strings.Contains(s[i:i+n], ":") {
		if t, ok, err := colons(s, i, n); ok || err != nil {
			return t, ok, err
		}
	}
	if n := run(s[i:], hexDigits+"-"); n >= 11 && strings.Count(s[i:i+n], "-") == 5 && !follows(s, i+n) {
		return macToken(s, i, i+n, "-")
	}
	if n := run(s[i:], hexDigits+"."); n >= 11 && macDots(s[i:i+n]) && !follows(s, i+n) {
		return macToken(s, i, i+n, ".")
	}
	if n := run(s[i:], hexDigits); n == 12 && !follows(s, i+n) {
		return macToken(s, i, i+n, "")
	}
	if s[i] < '0' || s[i] > '9' {
		return token{}, false, nil
	}
	if n := run(s[i:], "0123456789."); strings.Contains(s[i:i+n], ".") && !follows(s, i+n) {
		return token{kind: tokIPv4, text: s[i : i+n], pos: i, end: i + n}, true, nil
	}
	return number(s, i)
}

// follows reports whether an identifier goes on at s[i], so that what was read is only its beginning.
func follows(s string, i int) bool {
	return i < len(s) && (isAlnum(s[i]) || s[i] == '_' || s[i] == '.' || s[i] == '-' && i+1 < len(s) && isAlpha(s[i+1]))
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// number reads a decimal, octal or hexadecimal integer of 32 bits.
func number(s string, i int) (token, bool, error) {
	digits, base, start := "0123456789", uint64(10), i
	switch {
	case len(s) > i+1 && s[i] == '0' && (s[i+1] == 'x' || s[i+1] == 'X'):
		digits, base, start = hexDigits, 16, i+2
	case s[i] == '0':
		base = 8
	}
	n := run(s[start:], digits)
	if n == 0 || follows(s, start+n) {
		return token{}, false, nil
	}
	var v uint64
	for _, c := range []byte(s[start : start+n]) {
		d := uint64(hexValue(c))
		if d >= base {
			return token{}, false, &Error{Pos: i, Len: start + n - i, Message: fmt.Sprintf("number %s contains non-octal digit", s[i:start+n])}
		}
		if v = v*base + d; v > math.MaxUint32 {
			return token{}, false, &Error{Pos: i, Len: start + n - i, Message: fmt.Sprintf("number %s overflows 32 bits", s[i:start+n])}
		}
	}
	return token{kind: tokNumber, text: s[i : start+n], num: uint32(v), pos: i, end: start + n}, true, nil
}
