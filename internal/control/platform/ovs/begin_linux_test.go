package ovs_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"crosstap/internal/control/platform"
)

// However many taps begin, the database sees one transaction for all that is of a kind; each of the steps is taken back by itself.
func TestBegin(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	p := open(t, l.config())
	var want []platform.Session
	for i := range 6 {
		s := l.session(fmt.Sprintf("tap%02d", i), l.vms[0])
		s.Outputs[0].Key = uint32(100 + i%3)
		if i%2 == 0 {
			s.Filter = "udp port 5000"
		}
		want = append(want, s)
	}
	want = append(want, l.export("exported", "ipfix", "10.99.0.9:4739", l.vms[0], l.vms[1]))
	steps, refused := l.steps(p, nil, want...)
	if len(refused) > 0 {
		t.Fatalf("%+v", refused)
	}
	transactions := func() (n int) {
		fmt.Sscan(l.db.Vsctl("get Open_vSwitch . next_cfg"), &n) //nolint:errcheck // 0
		return n
	}
	from, calls := transactions(), 0
	for next := steps; len(next) > 0; calls++ {
		n := p.Together(next)
		if n == 1 {
			must(t, p.Apply(t.Context(), next[0]))
		} else {
			must(t, p.Begin(t.Context(), next[:n]))
			must(t, p.Begin(t.Context(), next[:n])) // once more does nothing
		}
		next = next[n:]
	}
	// The bridge; outputs; patches, of which the one that exports is made by itself, in the midst of others; mirrors.
	if n := transactions() - from; n != calls || calls > 6 || len(steps) < 18 {
		t.Errorf("%d steps by %d calls in %d transactions", len(steps), calls, n)
	}
	if left, _ := l.steps(p, nil, want...); len(left) > 0 {
		t.Errorf("left: %s", texts(left))
	}
	l.db.Revalidated()
	l.warm(l.vms[0], l.vms[1])
	got := l.capture(l.tool, "udp dst port 4789")
	l.send(l.vms[0], l.vms[1], 5000, 2)
	l.send(l.vms[0], l.vms[1], 6000, 1)
	got.is("1× 100 6000; 1× 101 6000; 4× 100 5000; 4× 101 5000", "vxlan and udp.dstport != 9 and vxlan.vni < 102", "vxlan.vni", "udp.dstport")

	for _, s := range slices.Backward(steps) {
		must(t, p.Undo(t.Context(), s))
	}
	if left := l.db.Vsctl("--no-headings --columns=name list mirror") + l.db.Vsctl("list-br"); left != "br-int\nbr-phy" {
		t.Errorf("after undo: %q", left)
	}

	// What somebody else has made meanwhile is found before anything is done.
	steps, _ = l.steps(p, nil, want...)
	must(t, p.Apply(t.Context(), steps[0]))
	outputs := steps[1 : 1+p.Together(steps[1:])]
	must(t, p.Apply(t.Context(), outputs[1]))
	l.db.Vsctl(fmt.Sprintf("set interface %s options:key=77", outputs[1].Object[len("output "):]))
	before := l.db.Vsctl("list-ports crosstap")
	if err := p.Begin(t.Context(), outputs); !errors.Is(err, platform.ErrChanged) || l.db.Vsctl("list-ports crosstap") != before {
		t.Errorf("%v\n%s", err, l.db.Vsctl("list-ports crosstap"))
	}
}
