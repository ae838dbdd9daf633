package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/control/platform"
	"crosstap/internal/tapspec"
)

// read reads what a step is about.
func read(s platform.Step) (do doing, was *tapspec.Spec, err error) {
	if err := json.Unmarshal(s.Do, &do); err != nil {
		return do, nil, fmt.Errorf("agents: step %q: %w", s.Summary, err)
	}
	if len(s.Before) > 0 {
		was = new(tapspec.Spec)
		if err := json.Unmarshal(s.Before, was); err != nil {
			return do, nil, fmt.Errorf("agents: step %q: %w", s.Summary, err)
		}
	}
	return do, was, nil
}

// Apply implements platform.Platform. An agent that is online has to report that the tap captures; one that is away gets it when it comes.
func (p *Platform) Apply(ctx context.Context, s platform.Step) error {
	do, was, err := read(s)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if do.Set == nil {
		return explain(do.Agent, gone(p.desk.Edit(do.Agent, func(taps []tapspec.Spec) ([]tapspec.Spec, bool, error) { return removed(taps, do.Remove, was) })))
	}
	if err := p.there(do.Agent, do.Set); err != nil {
		return explain(do.Agent, err)
	}
	spec := *do.Set
	spec.TTL = left(do.Expires)
	err = p.desk.Edit(do.Agent, func(taps []tapspec.Spec) ([]tapspec.Spec, bool, error) { return set(taps, &spec, was) })
	if err != nil {
		return explain(do.Agent, err)
	}
	return explain(do.Agent, p.confirmed(ctx, do.Agent, spec.Name))
}

// there reports an agent, or an interface of it, that has gone.
func (p *Platform) there(name string, s *tapspec.Spec) error {
	a, known := p.desk.Agent(name)
	if !known {
		return unknown(name)
	}
	for _, want := range s.Source.Interfaces {
		if !slices.ContainsFunc(a.Interfaces, func(i agentapi.Interface) bool { return i.Name == want }) {
			return fmt.Errorf("interface %s: %w", want, platform.ErrGone)
		}
	}
	return nil
}

// gone takes a tap of an agent that is not known as removed.
func gone(err error) error {
	if errors.Is(err, platform.ErrGone) {
		return nil
	}
	return err
}

func explain(agent string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("agents: %s: %w", agent, err)
}

// left is how long a tap has to live, in whole seconds; 0 for ever.
func left(expiresS int64) tapspec.Duration {
	if expiresS == 0 {
		return 0
	}
	return tapspec.Duration(max(time.Until(time.Unix(expiresS, 0)).Truncate(time.Second), time.Second))
}

func find(taps []tapspec.Spec, name string) int {
	return slices.IndexFunc(taps, func(s tapspec.Spec) bool { return s.Name == name })
}

// set puts a tap in the place of what it was planned on.
func set(taps []tapspec.Spec, want, was *tapspec.Spec) ([]tapspec.Spec, bool, error) {
	i := find(taps, want.Name)
	switch {
	case i < 0 && was != nil:
		return nil, false, fmt.Errorf("%w: tap %s has gone", platform.ErrChanged, want.Name)
	case i < 0:
		return append(slices.Clone(taps), *want), true, nil
	case encode(&taps[i]) == encode(want):
		return taps, false, nil
	case markOf(&taps[i]).Owner != markOf(want).Owner:
		return nil, false, fmt.Errorf("%w: somebody else has tap %s", platform.ErrChanged, want.Name)
	case was == nil || encode(&taps[i]) != encode(was):
		return nil, false, fmt.Errorf("%w: tap %s: %s", platform.ErrChanged, want.Name, differ(&taps[i], want))
	}
	taps = slices.Clone(taps)
	taps[i] = *want
	return taps, true, nil
}

// removed takes a tap away. One that has become somebody else's stays.
func removed(taps []tapspec.Spec, name string, was *tapspec.Spec) ([]tapspec.Spec, bool, error) {
	i := find(taps, name)
	if i < 0 || was == nil || markOf(&taps[i]).Owner != markOf(was).Owner {
		return taps, false, nil
	}
	return slices.Delete(slices.Clone(taps), i, i+1), true, nil
}

// Undo implements platform.Platform.
func (p *Platform) Undo(ctx context.Context, s platform.Step) error {
	do, was, err := read(s)
	if err != nil {
		return err
	}
	err = p.desk.Edit(do.Agent, func(taps []tapspec.Spec) ([]tapspec.Spec, bool, error) { return undone(taps, &do, was) })
	return explain(do.Agent, gone(err))
}

// undone is what was there before a step.
func undone(taps []tapspec.Spec, do *doing, was *tapspec.Spec) ([]tapspec.Spec, bool, error) {
	switch {
	case do.Set == nil && was != nil && find(taps, was.Name) < 0:
		return append(slices.Clone(taps), *was), true, nil
	case do.Set == nil:
		return taps, false, nil
	}
	i := find(taps, do.Set.Name)
	if i < 0 || encode(&taps[i]) != encode(do.Set) {
		return taps, false, nil // never done, or somebody else's by now
	}
	taps = slices.Clone(taps)
	if was == nil {
		return slices.Delete(taps, i, i+1), true, nil
	}
	taps[i] = *was
	return taps, true, nil
}

// lookEvery is how often it is looked whether an agent has reported.
const lookEvery = 50 * time.Millisecond

// confirmed waits until an agent reports that a tap runs as it was given. What it refuses, or cannot start, is an error.
func (p *Platform) confirmed(ctx context.Context, name, tap string) error {
	w := waiting{tap: tap}
	for end := time.Now().Add(p.confirm); ; {
		a, known := p.desk.Agent(name)
		if !known {
			return unknown(name)
		}
		if done, err := w.look(&a); done {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: tap %s does not run after %v%s", platform.ErrUnreachable, tap, p.confirm, w.why)
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// waiting is what is known while a tap is waited for.
type waiting struct {
	tap   string
	why   string    // it does not run
	first time.Time // report of an agent that knows what it was given
}

// look reports whether there is nothing more to wait for.
func (w *waiting) look(a *Agent) (done bool, err error) {
	i := find(a.Given, w.tap)
	switch {
	case i < 0:
		return true, fmt.Errorf("%w: tap %s was taken away again", platform.ErrChanged, w.tap)
	case !a.Online:
		return true, nil
	case !a.Current:
		return false, nil
	}
	if w.first.IsZero() {
		w.first = a.Reported
	}
	for _, t := range a.Taps {
		if t.Name != w.tap {
			continue
		}
		if w.why = ""; t.Error != "" {
			w.why = ": " + t.Error
		}
		switch t.State {
		case agentapi.StateRunning:
			return t.Digest == a.Given[i].Digest(), nil
		case agentapi.StateRefused: // what it was before it has tried may be in its first report
			if a.Reported.After(w.first) {
				return true, fmt.Errorf("%w: the agent refuses it: %s", platform.ErrDenied, t.Error)
			}
		}
	}
	return false, nil
}
