package control_test

import (
	"slices"
	"strings"
	"testing"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/testkit"
)

// Copies to a tool's machine on the same bridge: each packet once, whichever ends are tapped, and none of others; when the tap goes they
// end at once, also those of connections that were copied before.
func TestMirrorToPort(t *testing.T) {
	l := newLab(t, 1)
	h := l.hosts[0]
	a, b, c, tool := h.vm("web-1", 1), h.vm("db-1", 2), h.vm("other", 3), h.vm("ids", 9)
	know(a, b, c)
	l.learn(t, a, b, c)
	got := listen(t, tool.ns, "udp port 5000")
	a.send(t, b, 5000, 5) // begins before the tap: the switch has its flow in the cache
	l.apply(destination("ids", "port: {vm: ids}") + tap("shop", `select: 'vm in (web-1, db-1)', destinations: [ids]`))
	a.send(t, b, 5000, 20)
	b.send(t, a, 5000, 20)
	a.send(t, c, 5000, 20)
	c.send(t, b, 5000, 20)
	l.remove("Tap", "shop")
	a.send(t, b, 5000, 20)
	const want = "20× 10.1.0.1 10.1.0.2; 20× 10.1.0.1 10.1.0.3; 20× 10.1.0.2 10.1.0.1; 20× 10.1.0.3 10.1.0.2"
	if all := tally(got(is(want), "udp.port == 5000", "ip.src", "ip.dst")); all != want {
		t.Errorf("the tool got %s\nwant %s", all, want)
	}
	if left := h.db.Vsctl("--no-headings list mirror") + h.db.Vsctl("list-br"); strings.Contains(left, "crosstap") {
		t.Errorf("left: %s", left)
	}
}

// Two hosts, a tunnel to a tool: what tapped machines on both hosts say to each other comes once, what they say to others once, filters
// and cuts hold, and the encapsulations are what tshark takes them for.
func TestRemoteMirror(t *testing.T) {
	l := newLab(t, 2)
	a, b := l.hosts[0].vm("web-1", 1), l.hosts[0].vm("other-1", 2)
	c, d := l.hosts[1].vm("web-2", 3), l.hosts[1].vm("other-2", 4)
	know(a, b, c, d)
	l.learn(t, a, b, c, d)
	f := func(name, url, policy, filter, display string, want string, fields ...string) {
		t.Helper()
		l.apply(destination("ids", "url: '"+url+"'") + tap("web", `select: 'vm like "web-%"', destinations: [ids], `+policy))
		got := listen(t, l.tool, filter)
		for _, pair := range [][2]*vm{{a, b}, {b, a}, {a, c}, {c, a}, {a, d}, {d, c}, {b, d}} {
			pair[0].send(t, pair[1], 5000, 10)
			pair[0].send(t, pair[1], 5001, 10)
		}
		if all := tally(got(is(want), display, fields...)); all != want {
			t.Errorf("%s: the tool got\n %s\nwant\n %s", name, all, want)
		}
	}
	once := "10× 10.1.0.1 10.1.0.2; 10× 10.1.0.1 10.1.0.3; 10× 10.1.0.1 10.1.0.4; 10× 10.1.0.2 10.1.0.1; 10× 10.1.0.3 10.1.0.1; 10× 10.1.0.4 10.1.0.3"
	f("vxlan", "vxlan://10.99.0.9?vni=9001", "", "udp dst port 4789 and dst host 10.99.0.9", "vxlan.vni == 9001 && udp.port == 5000", once, "ip.src", "ip.dst")
	f("gre, filtered", "gre://10.99.0.9?key=77", "filter: 'udp dst port 5001'", "ip proto 47", "gre.key == 77 && udp", once, "ip.src", "ip.dst")
	// 110 = Ethernet 14, IPv4 20, GRE with its sequence 8, ERSPAN 8, and 60 of the frame
	f("erspan2, ingress, cut", "erspan2://10.99.0.9?session=7", "filter: 'udp dst port 5001', direction: ingress, slice: 60", "ip proto 47", "erspan.spanid == 7 && udp",
		"10× 10.1.0.1 10.1.0.2 110; 10× 10.1.0.1 10.1.0.3 110; 10× 10.1.0.1 10.1.0.4 110; 10× 10.1.0.3 10.1.0.1 110", "ip.src", "ip.dst", "frame.len")
	f("geneve", "geneve://10.99.0.9?vni=5", "exclude: 'vm = web-2'", "udp dst port 6081", "geneve.vni == 5 && udp.port == 5000",
		"10× 10.1.0.1 10.1.0.2; 10× 10.1.0.1 10.1.0.3; 10× 10.1.0.1 10.1.0.4; 10× 10.1.0.2 10.1.0.1; 10× 10.1.0.3 10.1.0.1", "ip.src", "ip.dst")
	l.remove("Tap", "web")
	for _, h := range l.hosts {
		if left := h.db.Vsctl("list-br") + h.db.Vsctl("list-ports br-int") + h.db.Vsctl("--no-headings list mirror"); strings.Contains(left, "ct") {
			t.Errorf("left: %s", left)
		}
	}
}

