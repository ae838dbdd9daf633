package control

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"crosstap/internal/control/policy"
	"crosstap/internal/yamltext"
)

// Pause returns what a change must want so that taps pause, or go on: all of them when none is named.
func (l *Line) Pause(ctx context.Context, names []string, paused bool) (Wanted, error) {
	set, err := l.Set(ctx)
	if err != nil {
		return Wanted{}, err
	}
	for _, name := range names {
		if set.Tap(name) == nil {
			return Wanted{}, fmt.Errorf("%w: there is no tap %q", policy.ErrMistake, name)
		}
	}
	w := Wanted{Set: &policy.Set{}}
	for _, t := range set.Taps {
		if len(names) > 0 && !slices.Contains(names, t.Name) || t.Paused == paused {
			continue
		}
		one, err := pausedTap(t, paused)
		if err != nil {
			return w, err
		}
		w.Set = w.Set.Merged(one)
	}
	return w, nil
}

// StopAll returns what a change must want so that every tap ends: all of them paused by removing them, which Rollback undoes.
func (l *Line) StopAll(ctx context.Context) (Wanted, error) {
	set, err := l.Set(ctx)
	if err != nil {
		return Wanted{}, err
	}
	w := Wanted{Prune: true}
	for _, t := range set.Taps {
		w.Delete = append(w.Delete, policy.Resource{Kind: policy.KindTap, Name: t.Name})
	}
	return w, nil
}

// pausedTap is a tap with another spec.paused. Its text is changed in one place; where that does not do, it is written anew, without its comments.
func pausedTap(t *policy.Tap, paused bool) (*policy.Set, error) {
	where := "tap " + t.Name
	if text := withPaused(t.Text, paused); onlyPaused(t.Text, text) {
		if set, err := policy.Parse(where, []byte(text)); err == nil && set.Tap(t.Name) != nil && set.Tap(t.Name).Paused == paused {
			return set, nil
		}
	}
	text, err := rewritten(t.Text, paused)
	if err != nil {
		return nil, fmt.Errorf("control: %s: %w", where, err)
	}
	set, err := policy.Parse(where, text)
	if err == nil && (set.Tap(t.Name) == nil || set.Tap(t.Name).Paused != paused) {
		err = fmt.Errorf("control: %s: its text cannot be changed: write paused: %t into its spec and apply it", where, paused)
	}
	return set, err
}

// onlyPaused reports whether two texts differ in spec.paused at most.
func onlyPaused(a, b string) bool {
	var docs [2]map[string]any
	for i, text := range []string{a, b} {
		if err := yamltext.Decode([]byte(text), &docs[i]); err != nil {
			return false
		}
		if spec, ok := docs[i]["spec"].(map[string]any); ok {
			delete(spec, "paused")
		}
	}
	return reflect.DeepEqual(docs[0], docs[1])
}

// The line of a tap's text where spec begins: in lines below it, or between braces.
var (
	specLines  = regexp.MustCompile(`^spec:\s*(#.*)?$`)
	specBraces = regexp.MustCompile(`^spec:\s*\{`)
	pausedItem = regexp.MustCompile(`\bpaused:\s*(true|false)\s*(,\s*|\b)`)
)

// withPaused sets spec.paused in the text of a tap and leaves the rest of it, comments too: the line of spec that has it goes, and one is added as
// the first of spec, with the indent of the line that was the first. The caller looks whether that was right.
func withPaused(text string, paused bool) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	var out []string
	indent := -1 // of the keys of spec, -1 outside of it
	for i, line := range lines {
		depth := len(line) - len(strings.TrimLeft(line, " "))
		key, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case specBraces.MatchString(line):
			line = pausedItem.ReplaceAllString(line, "")
			if open := strings.IndexByte(line, '{') + 1; paused {
				line = line[:open] + "paused: true, " + line[open:]
			}
		case depth == 0 && key != "" && key[0] != '#':
			indent = -1
		case depth == indent && key == "paused":
			continue
		}
		out = append(out, line)
		if specLines.MatchString(line) {
			if indent = indentOf(lines[i+1:]); paused && indent > 0 {
				out = append(out, strings.Repeat(" ", indent)+"paused: true")
			}
		}
	}
	return strings.Join(out, "\n") + "\n"
}

// indentOf is the indent of the first of some lines that is more than a comment; -1 when there is none.
func indentOf(lines []string) int {
	for _, line := range lines {
		if word := strings.TrimLeft(line, " "); word != "" && word[0] != '#' {
			return len(line) - len(word)
		}
	}
	return -1
}

// rewritten writes a tap anew with another spec.paused, its keys in their order.
func rewritten(text string, paused bool) ([]byte, error) {
	var doc yaml.MapSlice
	if err := yaml.UnmarshalWithOptions([]byte(text), &doc, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	for i := range doc {
		spec, ok := doc[i].Value.(yaml.MapSlice)
		if doc[i].Key != "spec" || !ok {
			continue
		}
		spec = slices.DeleteFunc(spec, func(item yaml.MapItem) bool { return item.Key == "paused" })
		if paused {
			spec = append(spec, yaml.MapItem{Key: "paused", Value: true})
		}
		doc[i].Value = spec
	}
	return yaml.Marshal(doc)
}
