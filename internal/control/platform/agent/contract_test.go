package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/agentapi"
	"crosstap/internal/control/platform"
	agentplatform "crosstap/internal/control/platform/agent"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/desk"
	"crosstap/internal/tapspec"
)

// office is a server's hub with agents that do what they are told.
type office struct {
	t     *testing.T
	hub   *agent.Hub
	p     *agentplatform.Platform
	url   string
	token string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	dir := t.TempDir()
	tokens, err := agent.OpenTokens(agent.TokenPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	c := agent.DefaultConfig()
	c.Dir, c.Tokens, c.Wait = filepath.Join(dir, "agents"), tokens, 50*time.Millisecond
	o := &office{t: t}
	if o.hub, err = agent.New(c); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(o.hub.Handler())
	t.Cleanup(srv.Close)
	o.url = srv.URL + agentapi.Base
	token, err := tokens.Create(agent.Grant{Role: agentapi.RolePayload}, 0)
	if err != nil {
		t.Fatal(err)
	}
	o.token = token.Bearer()
	if o.p, err = agentplatform.New(agentplatform.Config{Desk: desk.New(o.hub), Path: way}); err != nil {
		t.Fatal(err)
	}
	return o
}

// way is the path of each tap, as steps are to tell it.
func way(s *tapspec.Spec) string { return "tcx: for " + s.Name }

// ask sends a request of an agent.
func (o *office) ask(method, path string, body, out any) int {
	b, err := json.Marshal(body)
	if err != nil {
		o.t.Error(err)
		return 0
	}
	req, err := http.NewRequest(method, o.url+path, bytes.NewReader(b))
	if err != nil {
		o.t.Error(err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if out != nil && res.StatusCode == http.StatusOK {
		if err := json.NewDecoder(res.Body).Decode(out); err != nil {
			o.t.Error(err)
		}
	}
	return res.StatusCode
}

// hired is an agent that reports each tap that it is given as running, unless refuse says no.
type hired struct {
	name   string
	refuse func(tapspec.Spec) string
}

func (o *office) register(h hired, ifaces ...agentapi.Interface) {
	o.t.Helper()
	r := agentapi.Registration{Version: 1, Name: h.name, Instance: "i-" + h.name, Host: h.name, Payload: true, Interfaces: ifaces}
	if code := o.ask(http.MethodPost, "register", r, nil); code != http.StatusOK {
		o.t.Fatalf("register: %d", code)
	}
}

// work has an agent follow its orders until the test ends.
func (o *office) work(h hired, ifaces ...agentapi.Interface) (stop func()) {
	o.t.Helper()
	o.register(h, ifaces...)
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		have := "none"
		for {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond):
			}
			var orders agentapi.Orders
			if o.ask(http.MethodGet, fmt.Sprintf("taps?name=%s&instance=i-%s&have=%s", h.name, h.name, have), nil, &orders) == http.StatusOK {
				have = orders.Revision
				o.report(h, &orders)
			}
			o.report(h, nil)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(quit); <-ended }) }
	o.t.Cleanup(stop)
	return stop
}

var reports sync.Map // name → the last one

// report tells of the taps of orders; without orders of those told before.
func (o *office) report(h hired, orders *agentapi.Orders) {
	key := o.url + h.name
	r := agentapi.Report{Name: h.name, Instance: "i-" + h.name}
	if last, ok := reports.Load(key); ok {
		r = last.(agentapi.Report)
	}
	if orders != nil {
		r.Revision, r.Taps = orders.Revision, nil
		for _, s := range orders.Taps {
			t := agentapi.Tap{Name: s.Name, Digest: s.Digest(), State: agentapi.StateRunning, To: []agentapi.Destination{{URL: s.To[0].URL, Unit: "frames", Sent: 7}}}
			if h.refuse != nil && h.refuse(s) != "" {
				t.State, t.Error = agentapi.StateRefused, h.refuse(s)
			}
			r.Taps = append(r.Taps, t)
		}
	}
	r.Time = time.Now()
	reports.Store(key, r)
	o.ask(http.MethodPost, "report", r, nil)
}

func iface(name, kind, mac string) agentapi.Interface {
	return agentapi.Interface{Name: name, Kind: kind, MAC: mac, MTU: 1500, Up: true, Index: len(name), Addresses: []string{"10.0.0.7/24"}}
}

