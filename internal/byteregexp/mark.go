package byteregexp

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// mark and a byte above 127 are half of a surrogate pair, which is no character: so expressions have both bytes and characters in them.
const mark = 0xdf00

// kind is what a pattern asks for with a single sign.
type kind uint8

const (
	ascii kind = iota
	single
	character
)

// marked returns a pattern with the bytes above 127 that it names, as \xff or as they are, marked.
func marked(pattern string) (string, error) {
	m := marker{in: pattern}
	for m.in != "" && m.err == nil {
		switch {
		case strings.HasPrefix(m.in, `\Q`):
			m.quoted()
		case m.in[0] == '[':
			m.class()
		default:
			text, _ := m.sign()
			m.out.WriteString(text)
		}
	}
	return m.out.String(), m.err
}

type marker struct {
	in  string
	out strings.Builder
	err error
}

// take removes bytes from the pattern and returns them.
func (m *marker) take(n int) string {
	text := m.in[:n]
	m.in = m.in[n:]
	return text
}

// quoted takes \Q…\E: signs for themselves.
func (m *marker) quoted() {
	text, rest, _ := strings.Cut(m.in[2:], `\E`)
	for m.in = text; m.in != ""; {
		if m.in[0] < utf8.RuneSelf {
			m.out.WriteString(regexp.QuoteMeta(m.take(1)))
			continue
		}
		text, _ := m.sign()
		m.out.WriteString(text)
	}
	m.in = rest
}

// class takes a class in brackets. Mistakes in it are found by those who read it after.
func (m *marker) class() {
	m.out.WriteString(m.take(1))
	if strings.HasPrefix(m.in, "^") {
		m.out.WriteString(m.take(1))
	}
	for first := true; m.in != "" && (first || m.in[0] != ']'); first = false {
		if n := set(m.in); n > 0 {
			m.out.WriteString(m.take(n))
			continue
		}
		text, from := m.sign()
		m.out.WriteString(text)
		if len(m.in) < 2 || m.in[0] != '-' || m.in[1] == ']' {
			continue
		}
		m.out.WriteString(m.take(1))
		text, to := m.sign()
		switch {
		case from == ascii && to == single: // no characters are between those
			m.out.WriteString(`\x7f\x{df80}-`)
		case from == character && to == single:
			m.err = errors.New("a range of a class begins with a character above 127 and ends with a byte")
		}
		m.out.WriteString(text)
	}
}

// set returns the length of what stands for several signs at the start of a text in a class, such as \d, \pL, \p{Greek} or [:alpha:].
func set(s string) int {
	end := ""
	switch {
	case strings.HasPrefix(s, "[:"):
		end = ":]"
	case strings.HasPrefix(s, `\p{`), strings.HasPrefix(s, `\P{`):
		end = "}"
	case strings.HasPrefix(s, `\p`), strings.HasPrefix(s, `\P`):
		return min(len(s), 3)
	case len(s) >= 2 && s[0] == '\\' && strings.Contains("dDsSwW", s[1:2]):
		return 2
	}
	if i := strings.Index(s, end); end != "" && i >= 0 {
		return i + len(end)
	}
	return 0
}

// sign takes one sign, or one byte of what is none.
func (m *marker) sign() (string, kind) {
	r, n := utf8.DecodeRuneInString(m.in)
	switch v, number := escaped(m.in); {
	case number > 0:
		m.take(number)
		return m.numbered(v)
	case r == utf8.RuneError && n == 1:
		return m.numbered(uint64(m.take(1)[0]))
	case r == '\\':
		_, next := utf8.DecodeRuneInString(m.in[1:])
		return m.take(1 + next), ascii
	case r < utf8.RuneSelf:
		return m.take(1), ascii
	}
	return m.take(n), character
}

// numbered returns the sign with a number: a byte up to 255, beyond it a character.
func (m *marker) numbered(v uint64) (string, kind) {
	switch {
	case v < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, v), ascii
	case v <= 0xff:
		return fmt.Sprintf(`\x{%x}`, mark|v), single
	case v <= utf8.MaxRune && !utf8.ValidRune(rune(v)):
		m.err = fmt.Errorf(`\x{%x} is no character`, v)
	}
	return fmt.Sprintf(`\x{%x}`, v), character
}

// escaped reads a number at the start of a text, as \xff, \x{ff} or \377, and returns how long it is written; 0 for none.
func escaped(s string) (v uint64, n int) {
	digits, base := "", 16
	switch {
	case strings.HasPrefix(s, `\x{`):
		n = strings.IndexByte(s, '}') + 1
		digits = s[min(3, n):max(n-1, 0)]
	case strings.HasPrefix(s, `\x`) && len(s) >= 4:
		digits, n = s[2:4], 4
	case strings.HasPrefix(s, `\`):
		for n = 1; n < min(4, len(s)) && s[n]&^7 == '0'; n++ {
		}
		if digits, base = s[1:n], 8; n == 2 && digits != "0" { // no number, but a reference to what was matched
			return 0, 0
		}
	}
	v, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		return 0, 0
	}
	return v, n
}
