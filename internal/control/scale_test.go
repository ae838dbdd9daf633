package control_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/state"
)

// center is a platform without anything behind it: what it is told is its inventory, and steps are done at once.
type center struct {
	name    string
	updates chan platform.Update
	sent    atomic.Int64 // updates taken by whoever watches

	mu  sync.Mutex
	inv *platform.Inventory
}

func newCenter(name string) *center {
	return &center{name: name, updates: make(chan platform.Update, 4096), inv: platform.NewInventory(name)}
}

func (c *center) Name() string { return c.name }
func (c *center) Kind() string { return "ovs" }

func (c *center) tell(u platform.Update) {
	c.mu.Lock()
	c.inv.Apply(u)
	c.mu.Unlock()
	c.updates <- u
}

func (c *center) Watch(ctx context.Context, update func(platform.Update)) error {
	for {
		select {
		case u := <-c.updates:
			update(u)
			c.sent.Add(1)
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *center) Read(context.Context) (*platform.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inv.Snapshot(), nil
}

// Steps makes one object for each session.
func (c *center) Steps(now *platform.Snapshot, want platform.Want) (steps []platform.Step, _ []platform.Refusal) {
	there := map[string]string{}
	for _, o := range now.Objects {
		there[o.ID] = o.Mark.Digest
	}
	for _, s := range want.Sessions {
		if there[s.Mark.Key()] != s.Mark.Digest {
			steps = append(steps, platform.Step{Platform: c.name, Policy: s.Mark.Policy, Session: s.Mark.Key(), Phase: platform.PhaseSwitch, Action: platform.Create, Object: "Mirror " + s.Mark.Key(),
				Summary: s.Mark.Digest, Commands: []string{"true"}, Do: []byte("{}")})
		}
	}
	return steps, nil
}

func (c *center) Apply(_ context.Context, s platform.Step) error {
	o := platform.Object{ID: s.Session, Name: s.Session, Kind: "Mirror", Mark: platform.Mark{Owner: control.DefaultOwner, Policy: s.Policy, Digest: s.Summary}}
	c.tell(platform.Update{AtNS: time.Now().UnixNano(), Objects: []platform.Object{o}})
	return nil
}
func (c *center) Undo(context.Context, platform.Step) error { return nil }
func (c *center) Counters(context.Context, string) (map[string]platform.Counter, error) {
	return nil, nil
}

// fill tells a data centre: hosts with a distributed switch each and machines on them, in 200 segments.
func (c *center) fill(hosts, perHost int) {
	can := platform.Capability{Methods: []platform.Method{platform.MethodRemoteMirror}, Encaps: []platform.Encap{platform.EncapVXLAN}, Filter: platform.FilterTuple, ExceptMACs: true, OncePerPair: true}
	u := platform.Update{AtNS: 1, Whole: true}
	for h := range hosts {
		host := fmt.Sprintf("h%05d", h)
		u.Hosts = append(u.Hosts, platform.Host{ID: host, Name: host})
		u.Switches = append(u.Switches, platform.Switch{ID: "sw-" + host, Name: "br", Kind: platform.SwitchOVS, Hosts: []string{host}, Can: can})
		for v := range perHost {
			u.VMs = append(u.VMs, platform.VM{ID: vmID(h*perHost + v), Name: vmID(h*perHost + v), Host: host})
			u.Ports = append(u.Ports, *portAt(h*perHost+v, host))
		}
	}
	c.tell(u)
}

func vmID(n int) string { return fmt.Sprintf("vm-%06d", n) }

func portAt(n int, host string) *platform.Port {
	return &platform.Port{
		ID: "p-" + vmID(n), Name: "p-" + vmID(n), Kind: platform.PortVM, Host: host, Switch: "sw-" + host, VM: vmID(n), MAC: flow.MAC(0x020000000000 + n), Up: true,
		Segment: flow.NewSegment(flow.KindVXLAN, uint32(5000+n%200)), Addrs: []flow.Addr{flow.V4([]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})},
	}
}

func processorTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkWatch100kVMs5kHosts runs the whole control line (inventory, names for flows, plans, journal) on a data centre in which 1,000
// machines move each second for ten seconds; each move is a change of two records. It reports changes in each second as they were taken, how
// far behind the line was at the end, and what it cost.
func BenchmarkWatch100kVMs5kHosts(b *testing.B) {
	const hosts, perHost, changes, rate = 5000, 20, 10000, 1000
	for b.Loop() {
		st, err := state.Open(b.Context(), filepath.Join(b.TempDir(), "s.db"))
		if err != nil {
			b.Fatal(err)
		}
		c := newCenter("center")
		line, err := control.New(control.Config{Store: st, Connect: func(*policy.Platform) (platform.Platform, error) { return c, nil }})
		if err != nil {
			b.Fatal(err)
		}
		c.fill(hosts, perHost)
		set, err := policy.Parse("bench", []byte("apiVersion: crosstap/v1\nkind: Platform\nmetadata: {name: center}\nspec: {kind: ovs, address: x}\n"+
			destination("ids", "url: 'vxlan://10.0.0.9?vni=1'")+tap("some", `select: 'vni = 5007', destinations: [ids]`)))
		if err != nil {
			b.Fatal(err)
		}
		p, err := line.Plan(b.Context(), control.Wanted{Set: set})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := line.Apply(b.Context(), p, control.Author{Who: "bench", Action: "apply"}); err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		var g sync.WaitGroup
		g.Go(func() { _ = line.Run(ctx) })
		var named atomic.Int64
		g.Go(func() { _ = line.WatchIdentities(ctx, func(identity.Inventory) { named.Add(1) }) })
		for named.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		cpu, from, before := processorTime(), time.Now(), c.sent.Load()
		var late []time.Duration
		for n := range changes {
			due := from.Add(time.Duration(n) * time.Second / rate)
			time.Sleep(time.Until(due))
			host := fmt.Sprintf("h%05d", (n*7)%hosts)
			c.tell(platform.Update{AtNS: time.Now().UnixNano(), Ports: []platform.Port{*portAt(n%100000, host)}, VMs: []platform.VM{{ID: vmID(n % 100000), Name: vmID(n % 100000), Host: host}}})
			late = append(late, time.Since(due))
		}
		for c.sent.Load()-before < changes {
			time.Sleep(time.Millisecond)
		}
		took := time.Since(from)
		slices.Sort(late)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(changes)/took.Seconds(), "changes/s")
		b.ReportMetric((processorTime()-cpu).Seconds()/took.Seconds(), "cores")
		b.ReportMetric(float64(late[len(late)*99/100].Milliseconds()), "late-p99-ms")
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		stop()
		g.Wait()
		if err := line.Close(); err != nil {
			b.Fatal(err)
		}
		_ = st.Close()
	}
}
