package platformtest

import (
	"context"
	"slices"
	"sync"
	"time"

	"crosstap/internal/control/platform"
)

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
