package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Finding is something that is not as policies want it and that is left so, or could not be set right.
type Finding struct {
	Platform string    `json:"platform"`
	Policy   string    `json:"policy"`
	Object   string    `json:"object"`
	What     string    `json:"what"` // which fields differ
	By       string    `json:"by,omitempty"`
	Since    time.Time `json:"since"`
}

// Times of the loop.
const (
	foldFor    = 10 * time.Millisecond // what changes together is planned together
	checkEvery = 15 * time.Second      // everything is looked at: expiry, leases, drift that no watch tells
	startFor   = 10 * time.Second      // for all platforms to tell what they have
	keepFor    = 90 * 24 * time.Hour   // changes that nothing in force goes back to
	retryMin   = time.Second           // after a change that failed
	retryMax   = time.Minute
	restMax    = 500 * time.Millisecond // between two plans: what has moved is followed within a second
	lingerFor  = time.Second            // what alone is left to end stays for so long: a machine that has gone often comes elsewhere, and must not wait
)

// loop is the state of Run.
type loop struct {
	line    *Line
	changed chan struct{}
	digest  map[string]string // platform/session → the digest last applied
	retry   time.Duration
	began   time.Time
	planned time.Duration // what the last look took without what it did
	comes   atomic.Bool   // a machine's port has come since the last look began
	left    bool          // for which something that ends was left as it is
	ends    time.Time     // since when all that is to be done is to end something; zero when it is not
	linger  time.Duration // for which that stays as it is
}

// Run keeps the platforms as the resources in force want them, until ctx ends: it follows inventories, sets right what others change
// (or reports it, as the policy says), lets taps expire and renews leases. Poke tells it that resources have changed.
func (l *Line) Run(ctx context.Context) error {
	lo := &loop{line: l, changed: make(chan struct{}, 1), digest: map[string]string{}, retry: retryMin, began: time.Now()}
	l.mu.Lock()
	l.poke = lo.changed
	l.mu.Unlock()
	if n, err := l.Recover(ctx); err != nil {
		return err
	} else if n > 0 {
		l.log.Warn("changes were interrupted; what they wanted is completed now", "changes", n)
	}
	if err := l.cfg.Store.Forget(ctx, l.cfg.Now().Add(-keepFor)); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	next := time.NewTimer(0)
	defer next.Stop()
	var rest time.Duration // a data centre where something always changes must not take a whole core
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lo.changed:
			select {
			case <-time.After(foldFor + rest):
			case <-ctx.Done():
				return nil
			}
		case <-next.C:
		}
		wait := checkEvery
		if err := lo.once(ctx, watching); err != nil && ctx.Err() == nil {
			l.log.Warn("the platforms are not as they should be; trying again", "err", err, "in", lo.retry)
			wait = lo.retry
			lo.retry = min(2*lo.retry, retryMax)
		} else {
			lo.retry = retryMin
			if lo.linger > 0 {
				wait = lo.linger
			}
		}
		rest = min(lo.planned, restMax) // while switches are waited for nothing is taken
		next.Reset(wait)
	}
}

// Poke has Run look at everything now.
func (l *Line) Poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poke == nil {
		return
	}
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// once compares what is with what shall be, and sets it right.
func (lo *loop) once(ctx, watching context.Context) error {
	l, from := lo.line, time.Now()
	lo.planned, lo.linger = 0, 0
	lo.comes.Store(false)
	latest, err := l.cfg.Store.Latest(ctx)
	if err != nil {
		return err
	}
	set, applied, err := l.load(ctx)
	if err != nil {
		return err
	}
	list, err := l.attach(set)
	if err != nil {
		return err
	}
	l.detach(set)
	lo.watch(watching, list)
	p := &Plan{latest: latest, set: set, readAt: map[string]time.Time{}}
	if !lo.left { // what ends does not wait twice
		p.urgent = lo.comes.Load
	}
	for _, a := range list {
		seen := a.seen()
		if seen == nil && time.Since(lo.began) < startFor {
			return nil // what is copied elsewhere is not known before all have told; their watches wake the loop
		}
		if seen == nil {
			continue
		}
		p.list, p.snapshots = append(p.list, a), append(p.snapshots, seen)
	}
	p.input = plan.Input{Owner: l.cfg.Owner, Set: set, Applied: applied, Now: l.now()}
	if p.input.Known, err = l.cfg.Store.Ever(ctx, policy.KindTap); err != nil {
		return err
	}
	l.work(p)
	lo.planned = time.Since(from)
	l.refresh(ctx, p)
	return lo.settle(ctx, p, set)
}

