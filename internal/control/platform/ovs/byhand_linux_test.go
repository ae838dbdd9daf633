package ovs_test

import (
	"slices"
	"strings"
	"testing"
)

// What somebody sets by hand of our bridge and mirrors is found and set right: a bridge that forwards by itself would flood copies past the
// filters, one without OpenFlow 1.4 takes no flows, and a mirror that cuts loses its copies. Commands of a plan that somebody types leave nothing
// that is in the way.
func TestByHand(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	a, b := l.vms[0], l.vms[1]
	p := open(t, l.config())
	s := l.session("web", a)
	l.converge(p, s)
	l.warm(a, b)
	s.Filter = "udp dst port 5001"
	l.converge(p, s)

	right := func() string {
		return l.db.Vsctl("--no-headings --columns=fail_mode,protocols list bridge crosstap") + l.db.Vsctl("--no-headings --columns=snaplen list mirror")
	}
	was := right()
	l.db.Vsctl("set bridge crosstap fail_mode=standalone protocols=OpenFlow13,OpenFlow14 -- set mirror crosstap-web/br-int snaplen=64")
	l.db.Revalidated()
	changed := right()
	steps, _ := l.steps(p, nil, s)
	why := texts(steps)
	for _, word := range []string{"fail_mode \"standalone\", wanted nothing", "protocols [\"OpenFlow13\",\"OpenFlow14\"], wanted nothing", "snaplen 64, wanted nothing"} {
		if !strings.Contains(why, word) {
			t.Errorf("%s is not told: %s", word, why)
		}
	}
	for _, step := range steps {
		must(t, p.Apply(t.Context(), step))
	}
	for _, step := range slices.Backward(steps) {
		if strings.HasPrefix(step.Object, "bridge") || strings.HasPrefix(step.Object, "mirror") {
			must(t, p.Undo(t.Context(), step))
		}
	}
	if got := right(); got != changed {
		t.Errorf("taken back:\n%s\nwas\n%s", got, changed)
	}
	l.converge(p, s)
	if got := right(); got != was {
		t.Errorf("set right:\n%s\nwas\n%s", got, was)
	}
	if flows := sh(t, "ovs-ofctl -O OpenFlow14 dump-flows unix:"+strings.TrimSuffix(l.db.Socket(), "db.sock")+"crosstap.mgmt"); strings.Contains(flows, "NORMAL") {
		t.Errorf("the bridge forwards by itself:\n%s", flows)
	}
	got := l.capture(l.tool, "udp dst port 4789")
	l.send(a, b, 5001, 3)
	l.send(a, b, 5002, 3)
	l.send(a, b, 5001, 1)

	// Typed in, a command of a plan makes the port whose coming has the switch look at its cached flows: one of the two that take turns.
	ports := strings.Fields(l.db.Vsctl("list-ports crosstap"))
	i := slices.IndexFunc(ports, func(name string) bool { return strings.HasPrefix(name, "ctn") })
	if i < 0 {
		t.Fatalf("ports of our bridge: %q", ports)
	}
	base := ports[i][:len(ports[i])-1]
	for _, letter := range []string{"a", "b"} {
		l.db.Vsctl("--may-exist add-port crosstap " + base + letter + " -- set interface " + base + letter + " type=patch options:peer=none")
	}
	s.Filter = "udp dst port 5003"
	s.Mark.Digest = "changed"
	l.converge(p, s)
	s.Sources[0].Port = b.port
	l.converge(p, s)
	l.send(b, a, 5003, 2)
	got.is("2× 10.1.0.2 5003; 4× 10.1.0.1 5001", "vxlan and udp.dstport != 9", "ip.src", "udp.dstport")
	l.converge(p)
	if left := l.db.Vsctl("list-br"); left != "br-int\nbr-phy" {
		t.Errorf("left: %q", left)
	}
}
