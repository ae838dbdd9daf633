package ovs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/testkit"
)

// What Open vSwitch does otherwise than one thinks, each with the way around it (docs/guide/policies.md has the table).
func TestTraps(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 3)
	a, b, c := l.vms[0], l.vms[1], l.vms[2]
	p := open(t, l.config())
	toTool := "udp dst port 4789 or ip proto 47"

	t.Run("cached flows", func(t *testing.T) { // a change of a mirror alone does not touch them
		l.t = t
		s := l.session("web", a)
		s.Filter = "udp dst port 5001 or udp dst port 5002"
		got := l.capture(l.tool, toTool)
		l.send(a, b, 5001, 3) // now cached
		l.converge(p, s)
		l.send(a, b, 5001, 10)
		s.Sources = []platform.Source{{Port: b.port, Dir: platform.Ingress}}
		l.send(b, a, 5001, 3) // now cached
		l.converge(p, s)
		l.send(a, b, 5001, 10) // not copied any more
		l.send(b, a, 5001, 10)
		l.converge(p)
		l.send(b, a, 5001, 10) // nor this
		l.converge(p, l.session("end", a))
		l.send(a, b, 5003, 1)
		got.is("10× 10.1.0.1 5001; 10× 10.1.0.2 5001; 1× 10.1.0.1 5003", "vxlan && (udp.dstport == 5001 || udp.dstport == 5003)", "ip.src", "udp.dstport")
		l.converge(p)
	})

	t.Run("first packet into a tunnel", func(t *testing.T) { // is lost, and must not be a copy
		l.t = t
		s := l.session("first", a)
		s.Outputs[0].Encap, s.Outputs[0].Key = platform.EncapGRE, 5
		l.tool.Sh("ip link set eth0 address 02:00:00:00:00:0a")
		sh(t, "ip neigh flush dev br-phy; ovs-appctl --target="+strings.TrimSuffix(l.db.Socket(), "db.sock")+"vswitchd.ctl tnl/neigh/flush")
		l.converge(p, s)
		got := l.capture(l.tool, toTool)
		l.send(a, b, 5001, 10)
		got.is("10× 10.1.0.1 0x00000005", "gre && udp", "ip.src", "gre.key")
	})

	t.Run("snaplen into a tunnel", func(t *testing.T) { // drops every copy: they are cut by flows
		l.t = t
		s := l.session("cut", a)
		s.Slice = 64
		l.converge(p, s)
		if got := l.db.Vsctl("--no-headings --columns=snaplen list mirror"); got != "[]" {
			t.Errorf("snaplen %s", got)
		}
		got := l.capture(l.tool, toTool)
		l.send(a, b, 5001, 10)
		got.is("10× 114 10.1.0.1", "vxlan && udp.dstport == 5001", "frame.len", "ip.src") // 14 + 20 + 8 + 8 + 64
	})

	t.Run("tags of access ports", func(t *testing.T) { // leave a mirror with the copies
		l.t = t
		d, e := l.vm(4, "tag=10"), l.vm(5, "tag=10")
		l.know(d, e)
		s := l.session("vlan", d)
		s.Filter = "udp dst port 5001"
		l.converge(p, s)
		got := l.capture(l.tool, toTool)
		l.send(d, e, 5001, 10)
		got.is("10× 10.1.0.4 ", "vxlan && udp.dstport == 5001", "ip.src", "vlan.id")
	})

	t.Run("source port deleted", func(t *testing.T) { // the mirror then has none, and copies nothing
		l.t = t
		f := l.vm(6, "")
		l.know(f, a)
		gone, stays := l.session("gone", f), l.session("stays", b)
		gone.Filter, stays.Filter = "udp", "udp dst port 5001"
		stays.Outputs[0].Key = 78
		l.converge(p, gone, stays)
		l.db.Vsctl("del-port br-int " + f.port)
		got := l.capture(l.tool, toTool)
		l.send(c, a, 5001, 10) // of machines that no tap has
		l.send(b, a, 5001, 5)
		got.is("5× 78 10.1.0.2", "vxlan && udp.dstport == 5001", "vxlan.vni", "ip.src")
		l.converge(p)
	})

	t.Run("templates of a second domain", func(t *testing.T) { // come late when domains share an exporter (up to 3.1)
		l.t = t
		one, two := l.export("one", "ipfix", "10.99.0.9:4739", a), l.export("two", "ipfix", "10.99.0.9:4739", b)
		one.Filter, two.Filter, two.Flows.Domain = "udp dst port 5001", "udp dst port 5001", 8
		l.converge(p, one, two)
		got := l.capture(l.tool, "udp dst port 4739")
		both := false
		text := got.has(func(rows []string) bool {
			l.send(a, b, 5001, 3)
			l.send(b, a, 5001, 3)
			all := strings.Join(rows, "\n")
			both = strings.Contains(all, "7 10.1.0.1 5001") && strings.Contains(all, "8 10.1.0.2 5001")
			return both
		}, "cflow.srcaddr", "cflow.od_id", "cflow.srcaddr", "cflow.dstport")
		if !both {
			t.Errorf("tshark reads %s", text)
		}
		// Input and output sampling mean the opposite up to 3.1: they stay unsaid.
		if got := l.db.Vsctl("--no-headings --columns=other_config list ipfix"); strings.Trim(got, "{}\n") != "" {
			t.Errorf("other_config %s", got)
		}
		l.converge(p)
	})
}

