package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a plan predicts of the copies of a conversation is what a tool gets: between tapped machines of one switch and of two, and with
// others.
func TestPredictedCopies(t *testing.T) {
	l := newLab(t, 2)
	// a stands first on its host: it is the one that the prediction is about
	a, b, c := l.hosts[0].vm("a", 1), l.hosts[0].vm("b", 2), l.hosts[1].vm("c", 3)
	other := l.hosts[1].vm("other", 4)
	know(a, b, c, other)
	l.learn(t, a, b, c, other)
	f := func(name, spec string, same, elsewhere, out, in int, once bool) {
		t.Helper()
		text := destination("ids", "url: 'vxlan://10.99.0.9?vni=9001'") + tap("x", `select: 'vm in (a, b, c)', destinations: [ids], filter: 'udp port 5000', `+spec)
		p := l.plan(text)
		if got := p.Taps[0].Copies; got.Same != same || got.Other != elsewhere || got.Out != out || got.In != in || got.Once != once {
			t.Errorf("%s: the plan says %+v", name, got)
		}
		l.apply(text)
		got := listen(t, l.tool, "udp dst port 4789 and dst host 10.99.0.9")
		var parts []string
		for _, x := range []struct {
			from, to *vm
			copies   int
		}{{a, b, same}, {a, c, elsewhere}, {a, other, out}, {other, a, in}} {
			x.from.send(t, x.to, 5000, 10)
			if x.copies > 0 {
				parts = append(parts, fmt.Sprintf("%d× %s %s", 10*x.copies, x.from.addr, x.to.addr))
			}
		}
		slices.Sort(parts)
		want := strings.Join(parts, "; ")
		if all := tally(got(is(want), "vxlan.vni == 9001 && udp.port == 5000", "ip.src", "ip.dst")); all != want {
			t.Errorf("%s: the tool got\n%s\nwant\n%s", name, all, want)
		}
		l.remove("Tap", "x")
	}
	f("both", "", 1, 1, 1, 1, true)
	f("ingress", "direction: ingress", 1, 1, 1, 0, true)
	l.hosts[0].db.Vsctl("remove interface vnet1 external_ids attached-mac") // whose address it has is not known any more
	f("an unknown address", "allow: [copied-twice]", 1, 2, 1, 1, false)
}
