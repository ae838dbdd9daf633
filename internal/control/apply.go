package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/state"
)

// Outcome is what became of a change.
type Outcome struct {
	Change    int64              `json:"change,omitempty"` // number in the history; 0 when there was nothing to do
	State     string             `json:"state"`            // done, partly, failed
	Steps     int                `json:"steps"`            // done
	TookMS    int64              `json:"took_ms"`
	Platforms []PlatformOutcome  `json:"platforms"`
	Refusals  []platform.Refusal `json:"refusals"`
}

// PlatformOutcome is what became of it on one platform.
type PlatformOutcome struct {
	Platform string `json:"platform"`
	Steps    int    `json:"steps"` // done
	State    string `json:"state"` // done, rolled-back, failed (and not all could be taken back), unfinished
	Error    string `json:"error,omitempty"`
}

// Unfinished is the state of a platform where taps were to end and it is not sure that all have: nothing is made again, and the next change or
// look at the platform goes on.
const Unfinished = "unfinished"

// Author says who makes a change and why.
type Author struct {
	Who    string
	Why    string
	Action string // apply, delete, rollback, follow, repair, expire
}

// Apply does a plan: its resources are in force from now on, and its steps are done in their phases on all platforms at once. A platform
// on which a step fails goes back to where it was, the others go on; one where taps were only to end does not, as what has stopped stays so. When
// no platform could do it the resources go back too. A plan that somebody's change has overtaken is made anew, a few times.
func (l *Line) Apply(ctx context.Context, p *Plan, by Author) (*Outcome, error) {
	l.applying.Lock()
	defer l.applying.Unlock()
	unlock, err := l.cfg.Store.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.renew(ctx, p); err != nil {
		return nil, err
	}
	out := &Outcome{State: state.Done, Platforms: []PlatformOutcome{}, Refusals: p.Refusals}
	if p.Empty() {
		return out, nil
	}
	if _, err := l.cfg.Store.Interrupt(ctx); err != nil { // whoever was making them held the lock, and is gone
		return nil, err
	}
	id, err := l.cfg.Store.Begin(ctx, state.Change{At: p.input.Now, Who: by.Who, Why: by.Why, Action: by.Action, Edits: p.Edits})
	if err != nil {
		return nil, err
	}
	out.Change = id
	r := &run{line: l, change: id, plan: p}
	from := l.cfg.Now()
	r.all(ctx)
	r.summary(out)
	l.mu.Lock()
	l.changed = time.Now()
	l.mu.Unlock()
	out.TookMS = l.cfg.Now().Sub(from).Milliseconds()
	report, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	// the end is noted also when ctx has ended: what was done is done
	err = l.cfg.Store.Finish(context.WithoutCancel(ctx), id, out.State, string(report), l.cfg.Now())
	return out, err
}

// errStale says that a plan which nobody asked for does not know the newest change.
var errStale = errors.New("control: another change has been made meanwhile")

// renew plans again when another change was made since. It is called with the store's lock, so that the plan stays new.
func (l *Line) renew(ctx context.Context, p *Plan) error {
	latest, err := l.cfg.Store.Latest(ctx)
	if err != nil {
		return err
	}
	switch {
	case p.wanted == nil && (latest != p.latest || l.overtaken(p)):
		return errStale
	case latest == p.latest:
		return nil
	}
	next, err := l.Plan(ctx, *p.wanted)
	if err != nil {
		return err
	}
	*p = *next
	return nil
}

// Recover marks changes that were being made when their process ended. What they wanted is in force: the next plan completes it.
func (l *Line) Recover(ctx context.Context) (int64, error) {
	unlock, err := l.cfg.Store.Lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	return l.cfg.Store.Interrupt(ctx)
}

// Failed names the platforms that did not do it, sorted.
func (o *Outcome) Failed() (out []string) {
	for _, p := range o.Platforms {
		if p.State != "done" {
			out = append(out, p.Platform)
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}
