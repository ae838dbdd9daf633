package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// agents is a platform of agents.
func (w *world) agents() *platform.Snapshot {
	s := platform.NewSnapshot("agents")
	w.snaps = append(w.snaps, s)
	return s
}

var agentCan = platform.Capability{Methods: []platform.Method{platform.MethodAgent}, Filter: platform.FilterFull, ExceptMACs: true, Slice: true, Sample: true, VLANs: true}

// agent adds one on a host, with an interface: that of a machine with an address, or of one behind it without.
func (w *world) agent(s *platform.Snapshot, name, host, iface string, mac flow.MAC) *platform.Port {
	s.Hosts[name] = &platform.Host{ID: name, Name: host}
	s.Switches[name] = &platform.Switch{ID: name, Name: "agent", Kind: platform.SwitchAgent, Hosts: []string{name}, Can: agentCan}
	p := &platform.Port{ID: name + "/" + iface, Name: iface, Kind: platform.PortVM, Host: name, Switch: name, MAC: mac, Up: true, RxBytes: 100}
	if mac != 0 {
		p.VM = "agent/" + name
		s.VMs[p.VM] = &platform.VM{ID: p.VM, Name: name, Host: name, Agent: true}
	}
	s.Ports[p.ID] = p
	return p
}

// ways writes sessions as text does, with what agents have beyond.
func ways(p *Plan) string {
	out := strings.Split(text(p), "\n")
	for _, s := range p.Want["agents"].Sessions {
		if s.Sources[0].Quiet {
			out = append(out, "quiet "+s.Sources[0].Port)
		}
	}
	return strings.TrimSpace(strings.Join(out, "\n"))
}

