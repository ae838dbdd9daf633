package platformtest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"crosstap/internal/control/platform"
)

// apply wants steps to be done once and for all, to be complete, and to be confirmed by what is read.
func (c *try) apply() {
	s := c.session("web")
	now := c.read()
	want := platform.Want{Owner: Owner, Sessions: []platform.Session{s}}
	first, _ := c.Platform.Steps(now, want)
	again, _ := c.Platform.Steps(now, want)
	if !reflect.DeepEqual(first, again) || len(first) == 0 {
		c.Fatalf("the same arguments give %d and %d steps", len(first), len(again))
	}
	c.proper(first, s)
	c.do(first)
	if objects := c.marked(s); len(objects) == 0 || !slices.ContainsFunc(objects, func(o *platform.Object) bool { return o.Mark.Digest == s.Mark.Digest }) {
		c.Errorf("no object has the mark of the session: %+v", objects)
	}
	for _, left := range c.steps(s) {
		c.Errorf("left to do: %s %s: %s", left.Action, left.Object, left.Why)
	}
	objects := len(c.marked(s))
	c.do(first) // what is done is no error
	if n := len(c.marked(s)); n != objects {
		c.Errorf("%d objects after the steps were applied twice, %d before", n, objects)
	}
	if _, err := c.Platform.Counters(c.Context(), Owner); err != nil {
		c.Errorf("counters: %v", err)
	}
	c.need(c.Change != nil, "change a session")
	next := c.Change(s)
	c.proper(c.steps(next), next)
	c.settle(next)
	c.settle()
}

// proper wants steps to say what they do.
func (c *try) proper(steps []platform.Step, s platform.Session) {
	c.Helper()
	for i, st := range steps {
		if st.Platform != c.Platform.Name() || st.Object == "" || st.Summary == "" || len(st.Commands) == 0 || len(st.Do) == 0 || st.Session == "" {
			c.Errorf("step %d says too little: %+v", i, st)
		}
		if i > 0 && steps[i-1].Phase > st.Phase {
			c.Errorf("step %d of phase %d comes after one of phase %d", i, st.Phase, steps[i-1].Phase)
		}
		if st.Policy != s.Mark.Policy && st.Policy != platform.Shared {
			c.Errorf("step %d is of policy %q", i, st.Policy)
		}
	}
}

// foreign wants what others have made to stay as it is, whatever is applied.
func (c *try) foreign() {
	c.need(c.Foreign != nil && c.Session != nil, "make something foreign")
	c.Foreign(c.T)
	before := c.state()
	s := c.session("web")
	c.settle(s)
	other := s
	other.Mark.Owner = "another"
	if steps, _ := c.Platform.Steps(c.read(), platform.Want{Owner: "another"}); len(steps) > 0 {
		c.Errorf("a line of another owner would do: %s %s", steps[0].Action, steps[0].Object)
	}
	if c.Change != nil {
		c.settle(c.Change(s))
	}
	c.settle()
	c.same("what others have made is not as it was", before)
}

// drift wants what others change to be seen, named and set right.
func (c *try) drift() {
	c.need(c.Meddle != nil && c.Session != nil, "meddle")
	s := c.session("web")
	c.settle(s)
	word := c.Meddle(c.T, s)
	steps := c.steps(s)
	if len(steps) == 0 {
		c.Fatal("what somebody has changed is not seen")
	}
	var why []string
	for _, st := range steps {
		why = append(why, st.Why)
	}
	if text := strings.Join(why, "; "); !strings.Contains(text, word) {
		c.Errorf("the steps say %q, which does not name %q", text, word)
	}
	c.settle(s)
	c.settle()
}

// removed wants what others remove to be made again.
func (c *try) removed() {
	c.need(c.Break != nil && c.Session != nil, "remove what a session has made")
	s := c.session("web")
	c.settle(s)
	c.Break(c.T, s)
	if len(c.steps(s)) == 0 {
		c.Fatal("what somebody has removed is not missed")
	}
	c.settle(s)
	c.settle()
}

