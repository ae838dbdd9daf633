// Package platformtest is the contract of platform.Platform as a test: every platform passes it, on the real thing where there is one.
package platformtest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
)

// Owner is the owner of the sessions that the test makes.
const Owner = "contract"

// patience is how long the test waits for what must come.
const patience = 2 * time.Minute

// Place is somewhere to try a platform: a switch with two machines or more, and what somebody else does there. Functions that are nil are left
// out of the test, which says so.
type Place struct {
	Platform platform.Platform

	// Session returns a session of the policy that the platform can make; Change another form of it. nil for a platform that only tells what
	// there is.
	Session func(t *testing.T, now *platform.Snapshot, policy string) platform.Session
	Change  func(platform.Session) platform.Session

	// State is all that copies or exports there, told by other means than the platform: what deleting must bring back.
	State func(t *testing.T) string
	// Foreign has somebody else make something of the kind that the platform makes, without a mark.
	Foreign func(t *testing.T)
	// Meddle has somebody else change what a session has made, and returns a word that the platform's steps must say of it.
	Meddle func(t *testing.T, s platform.Session) string
	// Break has somebody else remove it.
	Break func(t *testing.T, s platform.Session)

	// Appear has a machine come, or another record, and Vanish has it go. Is reports whether it is there.
	Appear, Vanish func(t *testing.T)
	Is             func(*platform.Snapshot) bool
	// Lose takes away the port of a session.
	Lose func(t *testing.T, s platform.Session)

	// Expire makes a session with a lease in the way of the platform, has its controller gone for longer, and returns when its copies must have
	// ended by themselves; Ended reports whether they have.
	Expire func(t *testing.T, s platform.Session) platform.Session
	Ended  func(t *testing.T, s platform.Session) bool

	// Shared says that others use the place: State is not compared.
	Shared bool
}

// Run tries a platform. open is called for each part of the test, and gives a place where the platform has done nothing yet.
func Run(t *testing.T, open func(t *testing.T) *Place) {
	for _, part := range []struct {
		name string
		try  func(*try)
	}{
		{"inventory", (*try).inventory}, {"watch", (*try).watch}, {"refusal", (*try).refusal}, {"apply", (*try).apply}, {"foreign", (*try).foreign},
		{"drift", (*try).drift}, {"removed by others", (*try).removed}, {"undo", (*try).undo}, {"keep", (*try).keep}, {"gone", (*try).gone}, {"at once", (*try).atOnce},
		{"cancelled", (*try).cancelled}, {"lease", (*try).lease}, {"delete", (*try).delete},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.try(&try{T: t, Place: open(t)})
		})
	}
}

// try is one part of the test.
type try struct {
	*testing.T
	*Place
}

// need leaves a part out that the place has no means for.
func (c *try) need(there bool, what string) {
	c.Helper()
	if !there {
		c.Logf("left out: this place has no way to %s", what)
		c.SkipNow()
	}
}

func (c *try) read() *platform.Snapshot {
	c.Helper()
	s, err := c.Platform.Read(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// steps plans on the present state; nothing may be refused.
func (c *try) steps(want ...platform.Session) []platform.Step {
	c.Helper()
	steps, refused := c.Platform.Steps(c.read(), platform.Want{Owner: Owner, Sessions: want})
	for _, r := range refused {
		c.Fatalf("refused: %s: %s (%s)", r.Reason, r.Message, r.Fix)
	}
	return steps
}

// do applies steps one after the other.
func (c *try) do(steps []platform.Step) {
	c.Helper()
	for _, s := range steps {
		if err := c.Platform.Apply(c.Context(), s); err != nil {
			c.Fatalf("%s %s: %v", s.Action, s.Object, err)
		}
	}
}

// settle applies until nothing is left, which one round must do.
func (c *try) settle(want ...platform.Session) {
	c.Helper()
	c.do(c.steps(want...))
	for _, s := range c.steps(want...) {
		c.Fatalf("left to do: %s %s: %s", s.Action, s.Object, s.Why)
	}
}

func (c *try) session(policy string) platform.Session {
	c.Helper()
	c.need(c.Session != nil, "copy packets")
	return c.Session(c.T, c.read(), policy)
}

// marked returns the objects that carry the mark of a session.
func (c *try) marked(s platform.Session) (out []*platform.Object) {
	c.Helper()
	for _, o := range platform.Sorted(c.read().Objects) {
		if o.Mark.Owner == s.Mark.Owner && o.Mark.Policy == s.Mark.Policy {
			out = append(out, o)
		}
	}
	return out
}

// state is what is there by other means.
func (c *try) state() string {
	c.Helper()
	if c.State == nil || c.Shared {
		return ""
	}
	return c.State(c.T)
}

func (c *try) same(what, before string) {
	c.Helper()
	if now := c.state(); now != before {
		c.Errorf("%s:\n%s", what, cmp.Diff(strings.Split(before, "\n"), strings.Split(now, "\n")))
	}
}

// inventory wants every reference of a snapshot to lead somewhere.
func (c *try) inventory() {
	s := c.read()
	if s.Platform != c.Platform.Name() || s.Platform == "" || c.Platform.Kind() == "" || s.AtNS == 0 {
		c.Errorf("platform %q of kind %q tells of %q at %d", c.Platform.Name(), c.Platform.Kind(), s.Platform, s.AtNS)
	}
	for id, p := range s.Ports {
		if p.ID != id || p.Name == "" || s.Switches[p.Switch] == nil || p.Host != "" && s.Hosts[p.Host] == nil || p.VM != "" && s.VMs[p.VM] == nil {
			c.Errorf("port %s leads nowhere: %+v", id, p)
		}
	}
	for id, sw := range s.Switches {
		if sw.ID != id || slices.ContainsFunc(sw.Hosts, func(h string) bool { return s.Hosts[h] == nil }) {
			c.Errorf("switch %s leads nowhere: %+v", id, sw)
		}
	}
	for id, vm := range s.VMs {
		if vm.ID != id || vm.Host != "" && s.Hosts[vm.Host] == nil {
			c.Errorf("machine %s is on no host: %+v", id, vm)
		}
	}
	for id, o := range s.Objects {
		if o.ID != id || o.Kind == "" || o.Switch != "" && s.Switches[o.Switch] == nil || o.Host != "" && s.Hosts[o.Host] == nil {
			c.Errorf("object %s leads nowhere: %+v", id, o)
		}
	}
	if len(s.Hosts) == 0 {
		c.Error("no host")
	}
}

// follower takes what a watch tells.
type follower struct {
	mu    sync.Mutex
	inv   *platform.Inventory
	first *platform.Update
}

func (f *follower) update(u platform.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		f.first = &u
	}
	f.inv.Apply(u)
}

func (f *follower) snapshot() *platform.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		return nil
	}
	return f.inv.Snapshot()
}

