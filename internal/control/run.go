package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/state"
)

// run is one change being made.
type run struct {
	line   *Line
	change int64
	plan   *Plan

	mu    sync.Mutex
	n     int // steps journalled
	units []*result
}

// result is how one platform does, or one host of a platform whose hosts are independent.
type result struct {
	at     int             // in the plan's list of platforms
	host   string          // "" for all
	steps  []platform.Step // of the newest plan
	done   []journalled    // in their order
	failed []journalled    // perhaps half done
	err    error
	back   error // of taking back
}

type journalled struct {
	n    int
	step platform.Step
}

// tries is how often a platform is planned anew when somebody changes it at the same time.
const tries = 4

// all does the steps on all platforms at once. What ends begins to end only when everything that begins has begun.
func (r *run) all(ctx context.Context) {
	r.split()
	for _, phase := range []platform.Phase{platform.PhaseSwitch, platform.PhaseCleanup} {
		each(r.units, func(_ int, res *result) {
			if res.err == nil {
				r.phase(ctx, phase, res)
			}
		})
	}
}

// split gives each platform its steps, and each host of one whose hosts are independent.
func (r *run) split() {
	at := map[string]int{}
	for i, a := range r.plan.list {
		at[a.Name()] = i
	}
	units := map[[2]string]*result{}
	for _, s := range r.plan.Steps {
		key := [2]string{s.Platform, ""}
		if _, ok := r.plan.list[at[s.Platform]].Platform.(platform.Independent); ok {
			key[1] = s.Host
		}
		if units[key] == nil {
			units[key] = &result{at: at[s.Platform], host: key[1]}
			r.units = append(r.units, units[key])
		}
		units[key].steps = append(units[key].steps, s)
	}
}

// phase does the steps up to a phase on one platform.
func (r *run) phase(ctx context.Context, phase platform.Phase, res *result) {
	a := r.plan.list[res.at]
	for try := 1; ; try++ {
		err := r.steps(ctx, a, phase, res)
		if err == nil {
			return
		}
		if !errors.Is(err, platform.ErrChanged) && !errors.Is(err, platform.ErrGone) || try == tries || ctx.Err() != nil {
			res.err = err
			break
		}
		again, err := r.again(ctx, res)
		if err != nil {
			res.err = err
			break
		}
		res.steps, res.failed = again, nil
	}
	if res.onlyEnds() {
		return // what is to end is never made again
	}
	r.takeBack(context.WithoutCancel(ctx), a, res)
}

// onlyEnds reports whether nothing of what is done there is new: taps stop, pause, run out or are taken out of force.
func (res *result) onlyEnds() bool {
	return !slices.ContainsFunc(res.steps, func(s platform.Step) bool { return s.Phase != platform.PhaseCleanup }) &&
		!slices.ContainsFunc(res.done, func(j journalled) bool { return j.step.Phase != platform.PhaseCleanup })
}

// again plans one platform anew.
func (r *run) again(ctx context.Context, res *result) ([]platform.Step, error) {
	a := r.plan.list[res.at]
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	now, err := a.Read(ctx)
	if err != nil {
		return nil, err
	}
	p := &Plan{input: r.plan.input, set: r.plan.set, snapshots: slices.Clone(r.plan.snapshots), list: r.plan.list}
	p.snapshots[res.at] = now
	r.line.work(p)
	return slices.DeleteFunc(p.Steps, func(s platform.Step) bool { return s.Platform != a.Name() || res.host != "" && s.Host != res.host }), nil
}

