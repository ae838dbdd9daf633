// Package byteregexp has regular expressions look at bytes, whatever text they would be: \xff asks for that byte, . for any one, and é, also in a
// class, for the bytes that it is in UTF-8.
package byteregexp

import (
	"errors"
	"io"
	"regexp"
	"regexp/syntax"
)

// Regexp is an expression on bytes. It is safe for concurrent use.
type Regexp struct {
	text  *regexp.Regexp // finds the same in bytes as in the text that they may be, and faster; nil when there is none
	bytes *regexp.Regexp // for a Reader
}

// Compile reads a pattern in Go's syntax. dot has . match a line's end too.
func Compile(pattern string, dot bool) (*Regexp, error) {
	flags := syntax.Perl
	if dot {
		flags |= syntax.DotNL
	}
	in, err := marked(pattern)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(in, flags)
	if err != nil {
		return nil, plain(err)
	}
	re, same := new(Regexp), asText(tree)
	if err := spell(tree); err != nil {
		return nil, err
	}
	if re.bytes, err = regexp.Compile(tree.String()); err != nil {
		return nil, plain(err)
	}
	if same && dot {
		pattern = "(?s)" + pattern
	}
	if same {
		re.text, err = regexp.Compile(pattern)
	}
	return re, plain(err)
}

// plain leaves out of an error the expression, which is not as it was written.
func plain(err error) error {
	var mistake *syntax.Error
	if errors.As(err, &mistake) {
		return errors.New(mistake.Code.String())
	}
	return err
}

// Match reports whether the expression is found in b.
func (re *Regexp) Match(b []byte, r *Reader) bool {
	if re.text != nil {
		return re.text.Match(b)
	}
	r.reset(b)
	ok := re.bytes.MatchReader(r)
	r.reset(nil)
	return ok
}

// Find returns where the first match begins and where it ends; nil for none.
func (re *Regexp) Find(b []byte, r *Reader) []int {
	r.reset(b)
	at := re.bytes.FindReaderIndex(r)
	r.reset(nil)
	return at
}

// Reader gives bytes to an expression as characters with the same numbers, for one goroutine at a time. Its zero value is ready.
type Reader struct {
	b []byte
	i int
}

func (r *Reader) reset(b []byte) { r.b, r.i = b, 0 }

// ReadRune returns the next byte, or io.EOF.
func (r *Reader) ReadRune() (rune, int, error) {
	if r.i == len(r.b) {
		return 0, 0, io.EOF
	}
	r.i++
	return rune(r.b[r.i-1]), 1, nil
}
