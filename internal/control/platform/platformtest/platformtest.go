// Package platformtest is the contract of platform.Platform as a test: every platform passes it, on the real thing where there is one.
package platformtest

import (
	"strings"
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
