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

// maker makes objects together, or some of them.
type maker struct {
	ender
	makes int // of the steps that come together; -1 for all
}

func (m *maker) Make(_ context.Context, steps []platform.Step) (done int, err error) {
	text := "make"
	for _, s := range steps {
		text += " " + s.Object
	}
	m.did = append(m.did, text)
	if m.makes < 0 {
		return len(steps), nil
	}
	return m.makes, errors.New("full")
}

// does has a platform do steps, and compares what it did and what the journal says.
func does(t *testing.T, a platform.Platform, did func() []string, steps []platform.Step, journal string, want ...string) {
	t.Helper()
	line, st := emptyLine(t)
	p := &Plan{list: []*attached{{Platform: a}}, Steps: steps}
	id, err := st.Begin(t.Context(), state.Change{Who: "test", Action: "stop"})
	if err != nil {
		t.Fatal(err)
	}
	r := &run{line: line, change: id, plan: p}
	r.all(t.Context())
	if !slices.Equal(did(), want) {
		t.Errorf("did %q, want %q", did(), want)
	}
	_, noted, err := st.Change(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range noted {
		if !strings.Contains(s.Step, `"before":"was `) {
			t.Errorf("no state before in %s", s.Step)
		}
		got = append(got, fmt.Sprint(s.N, " ", s.State, " ", s.Error))
	}
	if text := strings.Join(got, ", "); text != journal {
		t.Errorf("journal: %s\nwant %s", text, journal)
	}
}

// step is one of a plan that a fake platform does.
func step(phase platform.Phase, action platform.Action, object string) platform.Step {
	return platform.Step{Platform: "h1", Phase: phase, Action: action, Object: object, Before: platform.MustJSON("was " + object)}
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

// What ends does so together where the platform can, with each step in the journal; what fails is taken back step by step.
func TestEnd(t *testing.T) {
	f := func(ended error, journal string, want ...string) {
		t.Helper()
		e := &ender{ended: ended}
		does(t, e, func() []string { return e.did }, []platform.Step{
			step(platform.PhaseSwitch, platform.Create, "new"), step(platform.PhaseCleanup, platform.Remove, "a"), step(platform.PhaseCleanup, platform.Remove, "b"),
			step(platform.PhaseCleanup, platform.Change, "c"), step(platform.PhaseCleanup, platform.Remove, "d"),
		}, journal, want...)
	}
	f(nil, "1 done , 2 done , 3 done , 4 done , 5 done ", "new", "end a b", "c", "d")
	f(errors.New("full"), "1 undone , 2 failed full, 3 failed full", "new", "end a b", "undo b", "undo a", "undo new")
	f(fmt.Errorf("denied: %w", platform.ErrDenied), "1 undone , 2 failed denied: not allowed, 3 failed denied: not allowed", "new", "end a b", "undo b", "undo a", "undo new")
}

// What begins does so together where the platform can; when it stops in the middle, what was done is taken back, and what may be half done.
func TestMake(t *testing.T) {
	f := func(makes int, journal string, want ...string) {
		t.Helper()
		m := &maker{makes: makes}
		does(t, m, func() []string { return m.did }, []platform.Step{
			step(platform.PhasePrepare, platform.Create, "way"), step(platform.PhasePrepare, platform.Change, "flows"), step(platform.PhaseSwitch, platform.Create, "mirror"),
			step(platform.PhaseCleanup, platform.Change, "c"), step(platform.PhaseCleanup, platform.Remove, "old"),
		}, journal, want...)
	}
	f(-1, "1 done , 2 done , 3 done , 4 done , 5 done ", "make way flows mirror", "c", "old")
	f(2, "1 undone , 2 undone , 3 failed full", "make way flows mirror", "undo mirror", "undo flows", "undo way")
	f(0, "1 failed full, 2 failed full, 3 failed full", "make way flows mirror", "undo mirror", "undo flows", "undo way")
}
