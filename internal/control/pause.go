package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Pause returns what a change must want so that taps pause, or go on: all of them when none is named.
func (l *Line) Pause(ctx context.Context, names []string, paused bool) (Wanted, error) {
	set, err := l.Set(ctx)
	if err != nil {
		return Wanted{}, err
	}
	for _, name := range names {
		if set.Tap(name) == nil {
			return Wanted{}, fmt.Errorf("policy: there is no tap %q", name)
		}
	}
	w := Wanted{Set: &policy.Set{}}
	for _, t := range set.Taps {
		if len(names) > 0 && !slices.Contains(names, t.Name) || t.Paused == paused {
			continue
		}
		one, err := policy.Parse("tap "+t.Name, []byte(withPaused(t.Text, paused)))
		if err != nil {
			return w, err
		}
		w.Set = w.Set.Merged(one)
	}
	return w, nil
}

// withPaused sets spec.paused in the text of a tap: the line that has it goes, and one is added as the first of spec, with the indent of
// the line that was the first.
func withPaused(text string, paused bool) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	var out []string
	for i, line := range lines {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && key == "paused" {
			continue
		}
		out = append(out, line)
		if paused && strings.TrimRight(line, " ") == "spec:" && i+1 < len(lines) {
			next := lines[i+1]
			out = append(out, next[:len(next)-len(strings.TrimLeft(next, " "))]+"paused: true")
		}
	}
	return strings.Join(out, "\n") + "\n"
}

// Counters returns what the sessions of each platform have copied; platforms that do not answer are missing.
func (l *Line) Counters(ctx context.Context) map[string]map[string]platform.Counter {
	l.mu.Lock()
	var list []*attached
	for _, a := range l.platforms {
		list = append(list, a)
	}
	l.mu.Unlock()
	found := make([]map[string]platform.Counter, len(list))
	each(list, func(i int, a *attached) {
		ctx, cancel := context.WithTimeout(ctx, readWait)
		defer cancel()
		counters, err := a.Counters(ctx, l.cfg.Owner)
		if err != nil {
			l.log.Warn("no counters", "platform", a.Name(), "err", err)
			return
		}
		found[i] = counters
	})
	out := map[string]map[string]platform.Counter{}
	for i, a := range list {
		if found[i] != nil {
			out[a.Name()] = found[i]
		}
	}
	return out
}
