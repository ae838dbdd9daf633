//go:build linux

package linux

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
)

// count tells how often each line is there.
func count(lines []string) map[string]int {
	out := map[string]int{}
	for _, l := range lines {
		out[strings.ReplaceAll(l, "\t", " ")]++
	}
	return out
}

// Two hosts, one tap on all machines of a tenant: each packet arrives at the tool once, foreign ones never; nothing is left
// afterwards.
func TestExactlyOnce(t *testing.T) {
	l := newLab(t)
	p1, p2 := l.platform("h1"), l.platform("h2")
	was1, was2 := l.untouched("h1"), l.untouched("h2")
	s1, s2 := l.session("web", 7001, "", "a", "b"), l.session("web", 7001, "", "c")
	s1.ExceptFrom = append(s1.ExceptFrom, l.mac["c"])
	s2.ExceptFrom = s1.ExceptFrom
	l.warm("a>b", "a>c", "b>c", "x>y")
	converge(t, p1, s1)
	converge(t, p2, s2)
	stop := l.capture()
	l.ping("a", "b", 20)
	l.ping("a", "c", 20)
	l.ping("x", "y", 20)
	file := stop()
	got := count(l.decoded(file, 7001, "icmp", "ip.src", "ip.dst", "icmp.type"))
	want := map[string]int{
		"10.1.0.1 10.1.0.2 8": 20, "10.1.0.2 10.1.0.1 0": 20,
		"10.1.0.1 10.1.0.3 8": 20, "10.1.0.3 10.1.0.1 0": 20,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if foreign := l.decoded(file, 7001, "ip.addr == 10.1.0.4 || ip.addr == 10.1.0.5 || eth.addr == 02:00:00:00:00:04", "frame.number"); len(foreign) > 0 {
		t.Errorf("%d frames of another tenant", len(foreign))
	}
	n, err := p1.Counters(t.Context(), "test")
	if err != nil || n["web/br0"].Packets < 60 || n["web/br0"].Drops != 0 {
		t.Errorf("counters %+v, %v", n, err)
	}
	converge(t, p1)
	converge(t, p2)
	if diff := cmp.Diff(was1, l.untouched("h1")); diff != "" {
		t.Errorf("left behind on h1:\n%s", diff)
	}
	if diff := cmp.Diff(was2, l.untouched("h2")); diff != "" {
		t.Errorf("left behind on h2:\n%s", diff)
	}
}

// Two tools with two filters get disjoint, exact counts; a broadcast from outside is copied once.
func TestTwoTools(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	l.warm("a>b", "a>c", "b>c")
	web := l.session("web", 7001, "icmp and host 10.1.0.1 and host 10.1.0.2", "a", "b")
	rest := l.session("rest", 7002, "arp or (icmp and not (host 10.1.0.1 and host 10.1.0.2))", "a", "b")
	converge(t, p, web, rest)
	stop := l.capture()
	l.ping("a", "b", 15)
	l.ping("c", "a", 10)
	l.vms["c"].Sh("ping -q -c 1 -W 1 10.1.0.77 >/dev/null || true") // nobody has it: broadcasts to all
	file := stop()
	if diff := cmp.Diff(map[string]int{"10.1.0.1 10.1.0.2": 15, "10.1.0.2 10.1.0.1": 15}, count(l.decoded(file, 7001, "frame", "ip.src", "ip.dst"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"10.1.0.3 10.1.0.1": 10, "10.1.0.1 10.1.0.3": 10}, count(l.decoded(file, 7002, "icmp", "ip.src", "ip.dst"))); diff != "" {
		t.Error(diff)
	}
	asked := l.decoded(file, 7002, "arp.opcode == 1 && arp.dst.proto_ipv4 == 10.1.0.77", "frame.time_relative")
	if len(asked) == 0 {
		t.Error("no copy of a broadcast")
	}
	last := -1.0
	for _, text := range asked { // it is asked again after a second; two copies of one come together
		at, err := strconv.ParseFloat(text, 64)
		if err != nil || at-last < 0.1 {
			t.Errorf("copies of broadcasts at %v: two of one (%v)", asked, err)
		}
		last = at
	}
}

// What the kernel does is what the commands of the steps do.
func TestCommandsAreTheSame(t *testing.T) {
	l := newLab(t)
	p1 := l.platform("h1")
	bare := l.untouched("h1")
	s := l.session("web", 7001, "tcp port 80 or vlan 5", "a", "b")
	s.Sample, s.VLANs = 3, []uint16{5, 7}
	steps := converge(t, p1, s)
	applied := l.untouched("h1")
	if applied == bare {
		t.Fatal("nothing was applied")
	}
	cleanup := converge(t, p1)
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Fatal(diff)
	}
	run := func(steps []platform.Step) {
		for _, s := range steps {
			for _, c := range s.Commands {
				l.hosts["h1"].Sh(c)
			}
		}
	}
	run(steps)
	if diff := cmp.Diff(applied, l.untouched("h1")); diff != "" {
		t.Errorf("typed in:\n%s", diff)
	}
	if left := stepsNow(t, p1, s); len(left) > 0 {
		t.Errorf("after the commands there are steps:\n%s", texts(left))
	}
	run(cleanup)
	stepsNow(t, p1) // it sees the qdiscs that stay until the ports are quiet
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Errorf("ended by hand:\n%s", diff)
	}
}

