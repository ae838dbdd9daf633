package ovs_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"crosstap/internal/control/platform"
)

// However many taps begin, the database sees one transaction for what they need and one for themselves; each of the steps is taken back by
// itself.
func TestMake(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	p := open(t, l.config())
	want := append(l.sessions(6, l.vms[0]), l.export("exported", "ipfix", "10.99.0.9:4739", l.vms[0], l.vms[1]))
	steps, refused := l.steps(p, nil, want...)
	if len(refused) > 0 {
		t.Fatalf("%+v", refused)
	}
	from := l.transactions()
	for range 2 { // once more does nothing
		if n, err := p.Make(t.Context(), steps); err != nil || n != len(steps) {
			t.Fatalf("%d of %d steps: %v", n, len(steps), err)
		}
	}
	if n := l.transactions() - from; n != 2 || len(steps) < 18 {
		t.Errorf("%d steps in %d transactions", len(steps), n)
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
	if n, err := p.Make(t.Context(), steps[:2]); err != nil || n != 2 {
		t.Fatalf("%d of 2 steps: %v", n, err)
	}
	l.db.Vsctl(fmt.Sprintf("set interface %s options:key=78", steps[1].Object[len("output "):]))
	before := l.db.Vsctl("list-ports crosstap")
	if n, err := p.Make(t.Context(), steps); n != 0 || !errors.Is(err, platform.ErrChanged) || l.db.Vsctl("list-ports crosstap") != before {
		t.Errorf("%d done: %v\n%s", n, err, l.db.Vsctl("list-ports crosstap"))
	}

	// What copies need is there when its port has gone, and the copies are not.
	steps, _ = l.steps(p, nil, append(want, l.session("gone", l.vms[1]))...)
	prepared := slices.IndexFunc(steps, func(s platform.Step) bool { return s.Phase == platform.PhaseSwitch })
	l.db.Vsctl("del-port " + l.vms[1].port)
	if n, err := p.Make(t.Context(), steps); n != prepared || !errors.Is(err, platform.ErrGone) {
		t.Errorf("%d done of %d: %v", n, len(steps), err)
	}
	if mirrors := l.db.Vsctl("--no-headings --columns=name list mirror"); mirrors != "" {
		t.Errorf("mirrors %q", mirrors)
	}
}
