//go:build linux

package linux

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/route"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// TestRouting holds what the platform tells of a host's routes against what the kernel itself says (ip route get).
func TestRouting(t *testing.T) {
	t.Parallel()
	testkit.Tool(t, "ip")
	s := testns.New(t)
	s.Sh(`ip link set lo up
ip link add e0 type veth peer name e1 && ip addr add 10.9.0.1/24 dev e0 && ip link set e0 mtu 1400 up && ip link set e1 up
ip link add f0 type veth peer name f1 && ip addr add 10.8.0.1/24 dev f0 && ip -6 addr add 2001:db8::1/64 dev f0 nodad && ip link set f0 up && ip link set f1 up
ip route add 192.0.2.0/24 via 10.9.0.254 mtu 1280
ip route add default via 10.8.0.254 metric 50
ip route add default via 10.9.0.254 metric 20
ip route add blackhole 198.51.100.0/24
ip route add unreachable 203.0.113.0/24
ip route add 172.16.0.0/16 nexthop via 10.8.0.254 nexthop via 10.8.0.253
ip link add d0 type veth peer name d1 && ip addr add 10.7.0.1/24 dev d0 && ip route add 192.0.2.128/25 dev e0`)
	s.Up("e0", "f0")
	p, err := New(Config{Name: "h1", Host: "h1", NetNS: s.Path()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	read := func() *route.Table {
		t.Helper()
		snap, err := p.Read(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return snap.Hosts["h1"].Routing
	}
	r := read()
	if r == nil {
		t.Fatal("nothing is told")
	}
	for _, a := range []string{"10.9.0.1", "10.9.0.9", "10.8.0.9", "192.0.2.1", "192.0.2.200", "198.51.100.1", "203.0.113.1", "172.16.0.1", "8.8.8.8", "10.7.0.9", "2001:db8::9", "2001:db8::1", "2001:db9::1", "127.0.0.1"} {
		var out string
		_ = s.Do(func() error { // what it refuses, it tells as an error
			b, err := exec.Command("ip", "route", "get", a).CombinedOutput()
			out = string(b)
			return err
		})
		way, ok := r.Way(netip.MustParseAddr(a))
		var wrong bool
		switch {
		case strings.Contains(out, "Network is unreachable"):
			wrong = ok
		case strings.Contains(out, "Invalid argument") || strings.Contains(out, "No route to host"):
			wrong = way.Kind != route.Refused
		case strings.HasPrefix(out, "local "):
			wrong = way.Kind != route.Local
		default:
			wrong = way.Kind != "" || !strings.Contains(out, " dev "+way.Dev+" ") || way.Via.IsValid() != strings.Contains(out, " via ")
		}
		if !ok && !strings.Contains(out, "unreachable") || wrong {
			t.Errorf("%s: %+v %v, the kernel says %s", a, way, ok, out)
		}
	}
	for a, mtu := range map[string]int{"192.0.2.1": 1280, "10.9.0.9": 1400, "10.8.0.9": 1500} {
		if way, _ := r.Way(netip.MustParseAddr(a)); way.MTU != mtu {
			t.Errorf("%s: MTU %d, want %d", a, way.MTU, mtu)
		}
	}

	// A watch tells of routes that come and go.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	told := make(chan *route.Table, 100)
	go p.Watch(ctx, func(u platform.Update) {
		for _, h := range u.Hosts {
			told <- h.Routing
		}
	})
	wait := func(what string, is func(*route.Table) bool) {
		t.Helper()
		end := time.After(10 * time.Second)
		for {
			select {
			case r := <-told:
				if is(r) {
					return
				}
			case <-end:
				t.Fatal("never told: " + what)
			}
		}
	}
	goes := func(a, dev string) func(*route.Table) bool {
		return func(r *route.Table) bool {
			if r == nil {
				return dev == "?"
			}
			way, ok := r.Way(netip.MustParseAddr(a))
			return ok && way.Dev == dev
		}
	}
	wait("the first state", goes("8.8.8.8", "e0"))
	s.Sh("ip route add 8.8.8.0/24 via 10.8.0.254")
	wait("a route", goes("8.8.8.8", "f0"))
	s.Sh("ip rule add fwmark 7 table 100")
	wait("rules", goes("8.8.8.8", "?"))
	s.Sh("ip rule del fwmark 7 table 100")
	wait("rules without more", goes("8.8.8.8", "f0"))

	// So many routes are not told, nor asked for again at once.
	s.Sh(fmt.Sprintf("seq 0 %d | awk '{printf \"route add 100.64.%%d.%%d/32 dev f0\\n\", $1/256, $1%%256}' | ip -batch -", route.Max))
	wait("that they are too many", goes("8.8.8.8", "?"))
	if !p.routes.Resting() {
		t.Error("routes are asked for again")
	}
}