func (r *run) steps(ctx context.Context, a *attached, phase platform.Phase, res *result) error {
	todo := slices.DeleteFunc(slices.Clone(res.steps), func(s platform.Step) bool {
		return s.Phase > phase || s.Phase < phase && res.did(&s)
	})
	for len(todo) > 0 {
		if todo[0].Phase == platform.PhaseCleanup && r.plan.urgent != nil && r.plan.urgent() {
			r.mu.Lock()
			r.plan.left = true
			r.mu.Unlock()
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n := together(a, todo)
		if err := r.do(ctx, a, todo[:n], res); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

// did reports whether a step was done, perhaps as one of an earlier plan.
func (res *result) did(s *platform.Step) bool {
	return slices.ContainsFunc(res.done, func(j journalled) bool { return j.step.Object == s.Object && string(j.step.Do) == string(s.Do) })
}

// together tells how many of the next steps are done at once: what begins where the platform can make many, what ends where it can end many,
// else one.
func together(a *attached, next []platform.Step) int {
	_, makes := a.Platform.(platform.Maker)
	_, ends := a.Platform.(platform.Ender)
	n := 0
	for n < len(next) && (ends && ending(&next[n]) || makes && next[n].Phase < platform.PhaseCleanup) {
		n++
	}
	return max(n, 1)
}

func ending(s *platform.Step) bool {
	return s.Phase == platform.PhaseCleanup && s.Action == platform.Remove
}

// do does steps that go together, and keeps the journal of them.
func (r *run) do(ctx context.Context, a *attached, steps []platform.Step, res *result) error {
	noted := make([]journalled, len(steps))
	r.mu.Lock()
	for i, s := range steps {
		r.n++
		noted[i] = journalled{r.n, s}
	}
	r.mu.Unlock()
	if err := r.note(ctx, "doing", nil, noted...); err != nil {
		return err
	}
	n, err := apply(ctx, a, steps)
	res.done = append(res.done, noted[:n]...)
	if err != nil {
		_ = r.note(context.WithoutCancel(ctx), "failed", err, noted[n:]...) // the error itself is told
		res.failed = noted[n:]
		ctx = context.WithoutCancel(ctx)
	}
	return errors.Join(err, r.note(ctx, "done", nil, noted[:n]...))
}

// apply does steps that go together, and returns how many are done.
func apply(ctx context.Context, a *attached, steps []platform.Step) (done int, err error) {
	m, makes := a.Platform.(platform.Maker)
	switch {
	case makes && steps[0].Phase < platform.PhaseCleanup:
		return m.Make(ctx, steps)
	case len(steps) > 1:
		err = a.Platform.(platform.Ender).End(ctx, steps)
	default:
		err = a.Apply(ctx, steps[0])
	}
	if err != nil {
		return 0, err
	}
	return len(steps), nil
}

// note writes into the journal what has become of steps.
func (r *run) note(ctx context.Context, is string, err error, noted ...journalled) error {
	if len(noted) == 0 {
		return nil
	}
	list := make([]state.Step, len(noted))
	for i, j := range noted {
		text, err := json.Marshal(j.step)
		if err != nil {
			return err
		}
		list[i] = state.Step{Change: r.change, N: j.n, Platform: j.step.Platform, Policy: j.step.Policy, Step: string(text), State: is, At: r.line.cfg.Now()}
	}
	if err != nil {
		for i := range list {
			list[i].Error = err.Error()
		}
	}
	return r.line.cfg.Store.Journal(ctx, list...)
}

// undoWait bounds how long taking back may take on one platform.
const undoWait = time.Minute

// takeBack undoes what was done on a platform, the last step first. What failed may have been half done: it is undone too.
func (r *run) takeBack(ctx context.Context, a *attached, res *result) {
	ctx, cancel := context.WithTimeout(ctx, undoWait)
	defer cancel()
	if !errors.Is(res.err, platform.ErrChanged) {
		for _, j := range slices.Backward(res.failed) {
			if err := a.Undo(ctx, j.step); err != nil && !errors.Is(err, platform.ErrChanged) && !errors.Is(err, platform.ErrGone) {
				res.back = errors.Join(res.back, err)
			}
		}
	}
	for _, j := range slices.Backward(res.done) {
		err := a.Undo(ctx, j.step)
		is := "undone"
		if err != nil {
			is, res.back = "failed", errors.Join(res.back, err)
		}
		_ = r.note(ctx, is, err, j) // the journal is for reading; what failed is told
	}
	res.done = nil
}

// summary says how the change ended. Hosts of a platform whose hosts are independent are named when they did not do it.
func (r *run) summary(out *Outcome) {
	good, bad, unfinished := 0, 0, false
	whole := map[string]int{} // in out.Platforms, of those that have done it
	for _, res := range r.units {
		name := r.plan.list[res.at].Name()
		po := PlatformOutcome{Platform: name, Steps: len(res.done), State: "done"}
		out.Steps += po.Steps
		if res.err == nil {
			good++
			if i, known := whole[name]; known {
				out.Platforms[i].Steps += po.Steps
				continue
			}
			whole[name] = len(out.Platforms)
		} else {
			bad++
			po.State, po.Error = "rolled-back", res.err.Error()
			if res.back != nil {
				po.State, po.Error = "failed", fmt.Sprintf("%v; and taking back: %v", res.err, res.back)
			}
			if res.onlyEnds() {
				po.State, unfinished = Unfinished, true
			}
			if res.host != "" {
				po.Platform += "/" + res.host
			}
		}
		out.Platforms = append(out.Platforms, po)
	}
	switch {
	case bad > 0 && good == 0 && !unfinished:
		out.State = state.Failed
	case bad > 0:
		out.State = state.Partly
	}
	slices.SortStableFunc(out.Platforms, func(a, b PlatformOutcome) int { return cmp.Compare(a.Platform, b.Platform) })
}