func TestAgents(t *testing.T) {
	w := &world{}
	h1, h2 := w.host("h1", capable), w.host("h2", platform.Capability{Methods: []platform.Method{platform.MethodMirror}})
	a, b := w.port(h1, "a", platform.PortVM, 1), w.port(h1, "b", platform.PortVM, 1)
	c := w.port(h2, "c", platform.PortVM, 1)
	w.port(h2, "d", platform.PortVM, 1)
	ag := w.agents()
	w.agent(ag, "a-agent", "a-guest", "eth0", a.MAC)
	w.agent(ag, "b-agent", "b-guest", "eth0", b.MAC)
	w.agent(ag, "kvm", "H2", "p-c", 0) // sees c by the name of its port on the host
	w.agent(ag, "kvm-eth0", "h2", "eth9", 0x02aa)
	w.agent(ag, "cloud", "cloud", "eth0", 0x02bb)
	const more = ids + `
Destination flows url: 'ipfix://10.0.0.8'
Destination tcp url: 'ipfix+tcp://10.0.0.8'
Destination tool port: {vm: d}
Destination file url: 'pcapng:/var/x.pcapng'
`
	f := func(spec, sessions, why string) *Plan {
		t.Helper()
		p := w.build(t, more+"Tap x "+spec)
		if got := ways(p); got != sessions || reasons(p) != why {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s\n%+v", spec, got, reasons(p), sessions, why, p.Refusals)
		}
		return p
	}
	// all that is tapped is copied once: what comes from elsewhere by address, broadcasts of others at the first of a switch
	f(`destinations: [ids], method: agent, select: 'vm in (a, b)'`, "agents: a-agent/eth0↕ -2 > ids\nagents: b-agent/eth0↕ -1 > ids\nquiet b-agent/eth0", "")
	f(`destinations: [ids], method: agent, select: 'vm in (a, c)'`, "agents: a-agent/eth0↕ -3 > ids\nagents: kvm/p-c↕ -1 > ids", "")
	f(`destinations: [ids], method: agent, select: 'vm in (a, c)', direction: ingress`, "agents: a-agent/eth0↑ > ids\nagents: kvm/p-c↑ > ids", "")
	f(`destinations: [ids], method: agent, select: 'vm in (a, d)'`, "agents: a-agent/eth0↕ > ids", "capability p-d")
	f(`destinations: [flows], method: agent, select: 'vm in (a, b)'`, "agents: a-agent/eth0↕ > flows\nagents: b-agent/eth0↕ > flows", "")
	f(`destinations: [tool], method: agent, select: 'vm = a'`, "", "capability eth0")
	// auto takes the switch where it can, else the agent
	f(`destinations: [ids], select: 'vm in (a, b)'`, "h1: a↕ b↕ > ids", "")
	f(`destinations: [ids], select: 'vm in (a, c)'`, "agents: kvm/p-c↕ -1 > ids\nh1: a↕ -3 > ids", "")
	f(`destinations: [ids], select: 'vm = a', filter: 'tcp[20] = 5'`, "agents: a-agent/eth0↕ > ids", "")
	f(`destinations: [ids], select: 'vm = a', groom: [dedup], sample: 10`, "agents: a-agent/eth0↕ > ids", "")
	f(`destinations: [file], select: 'vm = a'`, "agents: a-agent/eth0↕ > file", "")
	f(`destinations: [file], select: 'vm = d'`, "", "capability p-d")
	f(`destinations: [flows], select: 'vm in (a, c)'`, "agents: kvm/p-c↕ > flows\nh1: a↕", "")
	// flows by the switch, and by the agent where it exports none or not so
	f(`destinations: [flows], method: flows-only, select: 'vm in (a, c)'`, "agents: kvm/p-c↕ > flows\nh1: a↕", "")
	f(`destinations: [tcp], method: flows-only, select: 'vm = a'`, "agents: a-agent/eth0↕ > tcp", "")
	// a machine that no platform tells of is the agent's own; an adapter of a hypervisor is an uplink
	f(`destinations: [ids], select: 'vm = cloud'`, "agents: cloud/eth0↕ > ids", "")
	f(`destinations: [ids], select: 'vm = kvm-eth0'`, "", "")
	f(`destinations: [ids], method: remote-mirror, select: 'vm = cloud'`, "", "capability eth0")
	f(`destinations: [ids], method: agent, select: 'vm = a', vlans: [7]`, "agents: a-agent/eth0↕ > ids", "")
	c.VLAN = 8
	f(`destinations: [ids], method: agent, select: 'vm = c', vlans: [7]`, "", "")
	c.VLAN = 0

	// an agent that is away keeps what it has, and nobody else's changes
	ag.Hosts["a-agent"].Down = true
	ag.Objects["o"] = &platform.Object{ID: "o", Mark: platform.Mark{Owner: "crosstap", Policy: "x", Part: "a-agent.eth0"}}
	p := f(`destinations: [ids], method: agent, select: 'vm in (a, b)'`, "agents: b-agent/eth0↕ > ids", "unreachable eth0")
	if keep := p.Want["agents"].Keep; len(keep) != 1 || !keep["x/a-agent.eth0"] || !p.Refusals[0].Kept {
		t.Errorf("kept %v, %+v", keep, p.Refusals)
	}
}

// A refused policy keeps what it has, unless that would show what must not be seen.
func TestRefusedKeeps(t *testing.T) {
	w := &world{}
	h := w.host("h1", capable)
	w.port(h, "web", platform.PortVM, 1)
	w.port(h, "red", platform.PortVM, 2)
	h.Objects["m"] = &platform.Object{ID: "m", Mark: platform.Mark{Owner: "crosstap", Policy: "x", Part: "br.h1.remote"}}
	f := func(spec string, keep bool, more ...func(*Input)) {
		t.Helper()
		p := w.build(t, ids+"Tenant blue segments: ['vxlan:1']\nTap x destinations: [ids], "+spec, more...)
		if len(p.Refusals) == 0 || len(p.Want["h1"].Sessions) > 0 || p.Want["h1"].Keep["x"] != keep || p.Refusals[0].Kept != keep || strings.Contains(p.Refusals[0].Fix, "go on as they are") != keep {
			t.Errorf("%s: %+v, keep %v", spec, p.Refusals, p.Want["h1"].Keep)
		}
	}
	f(`select: 'vm = web', sample: 10`, true)
	f(`select: 'vm = web', groom: [dedup]`, true)
	f(`select: 'vm = web', budget: {mirror: 1Mbit/s}`, true, func(in *Input) { in.Rates = fixed{BPS: 4e6, PPS: 1000} })
	f(`select: 'vm = red', tenant: blue`, false)
	h.Hosts["h1"].Down = true
	f(`select: 'vm = web'`, true)
	h.Hosts["h1"].Down = false
	p := w.build(t, ids+"Tap x destinations: [ids], select: 'vm = nobody'") // nothing is refused: there is nothing
	if len(p.Want["h1"].Keep) > 0 {
		t.Errorf("%+v", p.Want)
	}
}