// refresh reads those platforms anew whose inventory is older than the last change and where something seems to be left to do: what that
// change did may not have been told yet.
func (l *Line) refresh(ctx context.Context, p *Plan) {
	again := false
	for i, a := range p.list {
		if !l.overtakenOn(p, i) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, readWait)
		now, err := a.Read(limited)
		cancel()
		if err == nil {
			p.snapshots[i], again = now, true
			p.readAt[a.Name()] = time.Now()
		}
	}
	if again {
		l.work(p)
	}
}

// overtaken reports whether a plan has steps on any platform that it knows from before the end of the last change.
func (l *Line) overtaken(p *Plan) bool {
	for i := range p.list {
		if l.overtakenOn(p, i) {
			return true
		}
	}
	return false
}

// overtakenOn is overtaken for one platform. Platforms may have other clocks:
// of what was read here, our own counts.
func (l *Line) overtakenOn(p *Plan, i int) bool {
	l.mu.Lock()
	changed := l.changed
	l.mu.Unlock()
	s := p.snapshots[i]
	if s.Lost != nil || s.AtNS >= changed.UnixNano() || p.readAt[s.Platform].After(changed) {
		return false
	}
	return slices.ContainsFunc(p.Steps, func(st platform.Step) bool { return st.Platform == s.Platform })
}

