package dissect_test

import (
	"testing"

	"crosstap/internal/frame"
)

// cases are one frame for each kind of header, with the layers it must give.
var cases = []struct {
	name  string
	link  frame.LinkType
	frame string
	want  string
}{}

func TestLayers(t *testing.T) {
	for _, c := range cases {
		p := runLink(t, c.link, c.frame)
		if got := stack(p); got != c.want {
			t.Errorf("%s: layers = %s, want %s", c.name, got, c.want)
		}
	}
}
