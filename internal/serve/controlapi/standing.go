package controlapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/control"
	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/state"
)

// What is in force, what became of it, and how it came to be.

// Resources is the list of what is in force.
type Resources struct {
	Rows []Resource `json:"rows"`
}

// Resource is one resource in force.
type Resource struct {
	Kind       string    `json:"kind"`
	Name       string    `json:"name"`
	Owner      string    `json:"owner,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Applied    time.Time `json:"applied"`
	By         string    `json:"by"`
	Generation int       `json:"generation"`
	Change     int64     `json:"change"`
	Text       string    `json:"text"`
}

func (a *API) resources(r *http.Request) (any, error) {
	list, err := a.cfg.Store.Resources(r.Context())
	if err != nil {
		return nil, err
	}
	doc := Resources{Rows: []Resource{}}
	kind, name := r.URL.Query().Get("kind"), r.URL.Query().Get("name")
	for _, s := range list {
		if kind != "" && !strings.EqualFold(kind, s.Kind) || name != "" && name != s.Name {
			continue
		}
		one := Resource{Kind: s.Kind, Name: s.Name, Applied: s.Applied, By: s.By, Generation: s.Generation, Change: s.Change, Text: s.Text}
		if set, err := policy.Parse(s.Name, []byte(s.Text)); err == nil {
			one.Owner, one.Reason = metaOf(set)
		}
		doc.Rows = append(doc.Rows, one)
	}
	return doc, nil
}

func metaOf(s *policy.Set) (owner, reason string) {
	for _, r := range s.Taps {
		return r.Owner, r.Meta.Reason
	}
	for _, r := range s.Destinations {
		return r.Owner, r.Meta.Reason
	}
	for _, r := range s.Platforms {
		return r.Owner, r.Meta.Reason
	}
	for _, r := range s.Tenants {
		return r.Owner, r.Meta.Reason
	}
	return "", ""
}

// Taps is the state of all taps.
type Taps struct {
	Rows     []TapState         `json:"rows"`
	Pending  int                `json:"pending_steps"` // until the platforms are as the policies want them
	Refusals []platform.Refusal `json:"refusals"`
	Findings []control.Finding  `json:"findings"`
	Coverage plan.Coverage      `json:"coverage"`
	Gaps     []platform.Gap     `json:"gaps"` // what was not seen of machines that have moved
}

// TapState is one tap as it is.
type TapState struct {
	plan.Tap
	Applied  time.Time                   `json:"applied"`
	By       string                      `json:"by"`
	Steps    int                         `json:"pending_steps"`
	Counters map[string]platform.Counter `json:"counters,omitempty"` // by platform and session
	Copied   platform.Counter            `json:"copied"`             // all of them
}

func (a *API) taps(r *http.Request) (any, error) {
	p, err := a.cfg.Line.Plan(r.Context(), control.Wanted{})
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Store.Resources(r.Context())
	if err != nil {
		return nil, err
	}
	doc := Taps{Rows: []TapState{}, Pending: len(p.Steps), Refusals: p.Refusals, Findings: a.cfg.Line.Findings(), Coverage: p.Coverage, Gaps: a.cfg.Line.Gaps()}
	if doc.Gaps == nil {
		doc.Gaps = []platform.Gap{}
	}
	counters := a.cfg.Line.Counters(r.Context())
	for _, t := range p.Taps {
		one := TapState{Tap: t, Counters: map[string]platform.Counter{}}
		for _, s := range list {
			if s.Kind == policy.KindTap && s.Name == t.Name {
				one.Applied, one.By = s.Applied, s.By
			}
		}
		for _, s := range p.Steps {
			if s.Policy == t.Name {
				one.Steps++
			}
		}
		for _, place := range t.Places {
			if c, ok := counters[place.Platform][place.Session]; ok {
				one.Counters[place.Platform+"/"+place.Session] = c
				one.Copied.Packets, one.Copied.Bytes, one.Copied.Drops = one.Copied.Packets+c.Packets, one.Copied.Bytes+c.Bytes, one.Copied.Drops+c.Drops
				one.Copied.At = c.At
			}
		}
		doc.Rows = append(doc.Rows, one)
	}
	return doc, nil
}

// History is a list of changes, the newest first.
type History struct {
	Rows []state.Change `json:"rows"`
}

func (a *API) history(r *http.Request) (any, error) {
	n := func(name string, fallback int64) (int64, error) {
		text := r.URL.Query().Get(name)
		if text == "" {
			return fallback, nil
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v < 1 {
			return 0, refuse(http.StatusUnprocessableEntity, "%s=%s: want a number from 1", name, text)
		}
		return v, nil
	}
	before, err := n("before", 0)
	if err != nil {
		return nil, err
	}
	limit, err := n("limit", 100)
	if err != nil {
		return nil, err
	}
	var list []state.Change
	kind, name, most := r.URL.Query().Get("kind"), r.URL.Query().Get("name"), int(min(limit, maxHistory))
	switch {
	case (kind == "") != (name == ""):
		return nil, refuse(http.StatusUnprocessableEntity, "kind=%s&name=%s: give both, or neither", kind, name)
	case kind != "":
		list, err = a.cfg.Store.ChangesOf(r.Context(), kind, name, before, most)
	default:
		list, err = a.cfg.Store.Changes(r.Context(), before, most)
	}
	if list == nil {
		list = []state.Change{}
	}
	for i := range list {
		tellTextOnly(list[i].Edits)
	}
	return History{list}, err
}

// tellTextOnly says of edits whether they mean anything: the history keeps texts alone.
func tellTextOnly(edits []state.Edit) {
	for i := range edits {
		e := &edits[i]
		e.TextOnly = e.Before != "" && e.After != "" && policy.Same(e.Before, e.After)
	}
}

// Change is one change with its journal.
type Change struct {
	state.Change
	Steps []state.Step `json:"steps"`
}

func (a *API) change(r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "change %q: want a number", r.PathValue("id"))
	}
	c, steps, err := a.cfg.Store.Change(r.Context(), id)
	if steps == nil {
		steps = []state.Step{}
	}
	tellTextOnly(c.Edits)
	return Change{c, steps}, err
}

func (a *API) schema(*http.Request) (any, error) { return policy.Schema(), nil }
