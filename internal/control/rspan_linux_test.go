package control_test

import (
	"strings"
	"testing"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Copies in a VLAN of a wire between two hosts: they leave one through an adapter of its own, and land at a tool's machine on the other.
// Each packet is there once, with one tag around it, also from a port that had a tag of its own; nobody else's is there.
func TestRSPAN(t *testing.T) {
	l := newLab(t, 2)
	a, b, c := l.hosts[0].vm("web-1", 1), l.hosts[0].vm("db-1", 2), l.hosts[0].vm("blue", 3, "tag=10")
	d, ids := l.hosts[0].vm("blue-2", 4, "tag=10"), l.hosts[1].vm("ids", 9)
	l.hosts[0].ns.Sh("ip link add name eth7 type veth peer name eth8 netns NS && ip link set eth7 up && ethtool -K eth7 tx off tso off gso off >/dev/null", l.hosts[1].ns)
	l.hosts[1].ns.Sh("ip link set eth8 up && ethtool -K eth8 tx off tso off gso off >/dev/null")
	l.hosts[1].db.Vsctl("add-port br-int eth8")
	know(a, b)
	know(c, d)
	l.learn(t, a, b)
	l.learn(t, c, d)
	policies := destination("wire", "url: 'rspan:99?uplink=eth7'") + destination("ids", "port: {vm: ids}") +
		tap("from", `select: 'vm in (web-1, db-1, blue)', destinations: [wire], filter: 'udp'`) + tap("to", `from: 'rspan:99', destinations: [ids]`)
	l.apply(policies)
	got := listen(t, ids.ns, "vlan")
	send := func() {
		a.send(t, b, 5000, 10)
		b.send(t, a, 5001, 10)
		c.send(t, d, 5002, 10)
		d.send(t, c, 5003, 10)
	}
	send()
	const want = "10× 10.1.0.1 5000; 10× 10.1.0.2 5001; 10× 10.1.0.3 5002; 10× 10.1.0.4 5003"
	if all := tally(got(is(want), "vlan.id == 99 && udp.port >= 5000 && udp.port <= 5003", "ip.src", "udp.dstport")); all != want {
		t.Errorf("the tool got %s", all)
	}

	// cut, and from access ports alone: their tag is taken off first. The slice is that of the frame in the tag.
	l.apply(destination("wire", "url: 'rspan:98?uplink=eth7'") + tap("from", `select: 'vm = blue', destinations: [wire], filter: 'udp', slice: 60`) + tap("to", `from: 'rspan:98', destinations: [ids]`))
	got = listen(t, ids.ns, "vlan")
	send()
	const cut = "10× 64 10.1.0.3 5002; 10× 64 10.1.0.4 5003"
	if all := tally(got(is(cut), "vlan.id == 98 && udp.port >= 5000 && udp.port <= 5003", "frame.len", "ip.src", "udp.dstport")); all != cut {
		t.Errorf("the tool got %s", all)
	}

	// an uplink that a bridge has is not taken from it, and the copies that exist go on
	p := l.plan(destination("wire", "url: 'rspan:98?uplink=eth0'"))
	if len(p.Refusals) != 1 || p.Refusals[0].Reason != platform.ReasonCapability || !p.Refusals[0].Kept || !strings.Contains(p.Refusals[0].Message, "uplink eth0 is on bridge br-phy") {
		t.Errorf("%+v", p.Refusals)
	}
	for _, name := range []string{"from", "to"} {
		l.remove(policy.KindTap, name)
	}
	if p, err := l.line.Plan(t.Context(), control.Wanted{}); err != nil || len(p.Steps) > 0 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, h := range l.hosts {
		if left := h.db.Vsctl("list-br") + h.db.Vsctl("list-ports br-int") + h.db.Vsctl("--no-headings list mirror"); strings.Contains(left, "ct") || strings.Contains(left, "crosstap") {
			t.Errorf("left: %s", left)
		}
	}
}
