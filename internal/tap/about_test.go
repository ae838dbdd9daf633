package tap

import (
	"testing"

	"crosstap/internal/flowproto/about"
	"crosstap/internal/tap/groom"
)

// The exporter tells how the tap chooses frames: one after so many others, or by chance.
func TestAboutSampling(t *testing.T) {
	f := func(steps string, want about.Sampling) {
		t.Helper()
		s := DefaultSpec()
		s.File, s.To = "x.pcap", []string{"null:"}
		if steps != "" {
			g, err := groom.Parse(steps)
			if err != nil {
				t.Fatal(err)
			}
			s.Groom = &g
		}
		line, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		var x about.Exporter
		if line.about(&x); x.Packets != want {
			t.Errorf("%q: %+v, want %+v", steps, x.Packets, want)
		}
	}
	f("", about.Sampling{})
	f("slice=l4+64", about.Sampling{})
	f("sample=1:10", about.Sampling{Interval: 10})
	f("sample=1:10/random", about.Sampling{Interval: 10, Random: true})
	f("sample=1:10/flow", about.Sampling{Interval: 10, Random: true})
}
