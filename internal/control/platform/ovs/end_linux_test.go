package ovs_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/testkit"
)

// However many taps end, the database sees one transaction: those that stay go on, and nothing that ends is copied any more.
func TestEnd(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	p := open(t, l.config())
	want := append(l.sessions(12, l.vms[0]), l.export("exported", "ipfix", "10.99.0.9:4739", l.vms[0], l.vms[1]), l.export("counted", "netflow5", "10.99.0.9:2055", l.vms[0], l.vms[1]))
	stays := l.session("stays", l.vms[0])
	stays.Filter, stays.Outputs[0].Key = "udp port 6000", 99
	l.converge(p, append(want, stays)...)
	l.warm(l.vms[0], l.vms[1])
	l.send(l.vms[0], l.vms[1], 5000, 3)

	state := func() string {
		return l.db.Vsctl("--no-headings --columns=name,select_src_port,select_dst_port,output_port list mirror") + l.db.Vsctl("list-br")
	}
	cached := func() string {
		l.db.Revalidated()
		return sh(t, "ovs-appctl --target="+strings.TrimSuffix(l.db.Socket(), "db.sock")+"vswitchd.ctl dpctl/dump-flows")
	}
	end := func(f func(steps []platform.Step) error, want ...platform.Session) (steps []platform.Step, n int, err error) {
		t.Helper()
		steps, refused := l.steps(p, nil, want...)
		if len(refused) > 0 {
			t.Fatalf("%+v", refused)
		}
		from := l.transactions()
		err = f(steps)
		return steps, l.transactions() - from, err
	}
	once := func(steps []platform.Step) error { return p.End(t.Context(), steps) }

	// What somebody has changed since is found before anything is done.
	before := ""
	_, n, err := end(func(steps []platform.Step) error {
		l.db.Vsctl("set mirror crosstap-tap05/br-int select-all=true")
		before = state()
		return once(steps)
	})
	if !errors.Is(err, platform.ErrChanged) || !strings.Contains(err.Error(), "tap05") || n != 1 || state() != before {
		t.Errorf("after %d transactions, one of them ours: %v\n%s\nwas\n%s", n, err, state(), before)
	}

	l.converge(p, append(want, stays)...)

	// A removal that failed may have taken flows out: they come back.
	steps, _ := l.steps(p, nil, stays)
	sh(t, "ovs-ofctl -O OpenFlow14 del-flows unix:"+strings.TrimSuffix(l.db.Socket(), "db.sock")+"crosstap.mgmt")
	for _, s := range slices.Backward(steps) {
		must(t, p.Undo(t.Context(), s))
	}
	l.converge(p, append(want, stays)...)

	steps, n, err = end(once, stays)
	if err != nil || n != 1 || len(steps) < 20 {
		t.Errorf("%d steps in %d transactions: %v", len(steps), n, err)
	}
	if left, _ := l.steps(p, nil, stays); len(left) > 0 {
		t.Errorf("left: %s", texts(left))
	}
	l.db.Revalidated()
	got := l.capture(l.tool, "udp dst port 4789")
	l.send(l.vms[0], l.vms[1], 5000, 5)
	l.send(l.vms[0], l.vms[1], 6000, 2)
	got.is("2× 99 6000", "vxlan and udp.dstport != 9", "vxlan.vni", "udp.dstport")
	if _, n, err = end(func([]platform.Step) error { return once(steps) }, stays); err != nil || n != 0 {
		t.Errorf("what has ended: %d transactions, %v", n, err)
	}

	// Each of the steps is taken back.
	for _, s := range slices.Backward(steps) {
		must(t, p.Undo(t.Context(), s))
	}
	if left, _ := l.steps(p, nil, append(want, stays)...); len(left) > 0 {
		t.Errorf("after undo: %s", texts(left))
	}

	// The last tap takes our bridge with it, and what the switch has cached of the copies.
	testkit.Eventually(t, "copies in the switch's cache", func() bool {
		l.send(l.vms[0], l.vms[1], 5000, 1)
		return strings.Contains(cached(), "tnl_push")
	})
	if steps, n, err = end(once); err != nil || n != 1 || len(steps) < 22 {
		t.Errorf("%d steps in %d transactions: %v", len(steps), n, err)
	}
	if cached := cached(); strings.Contains(cached, "tnl_push") {
		t.Errorf("copied still:\n%s", cached)
	}
	if left := state() + l.db.Vsctl("list-ports br-int") + l.db.Vsctl("list Flow_Sample_Collector_Set") + l.db.Vsctl("list NetFlow"); left != "br-int\nbr-phyvnet1\nvnet2" {
		t.Errorf("left: %q", left)
	}
}