// Flow records of chosen machines alone, filtered, by the switch itself; and ERSPAN type III.
func TestFlowsOnly(t *testing.T) {
	l := newLab(t, 1)
	a, b, c := l.hosts[0].vm("web-1", 1), l.hosts[0].vm("db-1", 2), l.hosts[0].vm("other", 3)
	know(a, b, c)
	l.learn(t, a, b, c)
	l.apply(destination("flows", "url: 'ipfix://10.99.0.9'") + destination("ids", "url: 'erspan3://10.99.0.9?session=9'") +
		tap("flows", `select: 'vm = web-1', method: flows-only, filter: 'udp port 5000', flows: {sampling: 1, active: 1s, domain: 7}, allow: [unsampled], destinations: [flows]`) +
		tap("copies", `select: 'vm = db-1', filter: 'udp port 5001', destinations: [ids]`))
	got := listen(t, l.tool, "udp dst port 4739 or ip proto 47")
	testkit.Eventually(t, "exported", func() bool {
		for range 3 {
			a.send(t, b, 5000, 5)
			a.send(t, b, 5001, 5)
			b.send(t, c, 5000, 5)
		}
		counters, err := l.line.Plan(t.Context(), control.Wanted{})
		if err != nil || len(counters.Steps) > 0 {
			t.Fatalf("%+v, %v", counters, err)
		}
		n := l.line.Counters(t.Context())["kvm-1"]
		return n["flows/br-int.kvm-1.flows"].Packets >= 15 && n["copies/br-int.kvm-1.remote"].Packets >= 15
	})
	text := ""
	enough := func(rows [][]string) bool {
		var pairs []string
		for _, r := range rows {
			pairs = append(pairs, strings.Join(r, " "))
		}
		slices.Sort(pairs)
		text = strings.Join(slices.Compact(pairs), "; ")
		return strings.Contains(text, "10.1.0.1 10.1.0.2 5000") && strings.Contains(text, " 9 5001")
	}
	got(enough, "cflow.version == 10 || erspan.version == 2", "cflow.srcaddr", "cflow.dstaddr", "cflow.dstport", "erspan.spanid", "udp.dstport")
	if !strings.Contains(text, "10.1.0.1 10.1.0.2 5000") || strings.Contains(text, "5001  ") || strings.Contains(text, "10.1.0.3") || !strings.Contains(text, " 9 5001") {
		t.Errorf("the collector got %s", text)
	}
}

// Two tenants on the same switches, two tools with a policy each: each gets what its own machines say, on both hosts, each packet once, and
// nothing of the other's, also when a policy asks for everybody.
func TestTwoTenants(t *testing.T) {
	l := newLab(t, 2)
	blue := []*vm{l.hosts[0].vm("blue-1", 1, "tag=10"), l.hosts[0].vm("blue-2", 2, "tag=10"), l.hosts[1].vm("blue-3", 3, "tag=10")}
	red := []*vm{l.hosts[0].vm("red-1", 4, "tag=20"), l.hosts[1].vm("red-2", 5, "tag=20")}
	know(blue...)
	know(red...)
	l.learn(t, blue...)
	l.learn(t, red...)
	tenants := "---\napiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: blue}\nspec: {segments: ['vlan:10']}\n---\napiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: red}\nspec: {segments: ['vlan:20']}\n" +
		destination("blue-ids", "url: 'vxlan://10.99.0.9?vni=9010', tenant: blue") + destination("red-ids", "url: 'vxlan://10.99.0.9?vni=9020', tenant: red")
	l.apply(tenants + tap("blue", `select: 'tenant = blue', destinations: [blue-ids], filter: 'udp port 5000'`) + tap("red", `select: 'vm like "red-%"', destinations: [red-ids]`))
	all := tap("blue", `select: {vms: ["*"]}, tenant: blue, destinations: [blue-ids], filter: 'udp port 5000'`)
	p := l.plan(all)
	foreign := 0
	for _, r := range p.Refusals {
		if r.Reason == platform.ReasonTenant && strings.HasPrefix(r.VM, "red-") {
			foreign++
		}
	}
	if foreign != 2 || len(p.Refusals) != 2 {
		t.Fatalf("%+v", p.Refusals)
	}
	if _, err := l.line.Apply(t.Context(), p, control.Author{Who: "test", Action: "apply"}); err != nil {
		t.Fatal(err)
	}
	l.revalidated()
	got := listen(t, l.tool, "udp dst port 4789 and dst host 10.99.0.9")
	for _, pair := range [][2]*vm{{blue[0], blue[1]}, {blue[1], blue[2]}, {blue[2], blue[0]}, {red[0], red[1]}, {red[1], red[0]}} {
		pair[0].send(t, pair[1], 5000, 10)
		pair[0].send(t, pair[1], 5001, 10) // not of blue's filter
	}
	const want = "10× 9010 10.1.0.1 10.1.0.2 5000; 10× 9010 10.1.0.2 10.1.0.3 5000; 10× 9010 10.1.0.3 10.1.0.1 5000; " +
		"10× 9020 10.1.0.4 10.1.0.5 5000; 10× 9020 10.1.0.4 10.1.0.5 5001; 10× 9020 10.1.0.5 10.1.0.4 5000; 10× 9020 10.1.0.5 10.1.0.4 5001"
	if all := tally(got(is(want), "vxlan.vni > 9000 && (udp.port == 5000 || udp.port == 5001)", "vxlan.vni", "ip.src", "ip.dst", "udp.dstport")); all != want {
		t.Errorf("the tools got\n%s\nwant\n%s", all, want)
	}
}
