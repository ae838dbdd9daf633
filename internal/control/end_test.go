package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/state"
)

// ender ends objects together, or fails to.
type ender struct {
	doer
	ended error
}

func (e *ender) End(_ context.Context, steps []platform.Step) error {
	text := "end"
	for _, s := range steps {
		text += " " + s.Object
	}
	e.did = append(e.did, text)
	return e.ended
}

func (e *ender) Undo(_ context.Context, s platform.Step) error {
	e.did = append(e.did, "undo "+s.Object)
	return nil
}

// What ends does so together where the platform can, with each step in the journal; what fails is taken back step by step.
func TestEnd(t *testing.T) {
	line, st := emptyLine(t)
	f := func(ended error, journal string, want ...string) {
		t.Helper()
		e := &ender{ended: ended}
		p := &Plan{list: []*attached{{Platform: e}}}
		step := func(phase platform.Phase, action platform.Action, object string) {
			p.Steps = append(p.Steps, platform.Step{Platform: "h1", Phase: phase, Action: action, Object: object, Before: platform.MustJSON("was " + object)})
		}
		step(platform.PhaseSwitch, platform.Create, "new")
		step(platform.PhaseCleanup, platform.Remove, "a")
		step(platform.PhaseCleanup, platform.Remove, "b")
		step(platform.PhaseCleanup, platform.Change, "c")
		step(platform.PhaseCleanup, platform.Remove, "d")
		id, err := st.Begin(t.Context(), state.Change{Who: "test", Action: "stop"})
		if err != nil {
			t.Fatal(err)
		}
		r := &run{line: line, change: id, plan: p}
		r.all(t.Context())
		if !slices.Equal(e.did, want) {
			t.Errorf("did %q, want %q", e.did, want)
		}
		_, steps, err := st.Change(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range steps {
			if !strings.Contains(s.Step, `"before":"was `) {
				t.Errorf("no state before in %s", s.Step)
			}
			got = append(got, fmt.Sprint(s.N, " ", s.State, " ", s.Error))
		}
		if text := strings.Join(got, ", "); text != journal {
			t.Errorf("journal: %s\nwant %s", text, journal)
		}
	}
	f(nil, "1 done , 2 done , 3 done , 4 done , 5 done ", "new", "end a b", "c", "d")
	f(errors.New("full"), "1 undone , 2 failed full, 3 failed full", "new", "end a b", "undo b", "undo a", "undo new")
	f(fmt.Errorf("denied: %w", platform.ErrDenied), "1 undone , 2 failed denied: not allowed, 3 failed denied: not allowed", "new", "end a b", "undo b", "undo a", "undo new")
}