// A port that sees everything, as one in promiscuous mode does, also what the switch has learnt to send elsewhere.
func TestPromiscuous(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 3)
	a, b, ids := l.vms[0], l.vms[1], l.vms[2]
	p := open(t, l.config())
	s := l.session("hub", a)
	s.Method, s.Outputs = platform.MethodPromiscuous, []platform.Output{{Name: "ids", Port: ids.port}}
	l.send(a, b, 5001, 3) // learnt, and in the cache
	got := l.capture(ids.ns, "udp dst port 5001 or udp dst port 5002")
	l.send(a, b, 5001, 3) // not seen
	l.converge(p, s)
	if row := l.db.Vsctl("--no-headings --columns=select_all list mirror"); row != "true" {
		t.Errorf("select_all %s", row)
	}
	late := l.vm(4, "") // it came later, and is seen without a change
	l.know(late, a)
	l.send(a, b, 5001, 10)
	l.send(b, a, 5001, 10)
	l.send(late, a, 5001, 10)
	l.converge(p)
	l.send(a, b, 5002, 3) // not seen
	l.converge(p, s)
	l.send(b, a, 5002, 1)
	got.is("10× 10.1.0.1 10.1.0.2 5001; 10× 10.1.0.2 10.1.0.1 5001; 10× 10.1.0.4 10.1.0.1 5001; 1× 10.1.0.2 10.1.0.1 5002", "udp", "ip.src", "ip.dst", "udp.dstport")
}

// The controller is gone for longer than the lease: flows end by themselves, so no copy leaves; what is left of the tap does nothing, and the
// next controller renews or removes it.
func TestLease(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	a, b := l.vms[0], l.vms[1]
	p := open(t, l.config())
	s := l.session("web", a)
	s.Lease.TTL = 10 * time.Second // half of it is what a busy machine has to put the flows in
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	steps, refused := p.Steps(now, platform.Want{Owner: "crosstap", Sessions: []platform.Session{s}})
	for _, step := range steps {
		must(t, p.Apply(t.Context(), step))
	}
	if len(refused) > 0 {
		t.Fatalf("%+v", refused)
	}
	dump := func() string {
		return sh(t, "ovs-ofctl -O OpenFlow14 dump-flows unix:"+strings.TrimSuffix(l.db.Socket(), "db.sock")+"crosstap.mgmt | grep -c hard_timeout || true")
	}
	testkit.Eventually(t, "the flows end by themselves", func() bool { return strings.TrimSpace(dump()) == "0" })
	got := l.capture(l.tool, "udp dst port 4789")
	l.send(a, b, 5001, 10)
	if mirrors := l.db.Vsctl("--no-headings --columns=name list mirror"); !strings.Contains(mirrors, "web") {
		t.Errorf("the mirror: %q", mirrors)
	}
	// A controller is back: what has ended begins again, and with a longer lease it stays.
	s.Lease.TTL = time.Hour
	l.converge(p, s)
	l.send(a, b, 5002, 10)
	got.is("10× 10.1.0.1 5002", "vxlan && udp.dstport != 9", "ip.src", "udp.dstport")

	// A tap that nobody knows any more stays until the time on its mark.
	s.Mark.ExpiresS = time.Now().Add(time.Hour).Unix()
	l.converge(p, s)
	keep := map[string]bool{"web": true}
	if steps, _ := l.steps(p, keep); len(steps) > 0 {
		t.Errorf("a tap of somebody who is not here: %s", texts(steps))
	}
	s.Mark.ExpiresS = time.Now().Add(-time.Minute).Unix()
	l.converge(p, s)
	steps, _ = l.steps(p, keep)
	for _, step := range steps {
		if err := p.Apply(t.Context(), step); err != nil && !errors.Is(err, platform.ErrGone) {
			t.Errorf("%s: %v", step.Object, err)
		}
	}
	if left := l.db.Vsctl("list-br") + l.db.Vsctl("--no-headings list mirror") + l.db.Vsctl("list-ports br-int"); strings.Contains(left, "cross") || strings.Contains(left, "ct") {
		t.Errorf("left after its time: %s", left)
	}
}
