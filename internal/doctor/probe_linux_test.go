package doctor

import (
	"strings"
	"testing"
)

// The path of taps goes by what the probes found.
func TestPath(t *testing.T) {
	f := func(tcx, clsact, copies, flows string, level Level, want string) {
		t.Helper()
		r := report{}
		r.path(map[string]string{checkTCX: tcx, checkClsact: clsact, checkMirror: copies, checkFlows: flows})
		if got := r.results[0]; got.Level != level || !strings.Contains(got.Found, want) || got.Level != OK && got.Action == "" {
			t.Errorf("%+v, want %s, %q", got, level, want)
		}
	}
	f("", "", "", "", OK, "in the kernel by tcx, all else by the packet ring; flows and headers with --path")
	f("needs 6.6", "", "", "", OK, "by clsact, as TCX is missing (needs 6.6)")
	f("", "", "", "no ring", OK, "no flows or headers: no ring")
	f("", "", "no adjust_room", "", Warn, "the packet ring for all: no adjust_room")
	f("needs 6.6", "no cls_bpf", "", "", Warn, "the packet ring for all: no programs at interfaces: no cls_bpf")
}