// Where a switch cannot cut copies, cutting them is not what the plan proposes.
func TestNoSliceProposed(t *testing.T) {
	w := &world{}
	tc := capable
	tc.Slice, tc.Sample = false, true
	w.port(w.host("h1", tc), "a", platform.PortVM, 1)
	rate := func(in *Input) { in.Rates = fixed{BPS: 4e6, Peak: 8e6, PPS: 1000} }
	f := func(budget, want string) {
		t.Helper()
		p := w.build(t, ids+"Tap x destinations: [ids], select: {vms: [a]}, "+budget, rate)
		got := strings.Join(p.Taps[0].Warnings, "; ")
		for _, r := range p.Refusals {
			got += r.Message + " | " + r.Fix
		}
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", budget, got, want)
		}
	}
	f("budget: {mirror: 2Mbit/s, onExceed: slice}", "mirror: 4.4 Mbit/s of copies, the budget is 2 Mbit/s, and switch br cannot cut them | filter, sample, raise the budget, or write onExceed: warn")
	f("budget: {mirror: 2Mbit/s}", "mirror: 4.4 Mbit/s of copies, the budget is 2 Mbit/s | filter, sample, raise the budget, or write onExceed: warn")
	f("direction: both", "destination ids: copies of packets longer than 1450 bytes do not fit the path's MTU of 1500 and are fragmented or lost: "+
		"use method: agent with slice: 1464 (switch br cannot cut), or a path with an MTU of 1550")
	f("slice: 100", "switch br cannot cut copies | copy fewer packets with sample, leave slice out, or use method: agent")
}

// Predict agrees with what each conversation gives on random placements of machines, some behind switches, some with agents in them: one copy
// of each packet that a tapped machine sends or gets.
func TestPredictedOnceWithAgents(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		w := &world{}
		var all []*platform.Port
		ag := w.agents()
		can := func(sw string) platform.Capability {
			if sw == "br" {
				return capable
			}
			return agentCan
		}
		agent := map[string]string{}
		for h := range 1 + r.IntN(4) {
			s := w.host(fmt.Sprint("h", h), []platform.Capability{capable, {}}[r.IntN(2)])
			for range r.IntN(5) {
				p := w.port(s, fmt.Sprint("v", len(all)), platform.PortVM, 7)
				all = append(all, p)
				if r.IntN(2) == 0 {
					agent[p.VM] = "g" + p.VM
					w.agent(ag, "g"+p.VM, "guest", "eth0", p.MAC)
				}
			}
		}
		var names []string
		for _, p := range all {
			if r.IntN(2) == 0 {
				names = append(names, p.VM)
			}
		}
		if len(names) == 0 {
			continue
		}
		p := w.build(t, ids+"Tap x destinations: [ids], select: {vms: ["+strings.Join(names, ", ")+"]}")
		tapped := map[string]bool{}
		for _, want := range p.Want {
			for _, s := range want.Sessions {
				for _, src := range s.Sources {
					vm := strings.TrimPrefix(src.Port, "p-")
					if name, _, ok := strings.Cut(strings.TrimPrefix(src.Port, "g"), "/"); ok {
						vm = name
					}
					if tapped[vm] {
						t.Fatalf("%s is tapped twice\n%s", vm, text(p))
					}
					tapped[vm] = true
				}
			}
		}
		for _, from := range all {
			for _, to := range all {
				if from == to {
					continue
				}
				if n, want := copiesOf(p, agent, from, to, can), count(tapped[from.VM] || tapped[to.VM]); n != want {
					t.Fatalf("%s on %s to %s on %s: %d copies, want %d\n%s", from.VM, from.Host, to.VM, to.Host, n, want, text(p))
				}
			}
		}
		if refused := len(p.Refusals); refused == 0 && len(tapped) != len(names) {
			t.Fatalf("%d of %d are tapped and nothing is refused", len(tapped), len(names))
		}
	}
}

