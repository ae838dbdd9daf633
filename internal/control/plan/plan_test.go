package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// capable is what Open vSwitch can do, once.
var capable = platform.Capability{
	Methods: []platform.Method{platform.MethodMirror, platform.MethodRemoteMirror, platform.MethodPromiscuous, platform.MethodFlowsOnly},
	Encaps:  []platform.Encap{platform.EncapVXLAN, platform.EncapGRE}, Filter: platform.FilterTuple, ExceptMACs: true, Slice: true, VLANs: true,
	OncePerPair: true, UplinkSource: true,
}

// world makes inventories: hosts named like platforms, one switch "br" each.
type world struct {
	snaps []*platform.Snapshot
	mac   flow.MAC
}

func (w *world) host(name string, can platform.Capability) *platform.Snapshot {
	s := platform.NewSnapshot(name)
	s.Hosts[name] = &platform.Host{ID: name, Name: name}
	s.Switches["br"] = &platform.Switch{ID: "br", Name: "br", Kind: platform.SwitchOVS, Hosts: []string{name}, Can: can}
	w.snaps = append(w.snaps, s)
	return s
}

func (w *world) port(s *platform.Snapshot, vm string, kind platform.PortKind, vni uint32) *platform.Port {
	w.mac++
	p := &platform.Port{ID: "p-" + vm, Name: "p-" + vm, Kind: kind, Host: s.Platform, Switch: "br", MAC: 0x020000000000 + w.mac, Up: true, MTU: 1500, RxBytes: 100}
	if vni > 0 {
		p.Segment = flow.NewSegment(flow.KindVXLAN, vni)
	}
	if kind == platform.PortVM {
		p.VM = vm
		s.VMs[vm] = &platform.VM{ID: vm, Name: vm, Host: s.Platform}
	}
	s.Ports[p.ID] = p
	return p
}

func (w *world) build(t testing.TB, text string, more ...func(*Input)) *Plan {
	t.Helper()
	var parts []string
	for _, r := range strings.Split(text, "\n") {
		if kind, rest, ok := strings.Cut(strings.TrimSpace(r), " "); ok {
			name, spec, _ := strings.Cut(rest, " ")
			parts = append(parts, fmt.Sprintf("apiVersion: crosstap/v1\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\n", kind, name, spec))
		}
	}
	set, err := policy.Parse("test", []byte(strings.Join(parts, "---\n")))
	if err == nil {
		err = set.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Owner: "crosstap", Set: set, Snapshots: w.snaps, Now: at}
	for _, f := range more {
		f(&in)
	}
	return Build(in)
}