// TestContract tries the platform on a server's hub.
func TestContract(t *testing.T) {
	platformtest.Run(t, func(t *testing.T) *platformtest.Place {
		o := newOffice(t)
		eth0 := iface("eth0", "device", "02:00:00:00:00:01")
		o.work(hired{name: "web-1"}, eth0)
		o.work(hired{name: "kvm-1"}, iface("eth0", "device", "02:00:00:00:00:02"), iface("vnet1", "tun", "fe:00:00:00:00:03"))
		name := func(s platform.Session) string { return s.Mark.Policy + "/eth0" }
		edit := func(t *testing.T, change func([]tapspec.Spec) []tapspec.Spec) {
			t.Helper()
			if err := o.hub.Edit("web-1", func(taps []tapspec.Spec) ([]tapspec.Spec, bool, error) { return change(taps), true, nil }); err != nil {
				t.Fatal(err)
			}
		}
		return &platformtest.Place{
			Platform: o.p,
			Session: func(_ *testing.T, _ *platform.Snapshot, policy string) platform.Session {
				return platform.Session{
					Mark:   platform.Mark{Owner: platformtest.Owner, Policy: policy, Part: "web-1.eth0", Digest: "1"},
					Method: platform.MethodAgent, Host: "web-1", Switch: "web-1", Sources: []platform.Source{{Port: "web-1/eth0", Dir: platform.Both}},
					Filter: "tcp port 80", Outputs: []platform.Output{{Name: "ids", URL: "vxlan://10.0.0.9?vni=7"}},
				}
			},
			Change: func(s platform.Session) platform.Session {
				s.Filter, s.Slice, s.Mark.Digest = "udp", 128, "2"
				return s
			},
			State: func(t *testing.T) string {
				var out []string
				for _, name := range []string{"web-1", "kvm-1"} {
					taps, _ := o.hub.Taps(name)
					// none are an empty list, whether there were some before or not
					text, err := json.Marshal(tapspec.Document{Taps: append([]tapspec.Spec{}, taps...)})
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, name, string(text))
				}
				return strings.Join(out, "\n")
			},
			Foreign: func(t *testing.T) {
				edit(t, func(taps []tapspec.Spec) []tapspec.Spec {
					return append(taps, tapspec.Spec{Name: "by-hand", Source: tapspec.Source{Interfaces: []string{"eth0"}}, To: []tapspec.To{{URL: "null:"}}})
				})
			},
			Meddle: func(t *testing.T, s platform.Session) string {
				edit(t, func(taps []tapspec.Spec) []tapspec.Spec {
					for i := range taps {
						if taps[i].Name == name(s) {
							taps[i].Filter = "udp port 53"
						}
					}
					return taps
				})
				return "filter"
			},
			Break: func(t *testing.T, _ platform.Session) {
				edit(t, func([]tapspec.Spec) []tapspec.Spec { return nil })
			},
			Appear: func(*testing.T) { o.register(hired{name: "new-1"}, eth0) },
			Vanish: func(*testing.T) { o.register(hired{name: "new-1"}) }, // its interface has gone
			Is:     func(s *platform.Snapshot) bool { return s.Ports["new-1/eth0"] != nil },
			Lose:   func(*testing.T, platform.Session) { o.register(hired{name: "web-1"}) },
			Expire: func(t *testing.T, s platform.Session) platform.Session {
				s.Lease = platform.Lease{TTL: 90 * time.Second, Expires: time.Now().Add(time.Hour)}
				s.Mark.ExpiresS = s.Lease.Expires.Unix()
				steps, refused := o.p.Steps(must(o.p.Read(t.Context())), platform.Want{Owner: platformtest.Owner, Sessions: []platform.Session{s}})
				if len(steps) != 1 || len(refused) > 0 || steps[0].Why != "tcx: for "+name(s) {
					t.Fatalf("%+v %+v", steps, refused)
				}
				if err := o.p.Apply(t.Context(), steps[0]); err != nil {
					t.Fatal(err)
				}
				return s
			},
			Ended: func(t *testing.T, s platform.Session) bool { // the agent is told both, and keeps to them by itself
				taps, _ := o.hub.Taps("web-1")
				return len(taps) == 1 && taps[0].Lease == tapspec.Duration(90*time.Second) && taps[0].TTL > tapspec.Duration(50*time.Minute) && taps[0].TTL <= tapspec.Duration(time.Hour)
			},
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// BenchmarkGive gives a tap to each of 1,000 agents that are away, 64 at a time, as a control line does.
func BenchmarkGive(b *testing.B) {
	dir := b.TempDir()
	c := agent.DefaultConfig()
	c.Dir = filepath.Join(dir, "agents")
	hub, err := agent.New(c)
	if err != nil {
		b.Fatal(err)
	}
	d := desk.New(hub)
	for n := range 1000 {
		if err := hub.Put(fmt.Sprintf("agent-%04d", n), nil); err != nil {
			b.Fatal(err)
		}
	}
	spec := tapspec.Spec{Name: "web/eth0", Source: tapspec.Source{Interfaces: []string{"eth0"}}, Filter: "tcp port 80", To: []tapspec.To{{URL: "vxlan://10.0.0.9?vni=7"}}}
	for b.Loop() {
		var g errgroup.Group
		g.SetLimit(64)
		spec.Filter += " or udp"
		taps := []tapspec.Spec{spec}
		for n := range 1000 {
			g.Go(func() error {
				return d.Edit(fmt.Sprintf("agent-%04d", n), func([]tapspec.Spec) ([]tapspec.Spec, bool, error) { return taps, true, nil })
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}
