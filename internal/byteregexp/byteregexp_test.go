package byteregexp

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFind(t *testing.T) {
	f := func(pattern, in string, from, to int) {
		t.Helper()
		re, err := Compile(pattern, true)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			return
		}
		var r Reader
		got := re.Find([]byte(in), &r)
		if matched := re.Match([]byte(in), &r); matched != (got != nil) {
			t.Errorf("%q in %q: found %v, matched %t", pattern, in, got, matched)
		}
		if from < 0 && got == nil {
			return
		}
		if len(got) != 2 || got[0] != from || got[1] != to {
			t.Errorf("%q finds %v in %q, want %d to %d", pattern, got, in, from, to)
		}
	}
	f(`\xff.`, "a\xff\xfeb", 1, 3)
	f("\xff", "a\xff\xfeb", 1, 2)
	f(`\Q[é`+"\xff"+`\E.`, "a[\xc3\xa9\xffb", 1, 6)
	f(`\377\x{fe}`, "\xc3\xbf\xff\xfe", 2, 4)
	f(`é`, "caf\xc3\xa9", 3, 5)
	f(`é`, "caf\xe9", -1, 0)
	f(`é+`, "\xc3\xa9\xc3\xa9!", 0, 4)
	f(`b`, "abc", 1, 2)
	f(`b`, "", -1, 0)
	f(`\x{20ac}`, "10 \xe2\x82\xac", 3, 6)

	// Classes have characters and bytes.
	f(`[é]`, "(?:\xc3)\xe9", -1, 0)
	f(`[é]+`, "caf\xc3\xa9\xc3\xa9!", 3, 7)
	f(`[a-zéè]+`, "1caf\xc3\xa9\xc3\xaa", 1, 6)
	f(`[à-ü]+`, "a\xc3\xa0\xc3\xbc\xc3\xbd", 1, 5)
	f(`[߿-ࠀ]+`, "\xdf\xbf\xe0\xa0\x80\xe0\xa0\x81", 0, 5)
	f(`[一-龥]{2}`, "\xe4\xb8\x80\xe9\xbe\xa5", 0, 6)
	f(`[^\x00]{3}`, "\x00\xff\xfe\x01", 1, 4)
	f(`[\x20-\xff]+`, "\x1f \x7f\x80\xff", 1, 5)
	f(`[^\x20-\xff]+`, "\xff \x1f\x00", 2, 4)
	f(`[^\x80-\xff]+`, "\xffab\x80", 1, 3)
	f(`[\xc3é]{2}`, "\xc3\xc3\xa9", 0, 3)
	f(`[-\xff]+`, "a-\xff", 1, 3)
	f(`[]é]+`, "a]\xc3\xa9", 1, 4)
	f(`[\d-\xff]+`, "a7-\xff", 1, 4)
	f(`[[:alpha:]\xff]+`, "1a\xff", 1, 3)
	f(`\D`, "1\xe9", 1, 2)
	f(`\p{Greek}+`, "a\xce\xb1\xce\xb2", 1, 5)

	// Upper and lower case are of characters, not of bytes.
	f(`(?i)É`, "caf\xc3\xa9", 3, 5)
	f(`(?i)é`, "caf\xe3\xa9", -1, 0)
	f(`(?i)\xe9`, "\xc9\xe9", 1, 2)
	f(`(?i)[à-ü]`, "\xc3\x80", 0, 2)
	f(`(?i)[^a-z]+`, "Ab\xc3\xa9-K", 2, 5)
	f(`(?i)k`, "\xe2\x84\xaa", 0, 3)
	f(`(?i)[\x20-\xff]+`, "\x00\xe9", 1, 2)

	// Bytes are counted, not characters.
	f(`^.+.+$`, "\xc3\xa9", 0, 2)
	f(`^(.+){2}$`, "\xc3\xa9", 0, 2)
	f(`a.*\B.*b`, "a\xc3\xa9b", 0, 4)
	f("\ufffd", "\xff", -1, 0)
}

func TestRefused(t *testing.T) {
	f := func(pattern, want string) {
		t.Helper()
		if _, err := Compile(pattern, false); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", pattern, err, want)
		}
	}
	f(`[^é]`, `a class cannot leave out characters above 127, as bytes are looked at one by one: name what it shall take, or bytes as in [^\xc3]`)
	f(`a\PL`, `a class cannot leave out characters`)
	f(`\pL`, `a class of characters above 127 is `)
	f(`\x{d800}`, `\x{d800} is no character`)
	f(`(\xff`, `missing closing )`)
	f(`[é`, `missing closing ]`)
	f(`[é-\xff]`, `a range of a class begins with a character above 127 and ends with a byte`)
	f(`\`, `trailing backslash at end of expression`)
	f(`\1`, `invalid escape sequence`)
}

// FuzzCompile compares with Go's own expressions where those look at the same: at text, and count no characters that are more than one byte.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{`é+`, `[à-ü]x?`, `(?i)straße|[k-s]`, `\Qé\E*`, `[^a]*\b`, `(?s)^.*$`, `[\x20-\x7f]{2}`, `\xff`, `[a-\xff]`} {
		f.Add(s, "a Straße, caf\u00e9 \u212a", true)
	}
	f.Fuzz(func(t *testing.T, pattern, in string, dot bool) {
		if len(pattern) > 200 || len(in) > 200 {
			return
		}
		re, err := Compile(pattern, dot)
		if err != nil {
			return
		}
		var r Reader
		at := re.Find([]byte(in), &r)
		if matched := re.Match([]byte(in), &r); matched != (at != nil) {
			t.Errorf("%q in %q: found %v, matched %t", pattern, in, at, matched)
		}
		if !utf8.ValidString(pattern) || !utf8.ValidString(in) {
			return
		}
		if dot {
			pattern = "(?s)" + pattern
		}
		go1, err := regexp.Compile(pattern)
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		tree, _ := syntax.Parse(pattern, syntax.Perl)
		if !ofText(tree) || strings.Contains(pattern, `\`) {
			return
		}
		if want := go1.FindStringIndex(in); len(want) != len(at) || len(at) == 2 && (at[0] != want[0] || at[1] != want[1]) {
			t.Errorf("%q in %q: found %v, Go %v", pattern, in, at, want)
		}
	})
}

// ofText reports whether an expression asks for the same in bytes as in text.
func ofText(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpEmptyMatch:
		return false
	case syntax.OpCharClass:
		if n := len(re.Rune); n > 0 && re.Rune[n-1] == utf8.MaxRune {
			return false
		}
	}
	for _, x := range re.Sub {
		if !ofText(x) {
			return false
		}
	}
	return true
}
