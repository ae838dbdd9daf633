package filter

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// bytesRegex returns a matcher of a regular expression on bytes, whatever text they would be: \xff asks for that byte, and . for any one.
func bytesRegex(pattern string) (func(*state, []byte) bool, error) {
	text := escaped(pattern)
	tree, err := syntax.Parse(text, syntax.Perl|syntax.DotNL)
	var mistake *syntax.Error
	if errors.As(err, &mistake) {
		return nil, errors.New(mistake.Code.String())
	}
	re, err := regexp.Compile("(?s)" + text)
	if err != nil {
		return nil, err
	}
	if asText(tree) {
		return func(_ *state, b []byte) bool { return re.Match(b) }, nil
	}
	return func(s *state, b []byte) bool {
		s.reader = byteReader{b: b}
		ok := re.MatchReader(&s.reader)
		s.reader.b = nil
		return ok
	}, nil
}

// escaped writes the characters of a pattern above 127 as the bytes that they are in UTF-8.
func escaped(pattern string) string {
	var b strings.Builder
	for len(pattern) > 0 {
		_, n := utf8.DecodeRuneInString(pattern)
		if pattern[0] < utf8.RuneSelf {
			b.WriteByte(pattern[0])
		} else {
			b.WriteString("(?:")
			for _, c := range []byte(pattern[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
			b.WriteString(")")
		}
		pattern = pattern[n:]
	}
	return b.String()
}

// asText reports whether an expression finds the same in bytes as in the text that they may be: it names no byte above 127, and counts no bytes
// that may be such. Then it need not be asked byte by byte.
func asText(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if r >= utf8.RuneSelf {
				return false
			}
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return false
	case syntax.OpCharClass:
		return len(re.Rune) == 0 || re.Rune[len(re.Rune)-1] < utf8.RuneSelf
	case syntax.OpStar, syntax.OpPlus:
		if x := re.Sub[0]; x.Op == syntax.OpAnyChar || x.Op == syntax.OpAnyCharNotNL || x.Op == syntax.OpCharClass && takesHigh(x.Rune) {
			return true
		}
	}
	for _, x := range re.Sub {
		if !asText(x) {
			return false
		}
	}
	return true
}

// takesHigh reports whether a class holds everything above 127.
func takesHigh(class []rune) bool {
	n := len(class)
	return n >= 2 && class[n-2] <= utf8.RuneSelf && class[n-1] == utf8.MaxRune
}

// byteReader gives bytes to an expression as characters with the same numbers.
type byteReader struct {
	b []byte
	i int
}

func (r *byteReader) ReadRune() (rune, int, error) {
	if r.i == len(r.b) {
		return 0, 0, io.EOF
	}
	r.i++
	return rune(r.b[r.i-1]), 1, nil
}
