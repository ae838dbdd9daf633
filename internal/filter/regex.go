package filter

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	"crosstap/internal/byteregexp"
)

// bytesRegex returns a matcher of a regular expression on bytes, whatever text they would be: \xff asks for that byte, and . for any one.
func bytesRegex(pattern string) (func(*state, []byte) bool, error) {
	text := byteregexp.Escaped(pattern)
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
		s.reader.Reset(b)
		ok := re.MatchReader(&s.reader)
		s.reader.Reset(nil)
		return ok
	}, nil
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
