package plan

import (
	"slices"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// shares tells of flows: of what a says a tenth is DNS, of what it gets nothing; of b nothing is stored; of c all is DNS.
type shares struct{ fixed }

func (shares) Passing(dir platform.Direction, filter string) Passing {
	if filter != "udp port 53" {
		return Passing{Why: "flows do not tell it"}
	}
	part := map[platform.Direction]float64{platform.Ingress: 0.25, platform.Egress: 0}[dir]
	return Passing{VMs: map[string]Within{"a": {part, part}, "c": {0, 1}}, Of: "test"}
}

func withFlows(in *Input) { in.Rates = shares{} }

// What a filter, a sample or VLANs leave out is not covered.
func TestCoverageOfParts(t *testing.T) {
	f := func(taps, vm string, least, most float64, why ...string) {
		t.Helper()
		w := &world{}
		can := capable
		can.Sample, can.Filter = true, platform.FilterFull
		h := w.host("h1", can)
		for _, p := range []side{{vm, platform.PortVM, 100, 300}, {"eth0", platform.PortUplink, 300, 100}} {
			port := w.port(h, p.name, p.kind, 1)
			port.RxBytes, port.TxBytes = p.in, p.out
			if p.kind == platform.PortVM {
				port.Trunk = []uint16{10, 20}
			}
		}
		c := w.build(t, ids+taps, withFlows).Coverage
		if c.Before != 0 || c.OneWay != 0 || c.After != least || c.AfterMost != most || !slices.Equal(c.AfterWhy, why) || !slices.Equal(c.Hosts[0].AfterWhy, why) {
			t.Errorf("%s of %s: %+v", taps, vm, c)
		}
	}
	tap := func(more string) string { return "Tap x destinations: [ids], select: {vms: ['*']}" + more + "\n" }
	const dns = ", filter: 'udp port 53'"
	f(tap(dns), "a", 25./400, 25./400, `tap x: filter "udp port 53", by test`)
	f(tap(dns), "b", 0, 1, `tap x: filter "udp port 53"; which part passes it is not known of machines of which no flows are stored`)
	f(tap(dns), "c", 0, 1, `tap x: filter "udp port 53"; which part passes it is not known of machines of which no other flows are stored: perhaps nothing else is metered`)
	f(tap(", filter: 'vlan 10'"), "a", 0, 1, `tap x: filter "vlan 10"; which part passes it is not known: flows do not tell it`)
	f(tap(", sample: 4"), "a", 0.25, 0.25, "tap x: sampled 1:4")
	f(tap(", sample: 2"+dns), "a", 12.5/400, 12.5/400, `tap x: filter "udp port 53", by test, sampled 1:2`)
	f(tap(", vlans: [10]"), "a", 0, 1, "tap x: VLANs 10 alone; which part of a trunk they are is not known")
	f(tap(", vlans: [10, 20, 30]"), "a", 1, 1)
	f(tap(", vlans: [30]"), "a", 0, 0, "tap x: VLANs 30 alone")
	// Two taps: what either takes; the same filter twice takes the same.
	f(tap(dns)+"Tap y destinations: [ids], select: {vms: ['*']}, sample: 4\n", "a", 100./400, 125./400, `tap x: filter "udp port 53", by test`, "tap y: sampled 1:4")
	f(tap(dns)+"Tap y destinations: [ids], select: {vms: ['*']}"+dns+"\n", "a", 25./400, 25./400, `tap x: filter "udp port 53", by test`, `tap y: filter "udp port 53", by test`)
	f(tap(dns)+"Tap y destinations: [ids], select: {vms: ['*']}\n", "a", 1, 1)
}

// A sample of all that comes in is one of all that goes out; what a filter takes at one end it may take at the other.
func TestCoverageOfSamples(t *testing.T) {
	f := func(more string, ports []side, least, most float64, oneWay int) {
		t.Helper()
		w := &world{}
		can := capable
		can.Sample = true
		h := w.on("h1", ports...)
		h.Switches["br"].Can = can
		c := w.build(t, ids+"Tap x destinations: [ids], select: {vms: [a, b]}, direction: ingress"+more+"\n", withFlows).Coverage
		if c.After != least || c.AfterMost != most || c.OneWay != oneWay {
			t.Errorf("%s: %+v", more, c)
		}
	}
	pair := []side{onlyA, onlyB}
	f(", sample: 4", pair, 0.25, 0.25, 0)
	f(", sample: 4", []side{{"a", platform.PortVM, 0, 0}, {"b", platform.PortVM, 0, 0}}, 0.25, 0.25, 0)
	// 25 of a's 100, nothing to all of b's 200; the same packets where they leave
	f(", filter: 'udp port 53'", pair, 50./600, 450./600, 2)
}

// What is there is weighed by the form of the tap that it was made of.
func TestCoverageOfForms(t *testing.T) {
	f := func(policyOf, was string, before, most float64, why string) {
		t.Helper()
		w := &world{}
		h := w.on("h1", side{"a", platform.PortVM, 100, 300}, side{"eth0", platform.PortUplink, 300, 100})
		h.Objects["m"] = &platform.Object{ID: "m", Mark: platform.Mark{Owner: "crosstap", Policy: policyOf}, Sources: []platform.Source{{Port: "p-a", Dir: platform.Both}}}
		c := w.build(t, ids+tapOf("x", "a", "both"), withFlows, func(in *Input) {
			set, err := policy.Parse("was", []byte("apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: x}\nspec: {destinations: [ids], select: {vms: [a]}"+was+"}\n"))
			if err != nil {
				t.Fatal(err)
			}
			in.Was = set
		}).Coverage
		if c.Before != before || c.BeforeMost != most || c.After != 1 || strings.Join(c.BeforeWhy, "; ") != why || len(c.AfterWhy) > 0 {
			t.Errorf("%s %s: %+v", policyOf, was, c)
		}
	}
	f("x", "", 1, 1, "")
	f("x", ", sample: 4", 0.25, 0.25, "tap x: sampled 1:4")
	f("x", ", filter: 'udp port 53'", 25./400, 25./400, `tap x: filter "udp port 53", by test`)
	const other = ": what is there was made by another form of it; what that left out is not known"
	f("x", ", budget: {mirror: 1Mbit/s, onExceed: sample}", 0, 1, "tap x"+other)
	f("stranger", "", 0, 1, "tap stranger"+other)
}

// Ports that copies come to are no part of what is to be seen.
func TestCoverageLeavesOutTools(t *testing.T) {
	w := &world{}
	h := w.on("h1", side{"a", platform.PortVM, 100, 300}, side{"tool", platform.PortVM, 50, 5000}, side{"eth0", platform.PortUplink, 300, 100})
	other := w.port(h, "other", platform.PortMirror, 1)
	other.VM = "other"
	h.VMs["other"] = &platform.VM{ID: "other", Name: "other"}
	h.Objects["m"] = &platform.Object{ID: "m", Kind: "Mirror", Name: "m", Outputs: []string{"p-other"}}
	c := w.build(t, "Destination d port: {vm: tool}\nTap x destinations: [d], select: {vms: [a]}\n").Coverage
	if c.Ports != 1 || c.After != 1 || c.LeftOutPorts != 2 || len(c.LeftOut) != 2 {
		t.Fatalf("%+v", c)
	}
	if l := c.LeftOut[1]; l.VM != "tool" || l.Reason != platform.ReasonDestination || !strings.Contains(l.Why, "destination of tap x") {
		t.Errorf("%+v", l)
	}
	if l := c.LeftOut[0]; l.VM != "other" || l.Reason != platform.ReasonMirrorPort || !strings.Contains(l.Why, "a foreign Mirror m") {
		t.Errorf("%+v", l)
	}
}

// Flow records are made by taps whose destinations take them, and of what these taps choose.
func TestMetered(t *testing.T) {
	w := &world{}
	h := w.host("h1", capable)
	set, err := policy.Parse("test", []byte(`apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {url: "vxlan://10.0.0.9?vni=1"}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: coll}
spec: {url: "ipfix://10.0.0.9"}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: dns}
spec: {destinations: [coll], select: {vms: [a]}, filter: udp port 53}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: some}
spec: {destinations: [coll], select: {vms: [a]}, sample: 4}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: all}
spec: {destinations: [coll], select: {vms: [a]}}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: tool}
spec: {destinations: [ids], select: {vms: [a]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range [][2]string{{"a", "dns"}, {"b", "some"}, {"c", "dns"}, {"c", "all"}, {"d", "tool"}, {"e", "nobody"}} {
		if h.VMs[of[0]] == nil {
			w.port(h, of[0], platform.PortVM, 1)
		}
		h.Objects[of[0]+of[1]] = &platform.Object{ID: of[0] + of[1], Mark: platform.Mark{Owner: "me", Policy: of[1]}, Sources: []platform.Source{{Port: "p-" + of[0], Dir: platform.Ingress}}}
	}
	got := Metered(Input{Owner: "me", Set: set, Snapshots: w.snaps, Now: at})
	// what a filter leaves out is no matter where all is metered, too
	if len(got) != 3 || got["a"] != (Metering{Filtered: true}) || got["b"] != (Metering{Sampled: true}) || !got["c"].Whole {
		t.Errorf("%+v", got)
	}
}