// undo wants each step to be taken back, as often as one likes.
func (c *try) undo() {
	before := c.state()
	s := c.session("web")
	steps := c.steps(s)
	c.back(steps) // never done
	c.same("undoing what was never done changes something", before)
	c.do(steps)
	c.back(steps)
	c.back(steps)
	if left := c.marked(s); len(left) > 0 {
		c.Errorf("left after undo: %+v", left)
	}
	c.same("undo leaves something", before)
	c.settle(s)
	last := c.steps() // removal
	c.do(last)
	c.back(last)
	for _, st := range c.steps(s) {
		c.Errorf("undoing the removal does not bring back: %s %s: %s", st.Action, st.Object, st.Why)
	}
	c.settle()
}

func (c *try) back(steps []platform.Step) {
	c.Helper()
	for _, s := range slices.Backward(steps) {
		if err := c.Platform.Undo(c.Context(), s); err != nil {
			c.Fatalf("undo %s %s: %v", s.Action, s.Object, err)
		}
	}
}

// keep wants what policies have that are to be kept to stay.
func (c *try) keep() {
	s := c.session("kept")
	c.settle(s)
	steps, refused := c.Platform.Steps(c.read(), platform.Want{Owner: Owner, Keep: map[string]bool{"kept": true}})
	if len(steps)+len(refused) > 0 {
		c.Errorf("steps %+v, refusals %+v", steps, refused)
	}
	bad := s
	bad.Method = "telepathy" // refused: what it has stays
	if steps, refused := c.Platform.Steps(c.read(), platform.Want{Owner: Owner, Sessions: []platform.Session{bad}}); len(steps) > 0 || len(refused) == 0 {
		c.Errorf("a refused session: steps %+v, refusals %+v", steps, refused)
	}
	c.settle()
}

// gone wants a step on a port that has gone to say so, and to leave nothing.
func (c *try) gone() {
	c.need(c.Lose != nil && c.Session != nil, "take a port away")
	s := c.session("web")
	steps := c.steps(s)
	c.Lose(c.T, s)
	var err error
	var done []platform.Step
	for _, st := range steps {
		if err = c.Platform.Apply(c.Context(), st); err != nil {
			break
		}
		done = append(done, st)
	}
	if !errors.Is(err, platform.ErrGone) && !errors.Is(err, platform.ErrChanged) {
		c.Errorf("a port that has gone: %v", err)
	}
	c.back(done)
	if left := c.marked(s); len(left) > 0 {
		c.Errorf("left: %+v", left)
	}
}

// atOnce has two controllers do the same at the same time: each is done or told that somebody else was faster, and nothing is there twice.
func (c *try) atOnce() {
	s := c.session("web")
	steps := c.steps(s)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() {
			for _, st := range steps {
				if errs[i] = c.Platform.Apply(c.Context(), st); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, platform.ErrChanged) {
			c.Errorf("at the same time: %v", err)
		}
	}
	c.settle(s)
	objects := len(c.marked(s))
	c.settle()
	c.settle(s)
	if n := len(c.marked(s)); n != objects {
		c.Errorf("%d objects when two did it at once, %d when one does", objects, n)
	}
	c.settle()
}

// cancelled wants a context that has ended to be heeded: the step is done or not, and the next attempt finds its way.
func (c *try) cancelled() {
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Platform.Read(ctx)
		_ = c.Platform.Watch(ctx, func(platform.Update) {})
	}()
	select {
	case <-done:
	case <-time.After(patience):
		c.Fatal("a context that has ended does not end reading")
	}
	s := c.session("web")
	for _, st := range c.steps(s) {
		_ = c.Platform.Apply(ctx, st)
	}
	c.settle(s)
	c.settle()
}

// lease wants copies to end by themselves when their controller is gone for longer than it said.
func (c *try) lease() {
	c.need(c.Expire != nil && c.Session != nil, "let a lease end")
	s := c.Expire(c.T, c.session("leased"))
	for end := time.Now().Add(patience); !c.Ended(c.T, s); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatal("copies go on though the lease has ended")
		}
	}
	c.do(c.steps())
}

// delete wants nothing to be left of a session that ends.
func (c *try) delete() {
	before := c.state()
	one, two := c.session("one"), c.session("two")
	c.settle(one)
	c.settle(one, two)
	c.settle(two)
	if left := c.marked(one); len(left) > 0 {
		c.Errorf("left of one of two: %+v", left)
	}
	c.settle()
	for _, o := range c.read().Objects {
		if o.Mark.Owner == Owner {
			c.Errorf("left: %s %s", o.Kind, o.Name)
		}
	}
	c.same("not as it was", before)
}
