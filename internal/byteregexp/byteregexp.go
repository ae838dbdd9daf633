// Package byteregexp has regular expressions look at bytes, whatever text they would be: \xff asks for that byte.
package byteregexp

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Escaped writes the characters of a pattern above 127 as the bytes that they are in UTF-8, for an expression that a Reader feeds.
func Escaped(pattern string) string {
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

// Reader gives bytes to an expression as characters with the same numbers. Its zero value has none.
type Reader struct {
	b []byte
	i int
}

// Reset has the reader begin with b, which it keeps.
func (r *Reader) Reset(b []byte) { r.b, r.i = b, 0 }

// ReadRune returns the next byte, or io.EOF.
func (r *Reader) ReadRune() (rune, int, error) {
	if r.i == len(r.b) {
		return 0, 0, io.EOF
	}
	r.i++
	return rune(r.b[r.i-1]), 1, nil
}
