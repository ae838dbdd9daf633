package controlapi

import (
	"net/http"
	"net/url"
	"strconv"

	"crosstap/internal/control/plan"
	"crosstap/internal/control/policy"
)

// Rows of what a selector finds.
const (
	usualMatches = 200
	maxMatches   = 10_000
)

// Matches is what a selector finds now.
type Matches struct {
	plan.Matches
	Lost []string `json:"lost"` // platforms that do not answer: what they have is not looked at, or old
}

// match says what a selector would choose, for whoever is still writing it.
func (a *API) match(r *http.Request) (any, error) { return a.find(r, nil) }

// matchWith is match with resources that are not in force.
func (a *API) matchWith(r *http.Request) (any, error) {
	_, w, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	return a.find(r, w.Set)
}

func (a *API) find(r *http.Request, with *policy.Set) (any, error) {
	q := r.URL.Query()
	t, err := sketch(q)
	if err != nil {
		return nil, err
	}
	most := usualMatches
	if text := q.Get("limit"); text != "" {
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > maxMatches {
			return nil, refuse(http.StatusUnprocessableEntity, "limit=%s: want a number from 1 to %d", text, maxMatches)
		}
	}
	found, lost, err := a.cfg.Line.Match(r.Context(), t, most, with)
	if lost == nil {
		lost = []string{}
	}
	if found.Rows == nil {
		found.Rows = []plan.Match{}
	}
	return Matches{found, lost}, err
}

// sketch is a tap of which only that is known which decides what it may see.
func sketch(q url.Values) (*policy.Tap, error) {
	t := &policy.Tap{Tenant: q.Get("tenant"), Destinations: q["destination"]}
	for _, s := range q["allow"] {
		t.Allow = append(t.Allow, policy.Allowance(s))
	}
	var err error
	if t.Select, err = policy.ParseSelector(q.Get("select")); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "select: %v", err)
	}
	if t.Exclude, err = policy.ParseSelector(q.Get("exclude")); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "exclude: %v", err)
	}
	return t, nil
}
