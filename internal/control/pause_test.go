package control

import (
	"strings"
	"testing"

	"crosstap/internal/control/policy"
)

// However a tap is written, it pauses and goes on, and nothing else of it changes.
func TestPausedTap(t *testing.T) {
	f := func(spec, paused string) {
		t.Helper()
		const head = "apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: web\n  labels:\n    paused: x\n"
		set, err := policy.Parse("f", []byte(head+spec))
		if err != nil {
			t.Fatal(err)
		}
		old := set.Tap("web")
		for _, want := range []bool{true, true, false, true, false} {
			if set, err = pausedTap(set.Tap("web"), want); err != nil {
				t.Fatal(err)
			}
			now := set.Tap("web")
			if now.Paused != want || now.Select.Text != old.Select.Text || now.Labels["paused"] != "x" || now.Slice != old.Slice || len(now.Destinations) != 1 {
				t.Errorf("%v:\n%s", want, now.Text)
			}
			if want && !strings.Contains(now.Text, paused) {
				t.Errorf("paused:\n%s\nwant\n%s", now.Text, paused)
			}
		}
	}
	f("spec:\n  select: 'vm = web-1'\n  destinations: [ids]\n", "spec:\n  paused: true\n  select: 'vm = web-1'\n")
	f("spec:\n    paused: false\n    select: 'vm = web-1'\n    destinations: [ids]\n", "spec:\n    paused: true\n    select")
	f("spec: {select: 'vm = web-1', destinations: [ids]}\n", "paused: true")
	f("spec: {paused: false, select: 'vm = web-1', slice: 64, destinations: [ids]}\n", "slice: 64")
	f("spec: # of the shop\n  select: {vms: [web-1]}\n  destinations:\n  - ids\n", "spec: # of the shop\n  paused: true\n")
	f("spec:\n\n# left\n      # right\n  select: 'vm = web-1' # INC-1\n  destinations: [ids]\n", "spec:\n  paused: true\n\n# left\n      # right\n  select: 'vm = web-1' # INC-1\n")
	f("spec: {select: 'vm = web-1', destinations: [ids]} # INC-1\n", "spec: {paused: true, select: 'vm = web-1', destinations: [ids]} # INC-1\n")
	f("spec: {select: {tags: {paused: true}}, destinations: [ids]}\n", "tags:\n      paused: true")
}
