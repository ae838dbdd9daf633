package plan

import (
	"fmt"
	"reflect"
	"testing"

	"crosstap/internal/control/platform"
)

// side is a port with its counters: bytes into the switch, and out of it.
type side struct {
	name    string
	kind    platform.PortKind
	in, out uint64
}

// on makes a host with such ports.
func (w *world) on(name string, ports ...side) *platform.Snapshot {
	h := w.host(name, capable)
	for _, p := range ports {
		port := w.port(h, p.name, p.kind, 1)
		port.RxBytes, port.TxBytes = p.in, p.out
	}
	return h
}

// a says 100 bytes to b, b says 200 to a; 50 more come to each from the uplink, which gets nothing.
var (
	sideA, sideB = side{"a", platform.PortVM, 100, 250}, side{"b", platform.PortVM, 200, 150}
	onlyA, onlyB = side{"a", platform.PortVM, 100, 200}, side{"b", platform.PortVM, 200, 100}
	uplink       = side{"eth0", platform.PortUplink, 100, 0}
)

// tapOf selects machines in one direction.
func tapOf(name, vms, direction string) string {
	return fmt.Sprintf("Tap %s destinations: [ids], select: {vms: [%s]}, direction: %s\n", name, vms, direction)
}

func TestCoverageOfDirections(t *testing.T) {
	f := func(what, taps string, ports []side, least, most float64, oneWay int) {
		t.Helper()
		w := &world{}
		w.on("h1", ports...)
		c := w.build(t, ids+taps).Coverage
		if c.Before != 0 || c.BeforeMost != 0 || c.After != least || c.AfterMost != most || c.OneWay != oneWay {
			t.Errorf("%s: %+v", what, c)
		}
		if h := c.Hosts[0]; !reflect.DeepEqual(h.Seen, c.Seen) || h.OneWay != oneWay || h.Ports != c.Ports {
			t.Errorf("%s: host %+v", what, h)
		}
	}
	pair, uplinked := []side{onlyA, onlyB}, []side{sideA, sideB, uplink} // 600 and 700 bytes at the ports of machines

	f("one port alone, ingress", tapOf("x", "a", "ingress"), []side{{"a", platform.PortVM, 100, 300}, {"eth0", platform.PortUplink, 300, 100}}, 0.25, 0.25, 1)
	f("one port alone, both", tapOf("x", "a", "both"), []side{{"a", platform.PortVM, 100, 300}, {"eth0", platform.PortUplink, 300, 100}}, 1, 1, 0)
	// a's 100 where they enter; they leave at b, which nothing else reaches.
	f("ingress of one of two", tapOf("x", "a", "ingress"), pair, 200./600, 200./600, 1)
	f("egress of one of two", tapOf("x", "a", "egress"), pair, 400./600, 400./600, 1)
	// a's 100; of the 150 that b gets, the uplink may have sent 100 and a may have sent 100.
	f("ingress of one of two, uplink", tapOf("x", "a", "ingress"), uplinked, 150./700, 200./700, 1)
	f("all ingress", tapOf("x", "a, b", "ingress"), pair, 1, 1, 0)
	f("all egress", tapOf("x", "a, b", "egress"), pair, 1, 1, 0)
	// 300 where they enter. a gets 250, of which the uplink sent at most 100, and b at most 200; b gets 150, of which the uplink sent at most 100, and
	// a at most 100: 150 and 50 at least, 200 and 100 at most. 300 of the 400 is the truth.
	f("all ingress, uplink", tapOf("x", "a, b", "ingress"), uplinked, 500./700, 600./700, 2)
	f("all both, uplink", tapOf("x", "a, b", "both"), uplinked, 1, 1, 0)
	// a ingress and a egress by two taps are all of a, and with it all that passes between a and b.
	f("two taps, a direction each, same port", tapOf("x", "a", "ingress")+tapOf("y", "a", "egress"), pair, 1, 1, 0)
	// a's 100 and b's 100 are the same packets; what b says is seen by nobody.
	f("two taps, the same packets", tapOf("x", "a", "ingress")+tapOf("y", "b", "egress"), pair, 200./600, 200./600, 2)
	f("two taps, the same packets, uplink", tapOf("x", "a", "ingress")+tapOf("y", "b", "egress"), uplinked, 250./700, 250./700, 2)

	bare := []side{{"a", platform.PortVM, 0, 0}, {"b", platform.PortVM, 0, 0}}
	f("no counters, one ingress", tapOf("x", "a", "ingress"), bare, 0.5, 0.5, 1) // b gets from a alone
	f("no counters, all ingress", tapOf("x", "a, b", "ingress"), bare, 1, 1, 0)
	f("no counters, all ingress, uplink", tapOf("x", "a, b", "ingress"), append(bare, side{"eth0", platform.PortUplink, 0, 0}), 0.5, 0.5, 2)
}

