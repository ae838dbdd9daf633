package byteregexp

import (
	"regexp"
	"testing"
)

func TestReader(t *testing.T) {
	f := func(pattern, in string, from, to int) {
		t.Helper()
		var r Reader
		r.Reset([]byte(in))
		got := regexp.MustCompile(Escaped(pattern)).FindReaderIndex(&r)
		if from < 0 {
			if got != nil {
				t.Errorf("%q finds %v in %q", pattern, got, in)
			}
			return
		}
		if len(got) != 2 || got[0] != from || got[1] != to {
			t.Errorf("%q finds %v in %q, want %d to %d", pattern, got, in, from, to)
		}
	}
	f(`\xff.`, "a\xff\xfeb", 1, 3)
	f(`é`, "caf\xc3\xa9", 3, 5)
	f(`é`, "caf\xe9", -1, 0)
	f(`é+`, "\xc3\xa9\xc3\xa9!", 0, 4)
	f(`b`, "abc", 1, 2)
	f(`b`, "", -1, 0)
}
