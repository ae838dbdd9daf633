package plan

import (
	"strings"
	"testing"

	"crosstap/internal/control/platform"
)

// A switch that can leave nothing out and copies a packet at both of its ends, as distributed ones do.
func TestOnceWhereNothingIsLeftOut(t *testing.T) {
	plain := capable
	plain.ExceptMACs, plain.OncePerPair = false, false
	w := &world{}
	h1, h2 := w.host("h1", plain), w.host("h2", plain)
	w.port(h1, "a", platform.PortVM, 1)
	w.port(h1, "b", platform.PortVM, 1)
	w.port(h2, "c", platform.PortVM, 1)
	f := func(spec, want string, refused, once bool) {
		t.Helper()
		p := w.build(t, ids+"Tap x destinations: [ids], "+spec)
		if text(p) != want || (len(p.Refusals) > 0) != refused || !refused && p.Taps[0].Copies.Once != once {
			t.Errorf("%s: %q, refusals %+v, copies %+v", spec, text(p), p.Refusals, p.Taps[0].Copies)
		}
		if refused && !strings.Contains(p.Refusals[0].Fix, "direction: ingress") {
			t.Errorf("%s: the way out is %q", spec, p.Refusals[0].Fix)
		}
	}
	f(`select: {vms: [a]}`, "h1: a↕ > ids", false, true) // one machine alone never gets its own packets
	f(`select: {vms: [a, b]}`, "", true, false)
	f(`select: {vms: [a, c]}`, "", true, false)
	f(`select: {vms: [a, b, c]}, direction: ingress`, "h1: a↑ b↑ > ids\nh2: c↑ > ids", false, true)
	f(`select: {vms: [a, b]}, allow: [copied-twice]`, "h1: a↕ b↕ > ids", false, false)
}
