// Package controlapi is the control line over HTTP, under /api/v1/control/: policies, plans, changes, history and inventory as JSON. The
// command line uses the same handler, of a server or of its own process.
package controlapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// Config says what the API answers from.
type Config struct {
	Line  *control.Line
	Store *state.Store
	// Who names the author of a request; nil takes what the request says, which is right where only one user can reach the API.
	Who func(*http.Request) string
	Log *slog.Logger
}

// Limits of requests.
const (
	maxBody    = 32 << 20
	applyWait  = 10 * time.Minute
	maxHistory = 1000
)

// statusClientGone is the status of a request whose client went away before it was answered, as nginx has it.
const statusClientGone = 499

// API is the handler. It is safe for concurrent use.
type API struct {
	cfg Config
	mux *http.ServeMux
}

// New returns an API without side effects.
func New(cfg Config) *API {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	for _, r := range a.routes() {
		a.mux.HandleFunc(r.method+" "+r.path, a.answer(r.answer))
	}
	return a
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Request is what is to be planned or applied.
type Request struct {
	Files  []File            `json:"files,omitempty"`  // resources
	Delete []policy.Resource `json:"delete,omitempty"` // by kind and name
	Prune  bool              `json:"prune,omitempty"`
	Who    string            `json:"who,omitempty"`
	Why    string            `json:"why,omitempty"`
	Change int64             `json:"change,omitempty"` // of rollback, and of the plan of one
	Force  bool              `json:"force,omitempty"`  // of rollback: undo later edits, too
	Names  []string          `json:"names,omitempty"`  // of pause and resume; none for all
}

// File is a text with resources.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// problem is an answer that says why there is none (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Later are the edits that a rollback would undo, too.
	Later []control.Later `json:"later,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func refuse(status int, format string, args ...any) error {
	return &problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// answer writes what f returns.
func (a *API) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(applyWait + time.Minute)) // where there is one
		}
		doc, err := f(r)
		if err != nil && errors.Is(r.Context().Err(), context.Canceled) {
			w.WriteHeader(statusClientGone) // for whoever counts answers: nobody reads this one
			return
		}
		if err != nil {
			a.failed(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if raw, ok := doc.([]byte); ok {
			_, _ = w.Write(raw)
			return
		}
		_ = json.NewEncoder(w).Encode(doc) // the client is gone: nobody to tell
	}
}

func (a *API) failed(w http.ResponseWriter, err error) {
	var p *problem
	var mistake *policy.Error
	var later *control.LaterError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &later):
		p = &problem{Status: http.StatusConflict, Detail: err.Error(), Later: later.Later}
	case errors.As(err, &mistake), strings.HasPrefix(err.Error(), "policy: "), errors.Is(err, control.ErrNoEdit):
		p = &problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	case errors.Is(err, state.ErrNone):
		p = &problem{Status: http.StatusNotFound, Detail: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		p = &problem{Status: http.StatusGatewayTimeout, Detail: err.Error()}
	case errors.Is(err, platform.ErrDenied):
		p = &problem{Status: http.StatusForbidden, Detail: err.Error()}
	default:
		a.cfg.Log.Error("control request failed", "err", err)
		p = &problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	}
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nobody to tell
}

// read reads the body of a request, strictly.
func (a *API) read(r *http.Request) (*Request, error) {
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		return nil, refuse(http.StatusUnsupportedMediaType, "content type %q: want application/json", kind)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(b) > maxBody {
		return nil, refuse(http.StatusRequestEntityTooLarge, "a request has at most %d bytes", maxBody)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	var q Request
	if err := d.Decode(&q); err != nil {
		return nil, refuse(http.StatusBadRequest, "body: %v", err)
	}
	if a.cfg.Who != nil {
		q.Who = a.cfg.Who(r)
	}
	return &q, nil
}

// wanted reads the files of a request.
func (q *Request) wanted() (control.Wanted, error) {
	w := control.Wanted{Set: &policy.Set{}, Delete: q.Delete, Prune: q.Prune}
	for _, f := range q.Files {
		one, err := policy.Parse(f.Name, []byte(f.Text))
		if err != nil {
			return w, err
		}
		w.Set = w.Set.Merged(one)
	}
	return w, nil
}

// asked reads a request, and what its files want.
func (a *API) asked(r *http.Request) (*Request, control.Wanted, error) {
	q, err := a.read(r)
	if err != nil {
		return nil, control.Wanted{}, err
	}
	w, err := q.wanted()
	return q, w, err
}

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