// watch follows the inventory of platforms that are not followed yet.
func (lo *loop) watch(ctx context.Context, list []*attached) {
	for _, a := range list {
		lo.line.mu.Lock()
		if a.stop != nil {
			lo.line.mu.Unlock()
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		a.stop = stop
		lo.line.mu.Unlock()
		go lo.follow(ctx, a)
	}
}

// follow takes the updates of one platform. A watch that ends by itself is begun again.
func (lo *loop) follow(ctx context.Context, a *attached) {
	l := lo.line
	for {
		err := a.Watch(ctx, func(u platform.Update) {
			changed, comes := a.take(u)
			if !changed {
				return
			}
			if comes {
				lo.comes.Store(true)
			}
			select {
			case lo.changed <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil {
			return
		}
		l.log.Warn("inventory is not followed", "platform", a.Name(), "err", err)
		select {
		case <-time.After(retryMax / 4):
		case <-ctx.Done():
			return
		}
	}
}

// settle does the steps of a plan that nobody asked for: what has moved is followed, what others changed is set right or reported.
func (lo *loop) settle(ctx context.Context, p *Plan, set *policy.Set) error {
	l := lo.line
	want := map[string]string{}
	moved := false
	for name, w := range p.Want {
		for _, s := range w.Sessions {
			key := name + "/" + s.Mark.Key()
			want[key] = s.Mark.Digest
			if lo.digest[key] == "" && marked(p.snapshots, name, &s) {
				lo.digest[key] = s.Mark.Digest // made before this process began
			}
			moved = moved || lo.digest[key] != s.Mark.Digest
		}
	}
	moved = moved || len(want) != len(lo.digest)
	findings := map[string]Finding{}
	p.Steps = slices.DeleteFunc(p.Steps, func(s platform.Step) bool {
		t := set.Tap(s.Policy)
		key := s.Platform + "/" + s.Session
		if t == nil || t.Enforce || lo.digest[key] == "" || lo.digest[key] != want[key] {
			return false
		}
		findings[s.Platform+"/"+s.Object] = Finding{Platform: s.Platform, Policy: s.Policy, Object: s.Object, What: strings.TrimSpace(string(s.Action) + " " + s.Why), By: l.changedBy(ctx, p, s), Since: l.cfg.Now()}
		return true
	})
	l.report(findings)
	if len(p.Steps) == 0 {
		lo.digest, lo.ends = want, time.Time{}
		return nil
	}
	if lo.lingers(p.Steps) {
		return nil
	}
	action, by := "repair", ""
	if moved {
		action = "follow"
	} else {
		by = l.culprits(ctx, p)
	}
	from := l.cfg.Now()
	out, err := l.Apply(ctx, p, Author{Who: "crosstap", Why: reasons(p.Steps) + by, Action: action})
	if errors.Is(err, errStale) {
		l.Poke()
		return nil
	}
	if err != nil {
		return err
	}
	l.log.Info("platforms set right", "action", action, "steps", out.Steps, "took", l.cfg.Now().Sub(from), "state", out.State)
	if failed := out.Failed(); len(failed) > 0 {
		return fmt.Errorf("control: not done on %s: %s", strings.Join(failed, ", "), out.firstError())
	}
	if lo.left = p.left; lo.left {
		l.Poke()
		return nil
	}
	lo.digest = want
	return nil
}

// lingers reports whether steps, which end things and make nothing, are to wait a little.
func (lo *loop) lingers(steps []platform.Step) bool {
	switch {
	case slices.ContainsFunc(steps, func(s platform.Step) bool { return !ending(&s) }):
		lo.ends = time.Time{}
	case lo.ends.IsZero():
		lo.ends, lo.linger = time.Now(), lingerFor
	default:
		lo.linger = lingerFor - time.Since(lo.ends)
	}
	return lo.linger > 0
}

// marked reports whether a platform has an object with the mark of a session as it shall be.
func marked(snapshots []*platform.Snapshot, name string, s *platform.Session) bool {
	for _, snap := range snapshots {
		if snap.Platform != name {
			continue
		}
		for _, o := range snap.Objects {
			if o.Mark.Owner == s.Mark.Owner && o.Mark.Key() == s.Mark.Key() && o.Mark.Digest == s.Mark.Digest {
				return true
			}
		}
	}
	return false
}

func (o *Outcome) firstError() string {
	for _, p := range o.Platforms {
		if p.Error != "" {
			return p.Error
		}
	}
	return ""
}

// culprits names who has changed what is repaired, where platforms tell.
func (l *Line) culprits(ctx context.Context, p *Plan) string {
	var out []string
	for _, s := range p.Steps[:min(len(p.Steps), maxTold)] {
		if user := l.changedBy(ctx, p, s); user != "" && !slices.Contains(out, user) {
			out = append(out, user)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; changed by " + strings.Join(out, ", ")
}

// maxTold is how many steps a line about them names.
const maxTold = 5

// reasons says in one line what a repair is about.
func reasons(steps []platform.Step) string {
	var out []string
	for _, s := range steps[:min(len(steps), maxTold)] {
		out = append(out, strings.TrimSpace(string(s.Action)+" "+s.Object+" "+s.Why))
	}
	if len(steps) > maxTold {
		out = append(out, fmt.Sprintf("and %d more", len(steps)-maxTold))
	}
	return strings.Join(out, "; ")
}

// report keeps the findings; those that were there keep their time.
func (l *Line) report(findings map[string]Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, f := range findings {
		if old, ok := l.findings[key]; ok {
			f.Since = old.Since
		}
		findings[key] = f
	}
	l.findings = findings
}

// Findings returns what is not as policies want it, in a steady order.
func (l *Line) Findings() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Finding, 0, len(l.findings))
	for _, key := range slices.Sorted(maps.Keys(l.findings)) {
		out = append(out, l.findings[key])
	}
	return out
}
