//go:build linux

package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/ledger"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
	"crosstap/internal/testns"
)

// dropped returns how many units a stage dropped for one of the reasons.
func dropped(s ledger.Statement, reasons ...string) (n uint64) {
	for _, d := range s.Dropped {
		for _, r := range reasons {
			if d.Reason == r {
				n += d.N
			}
		}
	}
	return n
}

// TestUpgradeInTheKernel changes a tap whose packets the kernel counts, several times, with traffic running: every packet is counted once, whatever
// changes. Then it goes over to the packet ring: what was not seen meanwhile is told as a gap.
func TestUpgradeInTheKernel(t *testing.T) {
	a, b := cable(t)
	s := newSite(t)
	stop := s.run(Config{Token: s.token(agentapi.RoleAgent)})
	sp := spec(b, "null:")
	sp.Source.Path, sp.Source.NoPromisc = "tcx", false
	put := func() server.Agent {
		t.Helper()
		if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
			t.Fatal(err)
		}
		return s.wait("the tap runs", tapIs(agentapi.StateRunning, sp))
	}
	if x := put(); x.Taps[0].Path != "tcx" || !strings.Contains(x.Taps[0].PathWhy, "counted in the kernel") {
		t.Errorf("path %q: %q", x.Taps[0].Path, x.Taps[0].PathWhy)
	}
	before := rxPackets(t, b)
	quit := traffic(t, a)
	for i := range 3 {
		sp.Filter = fmt.Sprintf("udp or port %d", i+1)
		if x := put(); x.Taps[0].Gap != 0 {
			t.Errorf("a gap of %s", time.Duration(x.Taps[0].Gap))
		}
		time.Sleep(100 * time.Millisecond)
	}
	quit()
	came := rxPackets(t, b) - before
	x := s.wait("all is counted", func(x server.Agent) bool {
		k := book(x, "kernel")
		return k.Out+dropped(k, "filtered") >= uint64(came)
	})
	if k := book(x, "kernel"); k.Out+dropped(k, "filtered") != uint64(came) || dropped(k, "lost") != 0 {
		t.Errorf("%d packets came, the books say %+v", came, k)
	}
	sp.Source.Path = "ring"
	if x := put(); x.Taps[0].Path != "ring" {
		t.Errorf("path %q", x.Taps[0].Path)
	}
	stop()
}

// TestInlineTap changes the tap of an inline pair with traffic running: nothing is lost on the way, and both directions are in the books.
func TestInlineTap(t *testing.T) {
	host, a, b := testns.New(t), testns.New(t), testns.New(t)
	for _, x := range []*testns.Space{host, a, b} {
		x.Sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
	}
	host.Sh("ip link add i1 type veth peer name a0 netns NS; ip link set i1 up", a)
	host.Sh("ip link add i2 type veth peer name b0 netns NS; ip link set i2 up", b)
	a.Sh("ip link set a0 up")
	b.Sh("ip link set b0 up")
	host.Up("i1", "i2")
	a.Up("a0")
	b.Up("b0")
	s := newSite(t)
	stop := s.run(Config{Token: s.token(agentapi.RoleAgent)})
	sp := tapspec.Spec{Name: "wire", Source: tapspec.Source{Inline: &tapspec.Inline{A: "i1", B: "i2"}, NetNS: host.Path(), Ring: 4 << 20}, Meter: tapspec.Meter{Workers: 1}, To: []tapspec.To{{URL: "null:"}}}
	put := func() {
		t.Helper()
		if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
			t.Fatal(err)
		}
		s.wait("the tap runs", tapIs(agentapi.StateRunning, sp))
	}
	put()
	before := rxPackets(t, b)
	quit := traffic(t, a)
	for i := range 2 {
		sp.Filter = fmt.Sprintf("udp or port %d", i+1)
		put()
	}
	sent := quit()
	came := rxPackets(t, b) - before // a busy system may have no room for some; those are in the books
	x := s.wait("all is in the books", func(x server.Agent) bool { return book(x, "inline").Out >= uint64(came) })
	if k := book(x, "inline"); came < sent/2 || k.Out != uint64(came) || k.In > uint64(sent) || k.In != k.Out+dropped(k, "refused_by_port") {
		t.Errorf("%d packets sent, %d came; %+v", sent, came, k)
	}
	if p := x.Taps[0].Inline; p == nil || p.A != "i1" || p.Fail != "open" || !p.Up[0] || !p.Up[1] {
		t.Errorf("%+v", p)
	}
	stop()
}
