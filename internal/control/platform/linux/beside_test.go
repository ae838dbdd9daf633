//go:build linux

package linux

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/kernel"
)

// tap begins a tap of a machine's port as an agent on the host makes it on a kernel without TCX; end ends it.
func (l *lab) tap(host, port string) (end func()) {
	l.t.Helper()
	m, err := kernel.NewMirror(kernel.MirrorConfig{
		Config: kernel.Config{Interfaces: []string{port}, NetNS: l.hosts[host].Path(), Way: kernel.Clsact, Filter: "udp port 9"},
		Outer: kernel.Outer{
			Source: netip.MustParseAddr("10.9.0.1"), Tool: netip.MustParseAddr("10.9.0.9"), Protocol: unix.IPPROTO_UDP, Port: 4791,
			Head: binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, 1<<8), Seq: -1, ERSPAN: -1, Fits: 1400,
		},
	})
	if err == nil {
		err = m.Open()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, nil) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(end)
	return end
}

// filtersAt names what is at the hooks of an interface: m for a mirror of a policy, t for a tap, k for what keeps the qdisc, "none" without one.
func (l *lab) filtersAt(host, dev string) string {
	l.t.Helper()
	out := l.output(host, "tc qdisc show dev "+dev+" clsact; tc filter show dev "+dev+" ingress; tc filter show dev "+dev+" egress")
	if !strings.Contains(out, "clsact") {
		return "none"
	}
	var all []string
	for line := range strings.Lines(out) {
		switch {
		case !strings.Contains(line, "handle"):
		case strings.Contains(line, "protocol [34997]"):
			all = append(all, "k")
		case strings.Contains(line, "crosstap:q"):
			all = append(all, "t")
		case strings.Contains(line, "flowid 6374:6170"):
			all = append(all, "m")
		default:
			all = append(all, strings.TrimSpace(line))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// Mirrors of policies and taps of agents share a qdisc: whoever made it, each finds it, no one takes it from the other, no packet is lost, and the last one leaves it to
// a quiet moment.
func TestBesideTaps(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	bare := l.untouched("h1")
	l.warm("a>b", "b>a")
	web := l.session("web", 7001, "icmp", "a")
	is := func(when, want string) {
		t.Helper()
		if got := l.filtersAt("h1", "vnet-a"); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	is("before", "none")
	endTap := l.tap("h1", "vnet-a")
	is("a tap made the qdisc", "tt")
	streams := []*stream{l.stream("a", "b"), l.stream("b", "a")}
	converge(t, p, web)
	is("a mirror came", "mmtt")
	endTap()
	is("the tap ended", "mm")
	if gone, err := kernel.Sweep(l.hosts["h1"].Path()); len(gone) > 0 || err != nil {
		t.Errorf("swept beside a mirror: %+v, %v", gone, err)
	}
	endTap = l.tap("h1", "vnet-a")
	is("a tap came", "mmtt")
	converge(t, p)
	is("the mirror ended", "tt")
	endTap()
	is("the tap ended as the last one", "k")
	converge(t, p, web)
	is("a mirror came to what a tap had left", "mm")
	converge(t, p)
	is("the mirror ended as the last one", "k")
	if gone, err := kernel.Sweep(l.hosts["h1"].Path()); len(gone) > 0 || err == nil {
		t.Errorf("swept under load: %+v, %v", gone, err)
	}
	endTap = l.tap("h1", "vnet-a")
	is("a tap came to what a mirror had left", "tt")
	endTap()
	whole(t, "mirrors and taps at one qdisc", streams...)
	wait(t, "the qdisc stays in a quiet moment", func() bool { return l.filtersAt("h1", "vnet-a") == "none" })

	converge(t, p, web)
	busy := l.stream("a", "b")
	back := l.stream("b", "a")
	converge(t, p)
	p.Close()
	is("closed under load", "k")
	whole(t, "closed under load", busy, back)
	wait(t, "a sweep removes nothing of a mirror in a quiet moment", func() bool {
		gone, err := kernel.Sweep(l.hosts["h1"].Path())
		return err == nil && len(gone) == 1 && gone[0].Qdisc && gone[0].Ended
	})
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
}

// Mirrors and taps come and go at one port while sweeps and the platform look for quiet moments: none of them takes a qdisc away with another's filter in it.
func TestNoQdiscUnderOthers(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	bare := l.untouched("h1")
	path, end := l.hosts["h1"].Path(), time.Now().Add(2*time.Second)
	var all sync.WaitGroup
	all.Go(func() {
		for time.Now().Before(end) {
			if _, err := kernel.Sweep(path); err != nil && !strings.Contains(err.Error(), "traffic passes") {
				t.Error(err)
			}
		}
	})
	all.Go(func() {
		for time.Now().Before(end) {
			p.dropQdiscs()
		}
	})
	var rounds int
	all.Go(func() {
		for ; time.Now().Before(end); rounds++ {
			stop := l.tap("h1", "vnet-a")
			time.Sleep(time.Duration(rounds%20) * time.Millisecond)
			if got := l.filtersAt("h1", "vnet-a"); strings.Count(got, "t") != 2 {
				t.Errorf("round %d: a tap is not where it was put: %q", rounds, got)
			}
			stop()
			time.Sleep(time.Duration(rounds%7) * time.Millisecond)
		}
	})
	web := l.session("web", 7001, "icmp", "a")
	for time.Now().Before(end) {
		converge(t, p, web) // it reads back that nothing is missing
		converge(t, p)
	}
	all.Wait()
	t.Logf("%d taps", rounds)
	stepsNow(t, p)
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
}
