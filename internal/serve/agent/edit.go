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
// changes it meanwhile. change must not call the hub.
func (h *Hub) Edit(name string, change func([]tapspec.Spec) (taps []tapspec.Spec, changed bool, err error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[name]
	if e == nil {
		return fmt.Errorf("agents: %s: %w", name, ErrUnknown)
	}
	taps, changed, err := change(slices.Clone(e.Taps))
	if err != nil || !changed {
		return err
	}
	return h.put(name, e, taps)
}

// put gives an agent taps. The caller holds mu.
func (h *Hub) put(name string, e *entry, taps []tapspec.Spec) error {
	if err := tapspec.Validate(taps); err != nil {
		return err
	}
	if e.Registration != nil && !e.Payload {
		for i := range taps {
			if taps[i].Payload() && !slices.ContainsFunc(e.Taps, func(s tapspec.Spec) bool { return s.Name == taps[i].Name && s.Digest() == taps[i].Digest() }) {
				return &PayloadError{Agent: name, Tap: taps[i].Name}
			}
		}
	}
	old := e.Taps
	e.Taps = taps
	if err := h.save(); err != nil {
		e.Taps = old
		return err
	}
	h.changed()
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
