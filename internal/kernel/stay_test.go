package kernel

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// chatter has b send to a until the function that it returns is called, so that p1 is never quiet.
func (l *lab) chatter() (stop func()) {
	l.t.Helper()
	old := silence
	silence = 500 * time.Millisecond // however long the sender waits for a processor
	quiet := l.b.Chatter("10.9.0.1:7001")
	return func() {
		quiet()
		silence = old
	}
}

// TestQdiscStays ends programs at a clsact qdisc of ours while the interface sends, and has a budget take them off it: the qdisc stays, since the kernel drops
// what is sent while it is removed, and nothing is counted any more. What comes next uses it. In a quiet moment it goes.
func TestQdiscStays(t *testing.T) {
	l := newLab(t)
	l.arp()
	held := func(when string) {
		t.Helper()
		if left := l.left(); len(left) != 2 || !strings.HasPrefix(left[0], "filter "+qdiscStays+" pid=") || left[1] != "clsact of p1" {
			t.Errorf("%s: left: %q", when, left)
		}
	}
	c := MirrorConfig{Config: Config{Filter: "udp dst port 7000", Way: Clsact}, Outer: l.vxlan(1)}
	quiet := l.chatter()
	stop := l.mirror(c)
	l.datagrams(5, 100, 7000)
	if s := stop(); s.Out != 5 {
		t.Errorf("%+v", s)
	}
	held("ended under load")
	l.datagrams(5, 100, 7000)

	c.Govern, c.Interfaces, c.NetNS = true, []string{"p1"}, l.host.Path()
	m, err := NewMirror(c)
	must(t, err)
	must(t, m.Open())
	if left := fmt.Sprint(l.left()); strings.Contains(left, qdiscStays) {
		t.Errorf("beside filters in use: %s", left)
	}
	off := func(off bool) {
		_, err := m.SetShed(Shed{Off: off})
		must(t, err)
	}
	off(true)
	if left := fmt.Sprint(l.left()); !strings.Contains(left, qdiscStays) || strings.Count(left, " of p1") != 2 {
		t.Errorf("off under load: %s", left)
	}
	off(false)
	l.datagrams(3, 100, 7000)
	m.account()
	if s := m.Book().Read(); s.Out != 3 {
		t.Errorf("%+v", s)
	}
	m.Close()
	held("ended under load, again")
	if gone := l.swept(); gone != nil {
		t.Errorf("swept under load: %+v", gone)
	}
	quiet()
	await(t, "the qdisc goes in a quiet moment", func() bool {
		gone := l.swept()
		return len(gone) == 1 && gone[0].Ended && gone[0].Qdisc && l.left() == nil
	})

	stop = l.mirror(c) // in a quiet moment nothing stays
	stop()
	await(t, "nothing is left", func() bool { l.swept(); return l.left() == nil })
}

// TestEmptyQdisc leaves a qdisc as a process does that is killed before it has filters: one of ours is used by what comes next and swept, in a quiet moment; one of
// others stays.
func TestEmptyQdisc(t *testing.T) {
	l := newLab(t)
	l.arp()
	must(t, l.host.Do(func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		for name, add := range map[string]func(int) error{"p1": addQdisc, "p2": func(i int) error { return h.QdiscAdd(clsact(i)) }} {
			link, err := h.LinkByName(name)
			if err == nil {
				err = add(link.Attrs().Index)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	both := "[clsact of p1 clsact of p2]"
	if left := fmt.Sprint(l.left()); left != both {
		t.Fatalf("made: %s", left)
	}
	quiet := l.chatter()
	if gone := l.swept(); gone != nil || fmt.Sprint(l.left()) != both {
		t.Errorf("under load: swept %+v, left %q", gone, l.left())
	}
	stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst port 7000", Way: Clsact}, Outer: l.vxlan(1)})
	stop()
	if left := fmt.Sprint(l.left()); !strings.Contains(left, qdiscStays) {
		t.Errorf("a tap at a qdisc of ours left %s", left)
	}
	quiet()
	await(t, "what is ours goes in a quiet moment", func() bool { l.swept(); return fmt.Sprint(l.left()) == "[clsact of p2]" })
}