// Filters of others stay as they are and see what they saw; theirs is not our qdisc.
func TestForeignFilters(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	l.hosts["h1"].Sh(`tc qdisc add dev vnet-a clsact
tc filter add dev vnet-a ingress pref 10 protocol all u32 match u32 0 0 action mirred egress mirror dev br9
tc filter add dev vnet-a egress pref 3 protocol all u32 match u32 0 0 action mirred egress mirror dev br9 continue`)
	was := l.untouched("h1")
	l.warm("a>b")
	s := l.session("web", 7001, "", "a", "b")
	converge(t, p, s)
	l.ping("a", "b", 10)
	if out := l.output("h1", "tc -s filter show dev vnet-a ingress pref 10"); !strings.Contains(out, "Sent") || strings.Contains(out, "Sent 0 bytes") {
		t.Errorf("the foreign filter behind ours sees nothing:\n%s", out)
	}
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	foreign := 0
	for _, o := range now.Objects {
		if o.Kind == kindFilter && o.Mark.IsZero() {
			foreign++
		}
	}
	if foreign != 2 {
		t.Errorf("%d foreign mirrors in the inventory, want 2", foreign)
	}
	converge(t, p)
	if diff := cmp.Diff(was, l.untouched("h1")); diff != "" {
		t.Errorf("foreign filters were touched:\n%s", diff)
	}
}

// The kernel has filters of one kind and protocol at one preference: where somebody else has ours, the port is refused, and the others are copied.
func TestPlaceTaken(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	l.hosts["h1"].Sh("tc qdisc add dev vnet-a clsact; tc filter add dev vnet-a egress pref 5 protocol ip u32 match ip dport 53 0xffff flowid 1:1")
	was := l.untouched("h1")
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := l.session("web", 7001, "", "a", "b")
	steps, refused := p.Steps(now, platform.Want{Owner: "test", Sessions: []platform.Session{s}})
	if len(refused) != 1 || refused[0].Port != "vnet-a" || refused[0].Reason != platform.ReasonConflict || !strings.Contains(refused[0].Message, "egress") {
		t.Errorf("%+v", refused)
	}
	for _, s := range steps {
		if err := p.Apply(t.Context(), s); err != nil {
			t.Errorf("%s: %v", s.Summary, err)
		}
	}
	if at := l.filtersAt("h1", "vnet-b"); at != "mm" {
		t.Errorf("at the other port: %q", at)
	}
	s.Sources[0].Dir = platform.Ingress // where nobody is
	converge(t, p, s)
	converge(t, p)
	if diff := cmp.Diff(was, l.untouched("h1")); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

// A UDP port that an overlay of the host has is refused by the kernel; what the step had made goes again.
func TestPortTaken(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	l.hosts["h1"].Sh("ip link add overlay type vxlan external dstport 4790 && ip link set overlay up")
	was := l.untouched("h1")
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	steps, refused := p.Steps(now, platform.Want{Owner: "test", Sessions: []platform.Session{l.session("web", 7001, "", "a")}})
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	var failed error
	for i, s := range steps {
		if failed = p.Apply(t.Context(), s); failed != nil {
			for i--; i >= 0; i-- {
				if err := p.Undo(t.Context(), steps[i]); err != nil {
					t.Error(err)
				}
			}
			break
		}
	}
	if failed == nil || !strings.Contains(failed.Error(), "give the destination another port") {
		t.Errorf("%v", failed)
	}
	if diff := cmp.Diff(was, l.untouched("h1")); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}
