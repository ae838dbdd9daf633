package control

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/state"
)

// doer notes the steps that it is to do.
type doer struct {
	platform.Platform
	did []string
}

func (d *doer) Name() string { return "h1" }

func (d *doer) Apply(_ context.Context, s platform.Step) error {
	d.did = append(d.did, s.Object)
	return nil
}

// emptyLine is a line without platforms, and its state.
func emptyLine(t *testing.T) (*Line, *state.Store) {
	t.Helper()
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	line, err := New(Config{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	return line, st
}

// While a machine that has come waits for its copies, what begins is done and what ends is left for later.
func TestUrgent(t *testing.T) {
	line, st := emptyLine(t)
	f := func(urgent func() bool, left bool, want ...string) {
		t.Helper()
		d := &doer{}
		p := &Plan{urgent: urgent, list: []*attached{{Platform: d}}}
		for phase, object := range map[platform.Phase]string{platform.PhasePrepare: "way", platform.PhaseSwitch: "mirror", platform.PhaseCleanup: "old"} {
			p.Steps = append(p.Steps, platform.Step{Platform: "h1", Phase: phase, Object: object})
		}
		platform.SortSteps(p.Steps)
		id, err := st.Begin(t.Context(), state.Change{Who: "test", Action: "follow"})
		if err != nil {
			t.Fatal(err)
		}
		r := &run{line: line, change: id, plan: p}
		r.all(t.Context())
		if !slices.Equal(d.did, want) || p.left != left {
			t.Errorf("did %v, left something: %v; want %v, %v", d.did, p.left, want, left)
		}
	}
	f(nil, false, "way", "mirror", "old")
	f(func() bool { return false }, false, "way", "mirror", "old")
	f(func() bool { return true }, true, "way", "mirror")
}
