package tap_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/ledger"
	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// TestMovedPorts has tcprewrite move tunnels to another port. When it is named they are read as where they came from: by filters, groom steps and
// the meter.
func TestMovedPorts(t *testing.T) {
	tcprewrite := testkit.Tool(t, "tcprewrite")
	f := func(capture, name, from, expr string) {
		t.Helper()
		was, moved := testkit.Corpus(t, capture), filepath.Join(t.TempDir(), "moved.pcap")
		if b, err := exec.Command(tcprewrite, "--portmap="+from+":7777", "-i", was, "-o", moved).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		books := func(path, expr string, named bool) []ledger.Statement {
			line, err := through(t, path, func(s *tap.Spec) {
				s.Filter, s.Groom, s.To = expr, &groom.Spec{Strip: &groom.Strip{Headers: groom.HeaderAll}}, []string{"null:frames", "null:"}
				if named {
					must(t, s.Tunnels.Add(name, 7777))
				}
			})
			must(t, err)
			return line.Statements()
		}
		for _, e := range []string{expr, "inner ip", ""} {
			want := books(was, e, false)
			if got := books(moved, e, true); cmp.Diff(want, got) != "" || want[len(want)-1].Out == 0 {
				t.Errorf("%s %q (-there, +moved): %s", capture, e, cmp.Diff(want, got))
			}
		}
		if got := books(moved, expr, false); got[len(got)-1].Out != 0 {
			t.Errorf("%s: found without its name: %+v", capture, got)
		}
	}
	f("tap/tcpdump/vxlan.pcap", "vxlan", "4789", "vxlan 100")
	f("tap/tcpdump/gso-ipv4-geneve-ipv4.pcap", "geneve", "6081", "geneve")
}
