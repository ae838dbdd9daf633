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
	"strings"
	"time"

	"crosstap/internal/control"
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
	var later *control.LaterError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &later):
		p = &problem{Status: http.StatusConflict, Detail: err.Error(), Later: later.Later}
	case errors.Is(err, policy.ErrMistake), errors.Is(err, control.ErrNoEdit):
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
