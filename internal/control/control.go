// Package control is the control line: inventory → policy → plan → apply → watch. A Line knows the platforms; what shall be seen is in
// resources that a store keeps. Reading and planning touch nothing; applying keeps a journal, makes before it breaks, reads back, and
// takes back what it did on a platform where a step fails.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
}

// attached is a platform with the resource that it was made of.
type attached struct {
	platform.Platform
	text string
	own  bool               // it has no resource: it is there as long as the line
	stop context.CancelFunc // of its watch

	mu  sync.Mutex
	inv *platform.Inventory // what a watch has told; nil before the first update
}

// seen returns the newest that a watch has told; nil before the first.
func (a *attached) seen() *platform.Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inv == nil {
		return nil
	}
	return a.inv.Snapshot()
}

// take adds what a watch tells, and reports whether it is more than counters.
func (a *attached) take(u platform.Update) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inv == nil {
		a.inv = platform.NewInventory(a.Name())
		a.inv.Apply(u)
		return true
	}
	return a.inv.Apply(u)
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

func (a *attached) close() error {
	if a.stop != nil {
		a.stop()
	}
	switch c := a.Platform.(type) {
	case interface{ Close() error }:
		return c.Close()
	case interface{ Close() }:
		c.Close()
	}
	return nil
}

// Own adds a platform that no resource describes, such as the agents of a server. Call it before Run.
func (l *Line) Own(p platform.Platform) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.platforms[p.Name()] != nil {
		return fmt.Errorf("control: there is a platform %q already", p.Name())
	}
	l.platforms[p.Name()] = l.join(p, "", true)
	return nil
}

// join makes a platform one of the line. The caller holds mu.
func (l *Line) join(p platform.Platform, text string, own bool) *attached {
	if g, ok := p.(platform.Gapper); ok {
		g.OnGap(l.gap)
	}
	return &attached{Platform: p, text: text, own: own}
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

// attach makes the platforms those of a set, and returns them, those without a resource last. A platform whose resource has changed is made
// anew.
func (l *Line) attach(set *policy.Set) ([]*attached, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*attached
	for _, r := range set.Platforms {
		a := l.platforms[r.Name]
		if a != nil && a.own {
			return nil, fmt.Errorf("policy: platform %q: the name is that of the server's own agents: take another", r.Name)
		}
		if a == nil || a.text != r.Text {
			p, err := l.cfg.Connect(r)
			if err != nil {
				return nil, fmt.Errorf("control: platform %q: %w", r.Name, err)
			}
			if a != nil {
				_ = a.close()
			}
			a = l.join(p, r.Text, false)
			l.platforms[r.Name] = a
		}
		out = append(out, a)
	}
	for _, name := range slices.Sorted(maps.Keys(l.platforms)) {
		if l.platforms[name].own {
			out = append(out, l.platforms[name])
		}
	}
	return out, nil
}

// detach closes the platforms whose resource is no longer in force, unless a change is being made.
func (l *Line) detach(set *policy.Set) {
	if !l.applying.TryLock() {
		return
	}
	defer l.applying.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range l.platforms {
		if !a.own && !slices.ContainsFunc(set.Platforms, func(r *policy.Platform) bool { return r.Name == name }) {
			if err := a.close(); err != nil {
				l.log.Warn("platform not closed", "platform", name, "err", err)
			}
			delete(l.platforms, name)
		}
	}
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

// parallel bounds how many platforms are asked at the same time.
const parallel = 64

// each runs f for all platforms at once, within the bound.
func each[T any](list []T, f func(i int, t T)) {
	var wg sync.WaitGroup
	tokens := make(chan struct{}, parallel)
	for i, t := range list {
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			f(i, t)
		})
	}
	wg.Wait()
}

// readWait bounds how long one platform may take to be read.
const readWait = 30 * time.Second

// read asks all platforms for their inventory. One that does not answer gives a snapshot that says so.
func (l *Line) read(ctx context.Context, list []*attached) []*platform.Snapshot {
	out := make([]*platform.Snapshot, len(list))
	each(list, func(i int, a *attached) {
		ctx, cancel := context.WithTimeout(ctx, readWait)
		defer cancel()
		s, err := a.Read(ctx)
		if err != nil {
			s = platform.NewSnapshot(a.Name())
			s.Lost, s.AtNS = err, l.cfg.Now().UnixNano()
		}
		out[i] = s
	})
	return out
}

// Inventory returns what there is: from the watches when they run, else read now.
func (l *Line) Inventory(ctx context.Context) ([]*platform.Snapshot, error) {
	set, _, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
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
}

// Plan is a plan with its steps.
type Plan struct {
	*plan.Plan
	Steps   []platform.Step `json:"steps"`
	Edits   []state.Edit    `json:"edits"`             // of resources
	Removed []string        `json:"removed,omitempty"` // taps that end

	wanted    *Wanted     // nil for what nobody asked for
	latest    int64       // newest change that the plan knows
	set       *policy.Set // that will be in force
	list      []*attached
	snapshots []*platform.Snapshot
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
	// platforms that go are still needed once: to take away what is there
	if p.list, err = l.attach(now.Merged(next)); err != nil {
		return nil, err
	}
	p.snapshots = l.read(ctx, p.list)
	p.input = plan.Input{Owner: l.cfg.Owner, Set: next, Rates: l.cfg.Rates, Applied: applied, Prune: w.Prune, Now: l.now()}
	if p.input.Known, err = l.cfg.Store.Ever(ctx, policy.KindTap); err != nil {
		return nil, err
	}
	for _, t := range next.Taps { // a tap that changes begins to live anew
		if old := now.Tap(t.Name); old == nil || old.Text != t.Text {
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
	return p, nil
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
			out = append(out, state.Edit{Kind: r.Kind, Name: r.Name, Before: before[key], After: r.Text})
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
