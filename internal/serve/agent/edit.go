package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/tapspec"
)

// ErrUnknown says that there is no agent of a name.
var ErrUnknown = errors.New("there is no such agent")

// Edit changes what an agent is given: change gets that, and returns what it shall be and whether that is something else. Nobody else
// changes it meanwhile. change must not call the hub. Edits that come at the same time are saved together.
func (h *Hub) Edit(name string, change func([]tapspec.Spec) (taps []tapspec.Spec, changed bool, err error)) error {
	undo, number, err := h.edit(name, change)
	if err != nil || undo == nil {
		return err
	}
	h.saving.Lock()
	defer h.saving.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saved >= number {
		return nil // together with somebody else's
	}
	if err := h.save(); err != nil {
		undo()
		return err
	}
	h.saved = h.edited
	h.changed()
	return nil
}

// edit changes what an agent is given, in memory, and returns what takes that back and the edit's number; nil when nothing changes.
func (h *Hub) edit(name string, change func([]tapspec.Spec) ([]tapspec.Spec, bool, error)) (undo func(), number uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[name]
	if e == nil {
		return nil, 0, fmt.Errorf("agents: %s: %w", name, ErrUnknown)
	}
	old := e.Taps
	taps, changed, err := change(slices.Clone(old))
	if err != nil || !changed {
		return nil, 0, err
	}
	if err := e.may(name, taps); err != nil {
		return nil, 0, err
	}
	e.Taps = taps
	h.edited++
	return func() { e.Taps = old }, h.edited, nil
}

// may reports what an agent cannot be given. What it has stays allowed: its own rules keep it from running.
func (e *entry) may(name string, taps []tapspec.Spec) error {
	if err := tapspec.Validate(taps); err != nil {
		return err
	}
	if e.Registration == nil || e.Payload {
		return nil
	}
	for i := range taps {
		if taps[i].Payload() && !slices.ContainsFunc(e.Taps, func(s tapspec.Spec) bool { return s.Name == taps[i].Name && s.Digest() == taps[i].Digest() }) {
			return &PayloadError{Agent: name, Tap: taps[i].Name}
		}
	}
	return nil
}

// Reported returns when an agent has reported last, by its own clock; false before the first time.
func (h *Hub) Reported(name string) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.agents[name]; e != nil && e.report != nil {
		return e.report.Time, true
	}
	return time.Time{}, false
}
