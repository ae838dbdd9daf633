// Package control is the control line: inventory → policy → plan → apply → watch. A Line knows the platforms; what shall be seen is in
// resources that a store keeps. Reading and planning touch nothing; applying keeps a journal, makes before it breaks, reads back, and
// takes back what it did on a platform where a step fails.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/state"
)

// DefaultOwner is the owner in the marks of a control line that was given no other.
const DefaultOwner = "crosstap"

// Config says what a Line is.
type Config struct {
	Owner   string // in all marks; lines with different owners leave each other's objects alone
	Store   *state.Store
	Connect Connect    // makes a platform of a resource; required when there are Platform resources
	Rates   plan.Rates // nil: rates are not known
	Log     *slog.Logger
	Now     func() time.Time // nil for time.Now
}

// Connect makes a platform of its resource. It opens nothing yet.
type Connect func(*policy.Platform) (platform.Platform, error)

// Line is a control line. Its methods are safe for concurrent use; one change is applied at a time.
type Line struct {
	cfg Config
	log *slog.Logger

	applying sync.Mutex // held while steps are done

	mu        sync.Mutex
	platforms map[string]*attached // by name, those of resources and those that Own has added
	findings  map[string]Finding   // by platform and object
	poke      chan struct{}        // of Run
	gaps      []platform.Gap       // the newest last
	changed   time.Time            // when the last change of this process ended
}

// New returns a line. It opens nothing.
func New(c Config) (*Line, error) {
	if c.Owner == "" {
		c.Owner = DefaultOwner
	}
	for _, r := range c.Owner {
		if r <= ' ' || r == '=' || r > '~' {
			return nil, fmt.Errorf("control: owner %q: letters, digits, - and . only", c.Owner)
		}
	}
	if c.Store == nil {
		return nil, errors.New("control: no store")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Line{cfg: c, log: c.Log, platforms: map[string]*attached{}, findings: map[string]Finding{}}, nil
}

// Close closes the platforms.
func (l *Line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, a := range l.platforms {
		errs = append(errs, a.close())
		delete(l.platforms, name)
	}
	return errors.Join(errs...)
}

// Set returns the resources in force.
func (l *Line) Set(ctx context.Context) (*policy.Set, error) {
	set, _, err := l.load(ctx)
	return set, err
}

// load returns the resources in force, and when each tap was applied.
func (l *Line) load(ctx context.Context) (*policy.Set, map[string]time.Time, error) {
	list, err := l.cfg.Store.Resources(ctx)
	if err != nil {
		return nil, nil, err
	}
	set, applied := &policy.Set{}, map[string]time.Time{}
	for _, r := range list {
		one, err := policy.Parse(r.Kind+" "+r.Name+" in the store", []byte(r.Text))
		if err != nil {
			return nil, nil, err
		}
		set = set.Merged(one)
		if r.Kind == policy.KindTap {
			applied[r.Name] = r.Applied
		}
	}
	return set, applied, nil
}

// maxGaps bounds the gaps that are remembered.
const maxGaps = 1000

// gap remembers what was not seen of a machine that has moved.
func (l *Line) gap(g platform.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, g)
	if n := len(l.gaps); n > maxGaps {
		l.gaps = slices.Delete(l.gaps, 0, n-maxGaps)
	}
}

// Gaps returns what was not seen of machines that have moved, the newest last.
func (l *Line) Gaps() []platform.Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.gaps)
}

// Inventory returns what there is: from the watches when they run, else read now.
func (l *Line) Inventory(ctx context.Context) ([]*platform.Snapshot, error) {
	set, _, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	return l.inventory(ctx, set)
}

// inventory is Inventory of the platforms of a set.
func (l *Line) inventory(ctx context.Context, set *policy.Set) ([]*platform.Snapshot, error) {
	list, err := l.attach(set)
	if err != nil {
		return nil, err
	}
	var out []*platform.Snapshot
	for _, a := range list {
		if seen := a.seen(); seen != nil {
			out = append(out, seen)
		}
	}
	if len(out) == len(list) {
		return out, nil
	}
	return l.read(ctx, list), nil
}

// Wanted is what a caller wants to change.
type Wanted struct {
	Set    *policy.Set       // added, or in the place of those with the same names
	Delete []policy.Resource // removed, by kind and name
	Prune  bool              // remove objects with the owner's mark that no policy in force explains
	Force  bool              // of a rollback: undo later edits, too

	back *state.Change // that is rolled back
}

// Plan is a plan with its steps.
type Plan struct {
	*plan.Plan
	Steps   []platform.Step `json:"steps"`
	Edits   []state.Edit    `json:"edits"`             // of resources
	Removed []string        `json:"removed,omitempty"` // taps that end
	Undoes  []Later         `json:"undoes,omitempty"`  // later edits, of a rollback

	wanted    *Wanted     // nil for what nobody asked for
	latest    int64       // newest change that the plan knows
	set       *policy.Set // that will be in force
	list      []*attached
	snapshots []*platform.Snapshot
	readAt    map[string]time.Time // platforms that were read for the plan, of one that nobody asked for
	urgent    func() bool          // of such a plan: what begins elsewhere is waiting, what ends may end later
	left      bool                 // something was left for later
	input     plan.Input
}

