package byteregexp

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// spell has a tree ask for bytes: for marked ones, and for characters above 127 as they are in UTF-8.
func spell(re *syntax.Regexp) error {
	switch re.Op {
	case syntax.OpLiteral:
		return spellLiteral(re)
	case syntax.OpCharClass:
		x, err := spelledClass(re.Rune)
		if err == nil {
			*re = *x
		}
		return err
	}
	for _, x := range re.Sub {
		if err := spell(x); err != nil {
			return err
		}
	}
	return nil
}

func spellLiteral(re *syntax.Regexp) error {
	if re.Flags&syntax.FoldCase == 0 {
		var out []rune
		for _, r := range re.Rune {
			out = append(out, spelled(r)...)
		}
		re.Rune = out
		return nil
	}
	all := &syntax.Regexp{Op: syntax.OpConcat}
	for _, r := range re.Rune {
		alike := []rune{r}
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			alike = append(alike, f)
		}
		slices.Sort(alike)
		var class []rune
		for _, f := range alike {
			class = append(class, f, f)
		}
		x, err := spelledClass(class)
		if err != nil {
			return err
		}
		all.Sub = append(all.Sub, x)
	}
	*re = *all
	return nil
}

// spelled returns the bytes of a character, or a marked byte.
func spelled(r rune) (out []rune) {
	if byteOf(r) {
		return []rune{r - mark}
	}
	for _, c := range utf8.AppendRune(nil, r) {
		out = append(out, rune(c))
	}
	return out
}

func byteOf(r rune) bool { return mark|utf8.RuneSelf <= r && r <= mark|0xff }

const (
	lastBelow   = 0xd7ff // of characters below the halves of surrogate pairs
	firstAbove  = 0xe000
	maxSpelling = 128
)

// spelledClass returns what asks for the bytes of a class, and for its characters above 127 unless it has all of them: then it takes any byte but for
// some, as [^a] does.
func spelledClass(class []rune) (*syntax.Regexp, error) {
	bytes, all := &syntax.Regexp{Op: syntax.OpCharClass}, everyCharacter(class)
	if !all && len(class) > 0 && class[len(class)-1] == utf8.MaxRune {
		return nil, errors.New(`a class cannot leave out characters above 127, as bytes are looked at one by one: name what it shall take, or bytes as in [^\xc3]`)
	}
	out := &syntax.Regexp{Op: syntax.OpAlternate}
	for i := 0; i < len(class); i += 2 {
		bytes.Rune = appendWithin(bytes.Rune, class[i:], 0, utf8.RuneSelf-1, 0)
		bytes.Rune = appendWithin(bytes.Rune, class[i:], mark|utf8.RuneSelf, mark|0xff, mark)
		if all {
			continue
		}
		high := appendWithin(appendWithin(nil, class[i:], utf8.RuneSelf, lastBelow, 0), class[i:], firstAbove, utf8.MaxRune, 0)
		for ; len(high) > 0; high = high[2:] {
			out.Sub = appendSpellings(out.Sub, high[0], high[1])
		}
	}
	switch {
	case len(out.Sub) > maxSpelling:
		return nil, fmt.Errorf("a class of characters above 127 is %d different spellings in bytes, of at most %d: name fewer", len(out.Sub), maxSpelling)
	case len(out.Sub) == 0 && len(bytes.Rune) == 0:
		return &syntax.Regexp{Op: syntax.OpNoMatch}, nil
	case len(out.Sub) == 0:
		return bytes, nil
	case len(bytes.Rune) > 0:
		out.Sub = append(out.Sub, bytes)
	}
	return out, nil
}

// appendWithin appends what of the first range of a class is within bounds, less an offset.
func appendWithin(to, class []rune, least, most, offset rune) []rune {
	if from, until := max(class[0], least), min(class[1], most); from <= until {
		return append(to, from-offset, until-offset)
	}
	return to
}

// everyCharacter reports whether a class has all characters above 127, but for two that it leaves out with the letters k and s where upper and lower case
// are alike: the sign of Kelvin and the long s.
func everyCharacter(class []rune) bool {
	next := rune(utf8.RuneSelf)
	for i := 0; i < len(class); i += 2 {
		if class[i+1] < next {
			continue
		}
		if class[i] > next && !negligible(next, class[i]-1) {
			return false
		}
		next = class[i+1] + 1
	}
	return next > utf8.MaxRune
}

func negligible(from, to rune) bool {
	return from == to && (from == '\u017f' || from == '\u212a') || lastBelow < from && to < firstAbove
}

// appendSpellings appends sequences of classes of bytes that are the characters of a range in UTF-8.
func appendSpellings(all []*syntax.Regexp, from, to rune) []*syntax.Regexp {
	for _, most := range []rune{0x7ff, 0xffff} { // of as many bytes
		if from <= most && most < to {
			return appendSpellings(appendSpellings(all, from, most), most+1, to)
		}
	}
	n := utf8.RuneLen(from)
	for i := 1; i < n; i++ {
		low := rune(1)<<(6*i) - 1 // what the last i bytes tell
		switch {
		case from&^low == to&^low:
		case from&low != 0:
			return appendSpellings(appendSpellings(all, from, from|low), (from|low)+1, to)
		case to&low != low:
			return appendSpellings(appendSpellings(all, from, to&^low-1), to&^low, to)
		}
	}
	x := &syntax.Regexp{Op: syntax.OpConcat}
	first, last := spelled(from), spelled(to)
	for i := range first {
		x.Sub = append(x.Sub, &syntax.Regexp{Op: syntax.OpCharClass, Rune: []rune{first[i], last[i]}})
	}
	return append(all, x)
}