// until waits for something in the inventory that a watch tells.
func (c *try) until(f *follower, what string, is func(*platform.Snapshot) bool) {
	c.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if s := f.snapshot(); s != nil && is(s) {
			return
		}
		if time.Now().After(end) {
			c.Fatalf("the watch never told: %s", what)
		}
	}
}

// watch wants the first update to be whole, what comes and goes to be told, and the end of the context to be no error.
func (c *try) watch() {
	f := &follower{inv: platform.NewInventory(c.Platform.Name())}
	ctx, cancel := context.WithCancel(c.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Platform.Watch(ctx, f.update) }()
	now := c.read()
	c.until(f, "what is read", func(s *platform.Snapshot) bool {
		return len(s.Hosts) == len(now.Hosts) && len(s.Switches) == len(now.Switches) && len(s.Ports) == len(now.Ports) && s.Lost == nil
	})
	if f.mu.Lock(); !f.first.Whole {
		c.Error("the first update is not whole")
	}
	f.mu.Unlock()
	if c.Appear != nil {
		c.Appear(c.T)
		c.until(f, "what came", c.Is)
		c.Vanish(c.T)
		c.until(f, "that it went", func(s *platform.Snapshot) bool { return !c.Is(s) })
	}
	if c.Session != nil {
		s := c.session("watched")
		c.settle(s)
		c.until(f, "the session", func(now *platform.Snapshot) bool {
			for _, o := range now.Objects {
				if o.Mark.Owner == Owner && o.Mark.Policy == s.Mark.Policy {
					return true
				}
			}
			return false
		})
		c.settle()
		c.until(f, "that the session ended", func(now *platform.Snapshot) bool {
			for _, o := range now.Objects {
				if o.Mark.Owner == Owner {
					return false
				}
			}
			return true
		})
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			c.Errorf("the watch ended with %v", err)
		}
	case <-time.After(patience):
		c.Fatal("the watch goes on after its context has ended")
	}
}

// refusal wants a session that no platform can make to be refused with a reason, and without a step.
func (c *try) refusal() {
	s := platform.Session{
		Mark: platform.Mark{Owner: Owner, Policy: "impossible", Part: "x", Digest: "1"}, Method: "telepathy", Host: "nowhere", Switch: "nowhere",
		Sources: []platform.Source{{Port: "nobody", Dir: platform.Both}},
	}
	steps, refused := c.Platform.Steps(c.read(), platform.Want{Owner: Owner, Sessions: []platform.Session{s}})
	if len(steps) > 0 || len(refused) == 0 || refused[0].Policy != "impossible" || refused[0].Reason == "" || refused[0].Message == "" {
		c.Errorf("steps %+v, refusals %+v", steps, refused)
	}
	if c.Session != nil {
		return
	}
	if err := c.Platform.Apply(c.Context(), platform.Step{Platform: c.Platform.Name(), Do: []byte("{}")}); err == nil {
		c.Error("a platform that cannot copy has applied a step")
	}
}

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