// What comes from another switch may have been copied there.
func TestCoverageElsewhere(t *testing.T) {
	w := &world{}
	w.on("h1", side{"a", platform.PortVM, 100, 0}, side{"eth0", platform.PortUplink, 0, 100})
	w.on("h2", side{"b", platform.PortVM, 0, 100}, side{"c", platform.PortVM, 0, 300}, side{"eth0", platform.PortUplink, 400, 0})
	c := w.build(t, ids+tapOf("x", "a", "ingress")).Coverage
	if c.After != 0.2 || c.AfterMost != 0.4 || c.Hosts[0].Host != "h2" || c.Hosts[0].After != 0 || c.Hosts[0].AfterMost != 0.25 || c.Hosts[1].After != 1 {
		t.Errorf("%+v", c)
	}
}

// Counters of b and c began when most of what a got had come: nobody knows from whom.
func TestCoverageOfYoungCounters(t *testing.T) {
	w := &world{}
	w.on("h1", side{"a", platform.PortVM, 0, 1000}, side{"b", platform.PortVM, 100, 0}, side{"c", platform.PortVM, 100, 0})
	c := w.build(t, ids+tapOf("x", "b", "ingress")).Coverage // 1200 bytes
	if c.After != 200./1200 || c.AfterMost != 1000./1200 {
		t.Errorf("%+v", c)
	}
}

// Objects tell what is copied now; what goes on though its tap is refused or not known is seen then, too.
func TestCoverageNow(t *testing.T) {
	f := func(policy string, dir platform.Direction, before, after float64) {
		t.Helper()
		w := &world{}
		h := w.on("h1", onlyA, onlyB)
		h.Objects["m"] = &platform.Object{ID: "m", Mark: platform.Mark{Owner: "crosstap", Policy: policy}, Sources: []platform.Source{{Port: "p-a", Dir: dir}}}
		if c := w.build(t, ids+tapOf("x", "a", "ingress")).Coverage; c.Before != before || c.BeforeMost != before || c.After != after || c.AfterMost != after {
			t.Errorf("%s %s: %+v", policy, dir, c)
		}
	}
	f("x", platform.Ingress, 200./600, 200./600)
	f("x", platform.Egress, 400./600, 200./600)
	f("x", platform.Both, 1, 200./600)
}

// What goes on though nobody here knows its tap is seen then, too: all of it, or less.
func TestCoverageOfStrangers(t *testing.T) {
	w := &world{}
	h := w.on("h1", onlyA, onlyB)
	h.Objects["m"] = &platform.Object{ID: "m", Mark: platform.Mark{Owner: "crosstap", Policy: "stranger"}, Sources: []platform.Source{{Port: "p-a", Dir: platform.Egress}}}
	c := w.build(t, ids+tapOf("x", "a", "ingress")).Coverage
	if c.Before != 0 || c.BeforeMost != 400./600 || c.After != 200./600 || c.AfterMost != 1 {
		t.Errorf("%+v", c)
	}
}
