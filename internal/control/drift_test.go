package control_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/state"
	"crosstap/internal/testkit"
)

// told is a center that knows who changed what.
type told struct{ *center }

func (told) ChangedBy(context.Context, string) (string, time.Time, error) {
	return "mallory", time.Now(), nil
}

// What others change is set right or reported, with the name of who did it.
func TestDriftNamesWho(t *testing.T) {
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c := newCenter("center")
	c.fill(1, 2)
	line, err := control.New(control.Config{Store: st, Connect: func(*policy.Platform) (platform.Platform, error) { return told{c}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.Parse("test", []byte("apiVersion: crosstap/v1\nkind: Platform\nmetadata: {name: center}\nspec: {kind: ovs, address: x}\n"+
		destination("ids", "url: 'vxlan://10.0.0.9?vni=1'")+tap("fix", `select: 'vm = vm-000000', destinations: [ids]`)+tap("tell", `select: 'vm = vm-000001', destinations: [ids], drift: report`)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := line.Plan(t.Context(), control.Wanted{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := line.Apply(t.Context(), p, control.Author{Who: "alice", Action: "apply"}); err != nil || out.State != state.Done {
		t.Fatalf("%+v, %v", out, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- line.Run(ctx) }()
	defer func() { stop(); <-done; line.Close() }()
	now := func() map[string]*platform.Object {
		s, _ := c.Read(ctx)
		return s.Objects
	}
	testkit.Eventually(t, "watched", func() bool {
		inv, err := line.Inventory(ctx)
		return err == nil && len(inv) == 1 && len(inv[0].Objects) == 2 && c.sent.Load() > 2
	})
	// A line that begins while something is changed takes it for its own unfinished work, and sets it right: then it is changed again.
	meddle := func(policy string) {
		t.Helper()
		for _, o := range now() {
			if o.Mark.Policy == policy && o.Mark.Digest != "mallory's" {
				changed := *o
				changed.Mark.Digest = "mallory's"
				c.tell(platform.Update{AtNS: time.Now().UnixNano(), Objects: []platform.Object{changed}})
			}
		}
	}
	testkit.Eventually(t, "reported with a name", func() bool {
		meddle("tell")
		f := line.Findings()
		return len(f) == 1 && f[0].Policy == "tell" && f[0].By == "mallory"
	})
	meddle("fix")
	testkit.Eventually(t, "repaired with a name in the history", func() bool {
		list, err := st.Changes(ctx, 0, 10)
		return err == nil && slices.ContainsFunc(list, func(c state.Change) bool {
			return c.Action == "repair" && strings.Contains(c.Why, "changed by mallory") && c.State == state.Done
		})
	})
}

// unwilling is a center that refuses what it is asked for once it is told to.
type unwilling struct {
	*center
	no *bool
}

func (u unwilling) Steps(now *platform.Snapshot, want platform.Want) ([]platform.Step, []platform.Refusal) {
	if !*u.no || len(want.Sessions) == 0 {
		return u.center.Steps(now, want)
	}
	return nil, []platform.Refusal{{Policy: want.Sessions[0].Mark.Policy, Reason: platform.ReasonCapability, Message: "no", Fix: "ask later"}}
}

// What a platform refuses says that copies which exist go on.
func TestRefusalTellsKept(t *testing.T) {
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c, no := newCenter("center"), false
	c.fill(1, 1)
	line, err := control.New(control.Config{Store: st, Connect: func(*policy.Platform) (platform.Platform, error) { return unwilling{c, &no}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	plan := func(more string) *control.Plan {
		t.Helper()
		set, err := policy.Parse("test", []byte("apiVersion: crosstap/v1\nkind: Platform\nmetadata: {name: center}\nspec: {kind: ovs, address: x}\n"+
			destination("ids", "url: 'vxlan://10.0.0.9?vni=1'")+tap("web", `select: 'vm = vm-000000', destinations: [ids]`+more)))
		if err != nil {
			t.Fatal(err)
		}
		p, err := line.Plan(t.Context(), control.Wanted{Set: set})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	no = true
	if r := plan("").Refusals; len(r) != 1 || r[0].Kept || r[0].Fix != "ask later" {
		t.Errorf("before there is anything: %+v", r)
	}
	no = false
	if out, err := line.Apply(t.Context(), plan(""), control.Author{Who: "alice", Action: "apply"}); err != nil || out.State != state.Done {
		t.Fatalf("%+v, %v", out, err)
	}
	no = true
	if r := plan(", filter: udp").Refusals; len(r) != 1 || !r[0].Kept || r[0].Fix != "ask later; until then the copies that exist go on as they are" {
		t.Errorf("%+v", r)
	}
}
