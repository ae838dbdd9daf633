package dialect

import (
	"fmt"
	"strings"
)

// class tells kinds of tokens.
type class uint8

const (
	end class = iota
	word
	number
	text
	placeholder
	symbol
)

// token is a word of a question. The text of a word is in lower case unless it was quoted.
type token struct {
	class  class
	text   string
	quoted bool
	at     int
}

// is reports whether the token is a keyword or a symbol.
func (t token) is(s string) bool {
	return !t.quoted && (t.class == word || t.class == symbol) && t.text == s
}

// Error is a mistake in a question. Its place counts bytes from 0.
type Error struct {
	At      int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s at byte %d", e.Message, e.At) }

func mistake(at int, format string, args ...any) error {
	return &Error{at, fmt.Sprintf(format, args...)}
}

// symbols are the longest first.
var symbols = []string{"::", "<>", "!=", "<=", ">=", "->", "//", "||", "<<", ">>", "(", ")", "[", "]", ",", ".", "*", "/", "+", "-", "%", "&", "|", "=", "<", ">", ":"}

// lex cuts a question into tokens; the last one is the end.
func lex(s string) ([]token, error) {
	var out []token
	for i := 0; ; {
		i = skip(s, i)
		if i >= len(s) {
			return append(out, token{class: end, at: len(s)}), nil
		}
		t, next, err := one(s, i)
		if err != nil {
			return nil, err
		}
		out, i = append(out, t), next
	}
}

// skip passes white space and comments.
func skip(s string, i int) int {
	for i < len(s) {
		switch {
		case strings.IndexByte(" \t\r\n", s[i]) >= 0:
			i++
		case strings.HasPrefix(s[i:], "--"):
			n := strings.IndexByte(s[i:], '\n')
			if n < 0 {
				return len(s)
			}
			i += n
		case strings.HasPrefix(s[i:], "/*"):
			n := strings.Index(s[i+2:], "*/")
			if n < 0 {
				return len(s)
			}
			i += n + 4
		default:
			return i
		}
	}
	return i
}

// one reads the token at i.
func one(s string, i int) (t token, next int, err error) {
	c := s[i]
	switch {
	case letter(c):
		n := span(s, i, func(c byte) bool { return letter(c) || digit(c) })
		return token{word, strings.ToLower(s[i:n]), false, i}, n, nil
	case digit(c):
		n := numberEnd(s, i)
		return token{number, s[i:n], false, i}, n, nil
	case c == '\'' || c == '"':
		value, n, ok := quotedText(s, i)
		switch {
		case !ok:
			return t, i, mistake(i, "a quote that is not closed")
		case c == '"':
			return token{word, value, true, i}, n, nil
		}
		return token{text, value, false, i}, n, nil
	case c == '$' && i+1 < len(s) && digit(s[i+1]):
		n := span(s, i+1, digit)
		return token{placeholder, s[i+1 : n], false, i}, n, nil
	}
	for _, sym := range symbols {
		if strings.HasPrefix(s[i:], sym) {
			return token{symbol, sym, false, i}, i + len(sym), nil
		}
	}
	return t, i, mistake(i, "unexpected %q", s[i:i+1])
}

func letter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
func digit(c byte) bool { return c >= '0' && c <= '9' }

func span(s string, i int, in func(byte) bool) int {
	for i < len(s) && in(s[i]) {
		i++
	}
	return i
}

// numberEnd is behind 12, 1.5 and 1e9.
func numberEnd(s string, i int) int {
	i = span(s, i, digit)
	if i+1 < len(s) && s[i] == '.' && digit(s[i+1]) {
		i = span(s, i+1, digit)
	}
	if i+1 < len(s) && (s[i] == 'e' || s[i] == 'E') {
		j := i + 1
		if s[j] == '-' || s[j] == '+' {
			j++
		}
		if j < len(s) && digit(s[j]) {
			i = span(s, j, digit)
		}
	}
	return i
}

// quotedText reads up to the closing quote; a doubled one stands for itself.
func quotedText(s string, i int) (value string, next int, ok bool) {
	q := s[i]
	var b strings.Builder
	for i++; i < len(s); i++ {
		if s[i] == q {
			if i+1 == len(s) || s[i+1] != q {
				return b.String(), i + 1, true
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return "", i, false
}