// copiesOf predicts what all sessions make of a packet, at its switches and at its machines' agents.
func copiesOf(p *Plan, agent map[string]string, from, to *platform.Port, can func(string) platform.Capability) (n int) {
	far := &platform.Port{ID: "far", MAC: from.MAC, Switch: "elsewhere"}
	for name, want := range p.Want {
		if name == "agents" {
			for _, end := range []*platform.Port{from, to} {
				g := agent[end.VM]
				if g == "" {
					continue
				}
				at := &platform.Port{ID: g + "/eth0", MAC: end.MAC, Switch: g, Host: g}
				if end == from {
					n += Predict(want.Sessions, at, nil, can)
				} else {
					n += Predict(want.Sessions, far, at, can)
				}
			}
			continue
		}
		f, g := far, (*platform.Port)(nil)
		if from.Host == name {
			f = from
		}
		if to.Host == name {
			g = to
		}
		n += Predict(want.Sessions, f, g, can)
	}
	return n
}

// The example of the checklist through a policy: two hosts with a standard and a distributed switch each give two capture machines and four
// port groups, and nothing without the word for it.
func TestCaptureOfAPolicy(t *testing.T) {
	w := &world{}
	can := platform.Capability{Methods: []platform.Method{platform.MethodPromiscuous}}
	s := platform.NewSnapshot("vc")
	w.snaps = append(w.snaps, s)
	s.Switches["dvs"] = &platform.Switch{ID: "dvs", Name: "dvs", Kind: platform.SwitchDistributed, Hosts: []string{"h1", "h2"}, Can: can}
	for i, h := range []string{"h1", "h2"} {
		s.Hosts[h] = &platform.Host{ID: h, Name: "esx" + h[1:]}
		s.Switches[h+"/vs0"] = &platform.Switch{ID: h + "/vs0", Name: "vSwitch0", Kind: platform.SwitchStandard, Hosts: []string{h}, Can: can}
		for j, sw := range []string{"dvs", h + "/vs0"} {
			name := fmt.Sprintf("vm%d%d", i, j)
			s.VMs[name] = &platform.VM{ID: name, Name: name, Host: h}
			s.Ports[name] = &platform.Port{ID: name, Name: name, Kind: platform.PortVM, Host: h, Switch: sw, VM: name, MAC: flow.MAC(0x0200 + 2*i + j), Up: true}
		}
	}
	p := w.build(t, "Tap all method: promiscuous, allow: [promiscuous], select: {vms: ['*']}")
	vms, groups := map[string]bool{}, map[string]bool{}
	for _, x := range p.Want["vc"].Sessions {
		vms[x.Capture.VM+" on "+x.Host] = true
		for _, n := range x.Capture.NICs {
			groups[x.Host+" "+n.Switch+" "+n.Group+" "+n.VLANs] = true
		}
	}
	if len(p.Refusals) > 0 || len(p.Want["vc"].Sessions) != 2 || len(vms) != 2 || len(groups) != 4 {
		t.Errorf("%v\n%v\n%+v", slices.Sorted(maps.Keys(vms)), slices.Sorted(maps.Keys(groups)), p.Refusals)
	}
	if p := w.build(t, "Tap all method: promiscuous, select: {vms: ['*']}"); len(p.Want["vc"].Sessions) > 0 || len(p.Refusals) == 0 {
		t.Errorf("%+v", p.Want)
	}
}
