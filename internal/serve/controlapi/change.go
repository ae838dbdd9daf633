package controlapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	"crosstap/internal/control"
)

// What is planned, and what changes something.

func (a *API) plan(r *http.Request) (any, error) {
	q, w, err := a.asked(r)
	if err == nil && q.Change != 0 {
		w, err = a.cfg.Line.Rollback(r.Context(), q.Change)
		w.Force = true // nothing is changed: what it would undo is in the answer
	}
	if err != nil {
		return nil, err
	}
	return a.cfg.Line.Plan(r.Context(), w)
}

// Applied is what became of a request that changes something.
type Applied struct {
	Plan    *control.Plan    `json:"plan"`
	Outcome *control.Outcome `json:"outcome"`
}

func (a *API) apply(r *http.Request) (any, error) {
	q, w, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	action := "apply"
	if len(q.Files) == 0 && len(q.Delete) > 0 {
		action = "delete"
	}
	return a.make(r, q, w, action)
}

// make plans and applies. A client that goes away does not stop what has begun.
func (a *API) make(r *http.Request, q *Request, w control.Wanted, action string) (any, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), applyWait)
	defer cancel()
	p, err := a.cfg.Line.Plan(ctx, w)
	if err != nil {
		return nil, err
	}
	out, err := a.cfg.Line.Apply(ctx, p, control.Author{Who: cmp.Or(q.Who, "unknown"), Why: q.Why, Action: action})
	if err != nil {
		return nil, err
	}
	a.cfg.Line.Poke()
	return Applied{p, out}, nil
}

func (a *API) rollback(r *http.Request) (any, error) {
	q, err := a.read(r)
	if err != nil {
		return nil, err
	}
	w, err := a.cfg.Line.Rollback(r.Context(), q.Change)
	if err != nil {
		return nil, err
	}
	w.Force = q.Force
	q.Why = strings.TrimPrefix(fmt.Sprintf("%s; rollback of change %d", q.Why, q.Change), "; ")
	return a.make(r, q, w, "rollback")
}

func (a *API) stop(r *http.Request) (any, error) {
	q, err := a.read(r)
	if err != nil {
		return nil, err
	}
	w, err := a.cfg.Line.StopAll(r.Context())
	if err != nil {
		return nil, err
	}
	return a.make(r, q, w, "stop")
}

func (a *API) pause(paused bool) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		q, err := a.read(r)
		if err != nil {
			return nil, err
		}
		w, err := a.cfg.Line.Pause(r.Context(), q.Names, paused)
		if err != nil {
			return nil, err
		}
		return a.make(r, q, w, map[bool]string{true: "pause", false: "resume"}[paused])
	}
}
