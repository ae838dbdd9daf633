package byteregexp

import (
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// asText reports whether an expression is found in bytes when it is found in the text that they may be: it names no byte above 127, and counts
// no bytes that may be such. Then it need not be asked byte by byte.
func asText(re *syntax.Regexp) bool {
	atLeastOne := 0
	return textual(re, &atLeastOne) && atLeastOne <= 1
}

// textual looks at a part of an expression, and counts where one or more bytes of any kind are asked for: twice, that may be in one character.
func textual(re *syntax.Regexp, atLeastOne *int) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return !slices.ContainsFunc(re.Rune, func(r rune) bool { return byteOf(r) || r == utf8.RuneError })
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpNoWordBoundary:
		return false
	case syntax.OpCharClass: // text has an error in the place of a byte that is no character
		return !within(re.Rune, mark|utf8.RuneSelf, mark|0xff) && !within(re.Rune, utf8.RuneError, utf8.RuneError)
	case syntax.OpStar, syntax.OpPlus:
		if x := re.Sub[0]; x.Op == syntax.OpAnyChar || x.Op == syntax.OpAnyCharNotNL || x.Op == syntax.OpCharClass && everythingHigh(x.Rune) {
			if re.Op == syntax.OpPlus {
				*atLeastOne++
			}
			return true
		}
	}
	before := *atLeastOne
	for _, x := range re.Sub {
		if !textual(x, atLeastOne) {
			return false
		}
	}
	repeats := re.Op == syntax.OpStar || re.Op == syntax.OpPlus || re.Op == syntax.OpRepeat
	return !repeats || *atLeastOne == before
}

// within reports whether a class has anything from one sign to another.
func within(class []rune, from, to rune) bool {
	for i := 0; i < len(class); i += 2 {
		if class[i] <= to && from <= class[i+1] {
			return true
		}
	}
	return false
}

// everythingHigh reports whether a class has all bytes and characters above 127.
func everythingHigh(class []rune) bool {
	n := len(class)
	return n > 0 && class[n-2] <= utf8.RuneSelf && class[n-1] == utf8.MaxRune
}