// text writes sessions for comparison: "host: a↑↓ b↑ -mac2 > ids".
func text(p *Plan) string {
	var out []string
	for _, name := range sortedKeys(p.Want) {
		for _, s := range p.Want[name].Sessions {
			line := name + ":"
			for _, src := range s.Sources {
				line += " " + strings.TrimPrefix(src.Port, "p-") + map[platform.Direction]string{1: "↑", 2: "↓", 3: "↕"}[src.Dir]
			}
			for _, m := range s.ExceptFrom {
				line += fmt.Sprintf(" -%d", m&0xff)
			}
			for _, o := range s.Outputs {
				line += " > " + o.Name
			}
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func sortedKeys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func reasons(p *Plan) string {
	var out []string
	for _, r := range p.Refusals {
		out = append(out, string(r.Reason)+" "+r.Port)
	}
	slices.Sort(out)
	return strings.TrimSpace(strings.Join(out, ", "))
}

const ids = "Destination ids url: 'vxlan://10.0.0.9?vni=1'\n"

func TestOnce(t *testing.T) {
	w := &world{}
	h1, h2 := w.host("h1", capable), w.host("h2", capable)
	w.port(h1, "a", platform.PortVM, 1)
	w.port(h1, "b", platform.PortVM, 1)
	w.port(h2, "c", platform.PortVM, 1)
	w.port(h2, "d", platform.PortVM, 2)
	f := func(spec, want string) *Plan {
		t.Helper()
		p := w.build(t, ids+"Tap x destinations: [ids], "+spec)
		if got := text(p); got != want || len(p.Refusals) > 0 {
			t.Errorf("%s:\n%s\nwant\n%s\n%+v", spec, got, want, p.Refusals)
		}
		return p
	}
	f(`select: 'vm in (a, b)'`, "h1: a↕ b↕ > ids")
	f(`select: 'vm in (a, c)'`, "h1: a↕ -3 > ids\nh2: c↕ -1 > ids")
	f(`select: 'vm in (a, d)'`, "h1: a↕ > ids\nh2: d↕ > ids") // two segments never meet at layer 2 with one address
	f(`select: {vms: ["*"]}`, "h1: a↕ b↕ -3 > ids\nh2: c↕ d↕ -1 -2 > ids")
	f(`select: {vms: ["*"]}, direction: ingress`, "h1: a↑ b↑ > ids\nh2: c↑ d↑ > ids")
	p := f(`select: {vms: ["*"]}, direction: egress`, "h1: a↓ b↓ > ids\nh2: c↓ d↓ > ids")
	if c := p.Taps[0].Copies; !c.Once || c.Same != 1 || c.Other != 1 || c.Out != 0 || c.In != 1 {
		t.Errorf("%+v", c)
	}
}

// Predict agrees with a slow count of copies by the rules, on random placements: each pair of tapped machines gives one.
func TestPredictedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		w := &world{}
		var all []*platform.Port
		for h := range 1 + r.IntN(4) {
			s := w.host(fmt.Sprint("h", h), capable)
			for range r.IntN(5) {
				all = append(all, w.port(s, fmt.Sprint("v", len(all)), platform.PortVM, 7))
			}
		}
		chosen := map[string]bool{}
		var names []string
		for _, p := range all {
			if r.IntN(2) == 0 {
				chosen[p.VM] = true
				names = append(names, p.VM)
			}
		}
		if len(names) == 0 {
			continue
		}
		p := w.build(t, ids+"Tap x destinations: [ids], select: {vms: ["+strings.Join(names, ", ")+"]}")
		for _, from := range all {
			for _, to := range all {
				if from == to {
					continue
				}
				n := 0
				for name, want := range p.Want {
					var f, g *platform.Port
					if from.Host == name {
						f = from
					}
					if to.Host == name {
						g = to
					}
					f2 := f
					if f2 == nil { // it comes from elsewhere, with its address
						f2 = &platform.Port{ID: "far", MAC: from.MAC, Switch: "elsewhere"}
					}
					n += Predict(want.Sessions, f2, g, func(string) platform.Capability { return capable })
				}
				if want := count(chosen[from.VM] || chosen[to.VM]); n != want {
					t.Fatalf("%s on %s to %s on %s: %d copies, want %d\n%s", from.VM, from.Host, to.VM, to.Host, n, want, text(p))
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	w := &world{}
	h := w.host("h1", capable)
	w.port(h, "web", platform.PortVM, 1)
	w.port(h, "red", platform.PortVM, 2)
	w.port(h, "tool", platform.PortVM, 1)
	w.port(h, "eth0", platform.PortUplink, 0)
	w.port(h, "br", platform.PortKernel, 0)
	mirror := w.port(h, "span", platform.PortVM, 1)
	addressed := w.port(h, "far", platform.PortVM, 1)
	addressed.Addrs = []flow.Addr{flow.V4([]byte{10, 0, 0, 9})}
	h.Objects["m"] = &platform.Object{ID: "m", Kind: "Mirror", Outputs: []string{mirror.ID}}
	plain := w.host("h2", platform.Capability{Methods: []platform.Method{platform.MethodMirror}})
	w.port(plain, "old", platform.PortVM, 1)
	const more = ids + `
Destination local port: {vm: tool}
Destination blue url: 'gre://10.0.0.9?key=1', tenant: blue
Tenant blue segments: ['vxlan:1']
Tenant red segments: ['vxlan:2']
`
	f := func(spec, sessions, want string) {
		t.Helper()
		p := w.build(t, more+"Tap x "+spec)
		if got := reasons(p); got != want || text(p) != sessions {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s\n%+v", spec, text(p), got, sessions, want, p.Refusals)
		}
	}
	f(`destinations: [ids], select: 'port = p-web'`, "h1: web↕ > ids", "")
	f(`destinations: [ids], select: 'port = p-br'`, "", "kernel-port p-br")
	f(`destinations: [ids], select: 'port = p-eth0'`, "", "uplink p-eth0")
	f(`destinations: [ids], select: 'port = p-eth0', allow: [uplinks]`, "", "loop p-eth0")
	f(`destinations: [local], select: 'port = p-eth0', allow: [uplinks]`, "h1: eth0↕ > local", "")
	f(`destinations: [local], select: 'vm in (web, tool)'`, "h1: web↕ > local", "destination-tapped p-tool")
	f(`destinations: [ids], select: 'vm in (web, far)'`, "h1: web↕ > ids", "destination-tapped p-far")
	f(`destinations: [ids], select: 'vm in (web, span)'`, "h1: web↕ > ids", "mirror-port p-span")
	f(`destinations: [blue], select: 'vm in (web, red)'`, "h1: web↕ > blue", "foreign-tenant p-red")
	f(`destinations: [ids], tenant: blue, select: 'vm in (web, red)'`, "h1: web↕ > ids", "foreign-tenant p-red")
	f(`destinations: [ids], tenant: blue, allow: [other-tenants], select: 'vm in (web, red)'`, "h1: red↕ web↕ > ids", "")
	f(`destinations: [local], method: promiscuous, select: 'vm = web'`, "", "promiscuous p-web")
	f(`destinations: [local], method: promiscuous, allow: [promiscuous], tenant: blue, select: 'vm = web'`, "", "foreign-tenant p-red")
	f(`destinations: [local], method: promiscuous, allow: [promiscuous], select: 'vm = web'`, "h1: web↕ > local", "")
	f(`destinations: [ids], select: 'vm = old'`, "", "capability p-old")
	f(`destinations: [local], select: 'vm = old'`, "", "capability p-old")                      // no tool on that host
	f(`destinations: [ids], filter: 'tcp[20] = 5', select: 'vm = web'`, "", "capability p-web") // no switch looks into payloads
	f(`destinations: [ids], filter: 'udp port 53', select: 'vm = web'`, "h1: web↕ > ids", "")   // but it knows ports
	f(`destinations: [ids], sample: 10, select: 'vm = web'`, "", "capability p-web")
	f(`destinations: [ids], select: 'vm = nobody'`, "", "")
	f(`destinations: [ids], paused: true, select: 'vm = web'`, "", "")

	h.Hosts["h1"].Down = true
	f(`destinations: [ids], select: 'vm = web'`, "", "unreachable p-web")
	h.Hosts["h1"].Down = false
	plain.Lost = errors.New("gone")
	p := w.build(t, more+"Tap x destinations: [ids], select: {vms: [web]}")
	if _, there := p.Want["h2"]; there || len(p.Refusals) != 1 || p.Refusals[0].Reason != platform.ReasonDown {
		t.Errorf("%+v", p)
	}
}

func TestUnknownAddress(t *testing.T) {
	w := &world{}
	w.port(w.host("h1", capable), "a", platform.PortVM, 1).MAC = 0
	w.port(w.host("h2", capable), "b", platform.PortVM, 1)
	p := w.build(t, ids+"Tap x destinations: [ids], select: {vms: ['*']}")
	if reasons(p) != "ambiguous p-a" || p.Taps[0].State != Refused || text(p) != "" {
		t.Errorf("%s %+v", text(p), p)
	}
	p = w.build(t, ids+"Tap x destinations: [ids], select: {vms: ['*']}, allow: [copied-twice]")
	if len(p.Refusals) != 0 || p.Taps[0].Copies.Once || !strings.Contains(p.Taps[0].Warnings[0], "is not known") {
		t.Errorf("%+v", p.Taps)
	}
}

// fixed tells the same rate of everybody.
type fixed Rate

func (r fixed) Expect([]string, []flow.MAC, platform.Direction, string) (Rate, bool) {
	return Rate(r), true
}

func (fixed) Passing(platform.Direction, string) Passing { return Passing{Why: "test"} }

func TestCost(t *testing.T) {
	w := &world{}
	w.port(w.host("h1", capable), "a", platform.PortVM, 1)
	// 1,000 packets of 500 bytes each second: 4 Mbit/s; VXLAN over IPv4 adds 50 bytes to each: 4.4 Mbit/s
	rate := func(in *Input) { in.Rates = fixed{BPS: 4e6, Peak: 8e6, PPS: 1000, Of: "test"} }
	f := func(budget, warn string, mirror float64, slice int, reason string) {
		t.Helper()
		p := w.build(t, ids+"Tap x destinations: [ids], select: {vms: [a]}, budget: {"+budget+"}", rate)
		c := p.Taps[0].Cost
		if reasons(p) != reason || strings.Join(p.Taps[0].Warnings, "; ") != warn || reason == "" && (c.Mirror != mirror || c.Slice != slice) {
			t.Errorf("%s: %s %q %+v", budget, reasons(p), p.Taps[0].Warnings, c)
		}
	}
	const mtu = "destination ids: copies of packets longer than 1450 bytes do not fit the path's MTU of 1500 and are fragmented or lost: use slice: 1464, or a path with an MTU of 1550"
	f("mirror: 5Mbit/s", mtu, 4.4e6, 0, "")
	f("mirror: 4Mbit/s", "", 0, 0, "budget")
	f("mirror: 4Mbit/s, onExceed: warn", "mirror: 4.4 Mbit/s of copies, the budget is 4 Mbit/s; "+mtu, 4.4e6, 0, "")
	f("mirror: 2Mbit/s, onExceed: slice", "copies are cut to 200 bytes, to keep to the budget of 2 Mbit/s", 2e6, 200, "")
	f("mirror: 2Mbit/s, onExceed: sample", "", 0, 0, "budget") // this switch cannot
	f("cpu: 0.1%", "", 0, 0, "budget")                         // 1,000 copies into a tunnel: 0.144 %
}

func TestLife(t *testing.T) {
	w := &world{}
	w.port(w.host("h1", capable), "a", platform.PortVM, 1)
	f := func(age time.Duration, state State, ends int64) {
		t.Helper()
		p := w.build(t, ids+"Tap x destinations: [ids], select: {vms: [a]}, ttl: 1h", func(in *Input) { in.Applied = map[string]time.Time{"x": at.Add(-age)} })
		var expires int64
		for _, s := range p.Want["h1"].Sessions {
			expires = s.Mark.ExpiresS
		}
		if p.Taps[0].State != state || expires != ends {
			t.Errorf("%v: %s, %d", age, p.Taps[0].State, expires)
		}
	}
	f(0, Active, at.Unix()+3600)
	f(59*time.Minute, Active, at.Unix()+60)
	f(time.Hour, Expired, 0)
}

// The placement of capture machines: two hosts with two switches each are two machines, with two adapters each in four port groups.
func TestPlaceCapture(t *testing.T) {
	hosts := map[string]*platform.Host{"h1": {ID: "h1", Name: "esx1"}, "h2": {ID: "h2", Name: "esx2"}}
	switches := []*platform.Switch{
		{ID: "s1", Name: "vSwitch0", Kind: platform.SwitchStandard, Hosts: []string{"h1"}}, {ID: "s2", Name: "vSwitch0", Kind: platform.SwitchStandard, Hosts: []string{"h2"}},
		{ID: "d", Name: "dvs", Kind: platform.SwitchDistributed, Hosts: []string{"h1", "h2"}},
	}
	var got []string
	groups := map[string]bool{}
	for _, s := range PlaceCapture("crosstap", &policy.Tap{Meta: policy.Meta{Name: "all"}}, hosts, switches) {
		for _, n := range s.Capture.NICs {
			got = append(got, fmt.Sprintf("%s on %s: %s of %s, VLANs %s", s.Capture.VM, s.Host, n.Group, n.Switch, n.VLANs))
			groups[s.Host+n.Group] = true
		}
	}
	want := []string{
		"crosstap-capture-esx1 on h1: crosstap-span-dvs-esx1 of d, VLANs 0-4094", "crosstap-capture-esx1 on h1: crosstap-span-vSwitch0 of s1, VLANs 4095",
		"crosstap-capture-esx2 on h2: crosstap-span-dvs-esx2 of d, VLANs 0-4094", "crosstap-capture-esx2 on h2: crosstap-span-vSwitch0 of s2, VLANs 4095",
	}
	if !slices.Equal(got, want) || len(groups) != 4 {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

func TestCoverage(t *testing.T) {
	w := &world{}
	h := w.host("h1", capable)
	w.port(h, "a", platform.PortVM, 1).RxBytes = 300
	w.port(h, "b", platform.PortVM, 1)
	h.Objects["m"] = &platform.Object{ID: "m", Mark: platform.Mark{Owner: "crosstap", Policy: "x"}, Sources: []platform.Source{{Port: "p-b", Dir: platform.Both}}}
	c := w.build(t, ids+"Tap x destinations: [ids], select: {vms: [a]}").Coverage
	if c.Ports != 2 || c.Before != 0.25 || c.After != 0.75 || len(c.Hosts) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestKeep(t *testing.T) {
	w := &world{}
	h := w.host("h1", capable)
	for i, m := range []platform.Mark{{Owner: "crosstap", Policy: "gone"}, {Owner: "crosstap", Policy: "stranger"}, {Owner: "other", Policy: "theirs"}, {Owner: "crosstap", Policy: platform.Shared}} {
		h.Objects[fmt.Sprint(i)] = &platform.Object{ID: fmt.Sprint(i), Mark: m}
	}
	known := func(in *Input) { in.Known = map[string]bool{"gone": true} }
	if k := w.build(t, ids, known).Want["h1"].Keep; len(k) != 1 || !k["stranger"] {
		t.Errorf("%v", k)
	}
	if k := w.build(t, ids, known, func(in *Input) { in.Prune = true }).Want["h1"].Keep; len(k) != 0 {
		t.Errorf("%v", k)
	}
}

// large is a data centre: hosts with 20 machines each, in tenants of 500.
func large(hosts, perHost int) *world {
	w := &world{}
	n := 0
	for h := range hosts {
		s := w.host(fmt.Sprintf("h%04d", h), capable)
		for range perHost {
			w.port(s, fmt.Sprintf("vm-%06d", n), platform.PortVM, uint32(5000+n%200))
			n++
		}
		w.port(s, "eth0", platform.PortUplink, 0)
	}
	return w
}

func BenchmarkPlan100kVMs5kHosts(b *testing.B) {
	w := large(5000, 20)
	text := ids + "Tap tenant destinations: [ids], select: 'vni = 5007', filter: 'tcp port 443'\nTap all destinations: [ids], select: {vms: ['*']}\nTap some destinations: [ids], select: 'vm like \"vm-01%\"', direction: ingress"
	for b.Loop() {
		p := w.build(b, text)
		if len(p.Refusals) > 0 || len(p.Want) != 5000 || len(p.Want["h0001"].Sessions) == 0 {
			b.Fatalf("%+v", p.Refusals[:min(3, len(p.Refusals))])
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
}

// between tells 100 packets each second between two machines on two hosts, which is the rate of each and of both.
type between struct{}

func (between) Expect(vms []string, _ []flow.MAC, _ platform.Direction, _ string) (Rate, bool) {
	return Rate{BPS: 800e3, Peak: 1600e3, PPS: 100, Of: "test"}, len(vms) > 0
}

func (between) Passing(platform.Direction, string) Passing { return Passing{Why: "test"} }

// What two tapped machines say to each other costs once, as it is copied once.
func TestCostOnce(t *testing.T) {
	w := &world{}
	w.port(w.host("h1", capable), "a", platform.PortVM, 1)
	w.port(w.host("h2", capable), "b", platform.PortVM, 1)
	f := func(more string, bps, mirror, peak float64) {
		t.Helper()
		c := w.build(t, ids+"Tap x destinations: [ids], select: {vms: [a, b]}"+more, func(in *Input) { in.Rates = between{} }).Taps[0].Cost
		if c.Rate.BPS != bps || c.Mirror != mirror || c.Peak != peak {
			t.Errorf("%s: %+v", more, c)
		}
	}
	// 100 packets of 1,000 bytes each second, with 50 bytes of VXLAN: 840 kbit/s
	f("", 800e3, 840e3, 1680e3)
	f(", slice: 100", 800e3, 120e3, 240e3)
}