// Plan works out what a change would do. It touches nothing.
func (l *Line) Plan(ctx context.Context, w Wanted) (*Plan, error) {
	latest, err := l.cfg.Store.Latest(ctx)
	if err != nil {
		return nil, err
	}
	now, applied, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	next := now.Without(w.Delete)
	if w.Set != nil {
		next = next.Merged(w.Set)
	}
	if err := next.Check(); err != nil {
		return nil, err
	}
	p := &Plan{wanted: &w, latest: latest, set: next, Edits: edits(now, next)}
	if w.back != nil {
		if p.Undoes, err = l.undoes(ctx, w.back, now); err != nil {
			return nil, err
		}
		if len(p.Undoes) > 0 && !w.Force {
			return nil, &LaterError{w.back.ID, p.Undoes}
		}
	}
	// platforms that go are still needed once: to take away what is there
	if p.list, err = l.attach(now.Merged(next)); err != nil {
		return nil, err
	}
	p.snapshots = l.read(ctx, p.list)
	p.input = plan.Input{Owner: l.cfg.Owner, Set: next, Was: now, Rates: l.cfg.Rates, Applied: applied, Prune: w.Prune, Advise: true, Now: l.now()}
	if p.input.Known, err = l.cfg.Store.Ever(ctx, policy.KindTap); err != nil {
		return nil, err
	}
	for _, t := range next.Taps { // a tap that changes begins to live anew
		if old := now.Tap(t.Name); old == nil || !policy.Same(old.Text, t.Text) {
			delete(p.input.Applied, t.Name)
		}
	}
	for _, t := range now.Taps {
		if next.Tap(t.Name) == nil {
			p.Removed = append(p.Removed, t.Name)
		}
	}
	l.work(p)
	l.privileges(ctx, p)
	l.tellRefused(p)
	return p, nil
}

// tellRefused says of taps that their platforms refuse, and of which nothing exists, that they are refused: Build has not asked them.
func (l *Line) tellRefused(p *Plan) {
	refused := map[string]bool{}
	for _, r := range p.Refusals {
		refused[r.Policy] = true
	}
	for _, s := range p.Steps {
		refused[s.Policy] = refused[s.Policy] && s.Action == platform.Remove
	}
	for _, s := range p.input.Snapshots {
		for _, o := range s.Objects {
			if o.Mark.Owner == l.cfg.Owner {
				delete(refused, o.Mark.Policy)
			}
		}
	}
	p.Refuse(p.input, refused)
}

// now is the time in the unit that the store keeps.
func (l *Line) now() time.Time { return l.cfg.Now().UTC().Truncate(time.Millisecond) }

// edits lists the resources that differ.
func edits(now, next *policy.Set) (out []state.Edit) {
	before := map[[2]string]string{}
	for _, r := range now.Resources() {
		before[[2]string{r.Kind, r.Name}] = r.Text
	}
	for _, r := range next.Resources() {
		key := [2]string{r.Kind, r.Name}
		if before[key] != r.Text {
			same := before[key] != "" && policy.Same(before[key], r.Text)
			out = append(out, state.Edit{Kind: r.Kind, Name: r.Name, Before: before[key], After: r.Text, TextOnly: same})
		}
		delete(before, key)
	}
	for _, r := range now.Resources() {
		if _, gone := before[[2]string{r.Kind, r.Name}]; gone {
			out = append(out, state.Edit{Kind: r.Kind, Name: r.Name, Before: r.Text})
		}
	}
	return out
}

// work makes the plan and its steps of the snapshots that it has. On platforms whose resource goes nothing shall be.
func (l *Line) work(p *Plan) {
	stays := map[string]bool{}
	for _, r := range p.set.Platforms {
		stays[r.Name] = true
	}
	p.input.Snapshots = nil
	for i, s := range p.snapshots {
		if p.list[i].own {
			stays[s.Platform] = true
		}
		if stays[s.Platform] {
			p.input.Snapshots = append(p.input.Snapshots, s)
		}
	}
	p.Plan, p.Steps = plan.Build(p.input), []platform.Step{}
	steps, refusals := make([][]platform.Step, len(p.list)), make([][]platform.Refusal, len(p.list))
	each(p.list, func(i int, a *attached) {
		want, ok := p.Want[a.Name()]
		if !ok && !stays[a.Name()] && p.snapshots[i].Lost == nil {
			want, ok = platform.Want{Owner: l.cfg.Owner}, true
		}
		if ok {
			steps[i], refusals[i] = a.Steps(p.snapshots[i], want)
		}
	})
	for i := range p.list {
		l.tellKept(p.snapshots[i], steps[i], refusals[i])
		p.Steps = append(p.Steps, steps[i]...)
		p.Refusals = append(p.Refusals, refusals[i]...)
	}
	platform.SortSteps(p.Steps)
	if p.Refusals == nil {
		p.Refusals = []platform.Refusal{}
	}
}

// tellKept says of what a platform refuses whether copies that exist go on: those of a policy that has no steps there.
func (l *Line) tellKept(now *platform.Snapshot, steps []platform.Step, refused []platform.Refusal) {
	for i := range refused {
		r := &refused[i]
		if slices.ContainsFunc(steps, func(s platform.Step) bool { return s.Policy == r.Policy }) {
			continue
		}
		for _, o := range now.Objects {
			if o.Mark.Owner == l.cfg.Owner && o.Mark.Policy == r.Policy {
				r.Keeps()
				break
			}
		}
	}
}

// Empty reports whether there is nothing to do and nothing to keep.
func (p *Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Edits) == 0 }
