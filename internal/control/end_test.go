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

// What is to end is never made again, whatever its switch says.
func TestOnlyEnds(t *testing.T) {
	line, st := emptyLine(t)
	f := func(ended error, changes string, platformState, journal string) {
		t.Helper()
		e := &ender{ended: ended}
		p := &Plan{list: []*attached{{Platform: e}}}
		for _, object := range []string{"a", "b"} {
			p.Steps = append(p.Steps, platform.Step{Platform: "h1", Phase: platform.PhaseCleanup, Action: platform.Remove, Object: object, Before: platform.MustJSON("was " + object)})
		}
		id, err := st.Begin(t.Context(), state.Change{Who: "test", Action: "stop"})
		if err != nil {
			t.Fatal(err)
		}
		r, out := &run{line: line, change: id, plan: p}, &Outcome{State: state.Done}
		r.all(t.Context())
		r.summary(out)
		if !slices.Equal(e.did, []string{"end a b"}) || out.State != changes || out.Platforms[0].State != platformState {
			t.Errorf("did %q, %+v", e.did, out)
		}
		_, steps, err := st.Change(t.Context(), id)
		if err != nil || len(steps) != 2 || steps[0].State != journal || steps[1].State != journal {
			t.Errorf("journal %+v, %v", steps, err)
		}
	}
	f(nil, state.Done, "done", "done")
	f(fmt.Errorf("h1: %w", platform.ErrUnreachable), state.Partly, Unfinished, "failed")
	f(errors.New("full"), state.Partly, Unfinished, "failed")
}

// beginner begins objects together, as many as follow each other with the same first letter.
type beginner struct{ ender }

func (b *beginner) Together(next []platform.Step) int {
	n := 1
	for n < len(next) && next[n].Phase == next[0].Phase && next[n].Object[0] == next[0].Object[0] {
		n++
	}
	return n
}

func (b *beginner) Begin(_ context.Context, steps []platform.Step) error {
	text := "begin"
	for _, s := range steps {
		text += " " + s.Object
	}
	b.did = append(b.did, text)
	return b.ended
}

// What begins does so together where the platform can.
func TestBegin(t *testing.T) {
	line, st := emptyLine(t)
	f := func(fails error, journal string, want ...string) {
		t.Helper()
		b := &beginner{ender{ended: fails}}
		p := &Plan{list: []*attached{{Platform: b}}}
		for _, object := range []string{"a1", "b1", "b2"} {
			p.Steps = append(p.Steps, platform.Step{Platform: "h1", Phase: platform.PhasePrepare, Action: platform.Create, Object: object})
		}
		for _, object := range []string{"b3", "b4"} {
			p.Steps = append(p.Steps, platform.Step{Platform: "h1", Phase: platform.PhaseSwitch, Action: platform.Create, Object: object})
		}
		id, err := st.Begin(t.Context(), state.Change{Who: "test", Action: "resume"})
		if err != nil {
			t.Fatal(err)
		}
		r := &run{line: line, change: id, plan: p}
		r.all(t.Context())
		if !slices.Equal(b.did, want) {
			t.Errorf("did %q, want %q", b.did, want)
		}
		_, steps, err := st.Change(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range steps {
			got = append(got, s.State)
		}
		if text := strings.Join(got, " "); text != journal {
			t.Errorf("journal: %s, want %s", text, journal)
		}
	}
	f(nil, "done done done done done", "a1", "begin b1 b2", "begin b3 b4")
	f(errors.New("full"), "undone failed failed", "a1", "begin b1 b2", "undo b2", "undo b1", "undo a1")
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
