//go:build linux

package tap_test

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"crosstap/internal/tap"
	"crosstap/internal/tapspec"
	"crosstap/internal/testns"
)

// flooded is a host b with the interface b0, to which a sends, and a tool at a UDP address of b.
func flooded(t *testing.T) (a, b *testns.Space, f *flood, tool net.PacketConn) {
	t.Helper()
	a, b = testns.New(t), testns.New(t)
	for _, s := range []*testns.Space{a, b} {
		s.Sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
	}
	a.Sh("ip link add a0 type veth peer name b0 netns NS; ip link set a0 up", b)
	b.Sh("ip link set b0 up")
	a.Up("a0")
	b.Up("b0")
	must(t, b.Do(func() (err error) { tool, err = net.ListenPacket("udp4", "127.0.0.1:0"); return err }))
	t.Cleanup(func() { tool.Close() })
	go func() {
		for buf := make([]byte, 2048); ; {
			if _, _, err := tool.ReadFrom(buf); err != nil {
				return
			}
		}
	}()
	return a, b, newFlood(t, a, "a0"), tool
}

// toTool is the destination of copies to a tool on a host.
func toTool(host *testns.Space, tool net.PacketConn) string {
	return "udp://" + tool.LocalAddr().String() + "?probe=no&netns=" + strings.ReplaceAll(host.Path(), "/", "%2F")
}

// becomes waits for a level.
func becomes(t *testing.T, line *tap.Tap, what string, levels ...string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		g, governed := line.Governing()
		if governed && strings.Contains(strings.Join(levels, " "), g.Level) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, g)
		}
	}
}

// TestBudgetOfCopiesInTheKernel overloads a tap whose copies the kernel makes: there is nothing to shed in user space. The kernel gives up what is beyond
// the budget, and takes it up again. Each frame that it looked at is in the books.
func TestBudgetOfCopiesInTheKernel(t *testing.T) {
	_, b, f, tool := flooded(t)
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly, spec.Path = []string{"b0"}, b.Path(), true, tap.PathTCX
	spec.To = []string{toTool(b, tool)}
	spec.Budget = tapspec.Budget{Mirror: 4e6}
	line, stop := start(t, spec)
	if !strings.HasPrefix(line.Path(), "tcx: ") {
		t.Fatal(line.Path())
	}
	f.burst.Store(2) // 1.6 Mbit/s
	becomes(t, line, "at first", "full")
	f.burst.Store(60) // 48 Mbit/s, and 7.7 of headers
	becomes(t, line, "overloaded", "sampled", "off")
	time.Sleep(300 * time.Millisecond)
	f.burst.Store(1)
	becomes(t, line, "again", "full")
	f.stop()
	stop()
	books := line.Statements()
	shed := uint64(0)
	for _, d := range books[0].Dropped {
		if d.Reason == "shed_for_budget" {
			shed = d.N
		}
	}
	if sent := f.sent.Load(); books[0].In > sent || books[0].In < sent/4 || shed == 0 || books[0].Out == 0 { // while it was off nothing was looked at
		t.Errorf("%d frames sent; %+v", sent, books[0])
	}
	for _, s := range books {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
	if text := strings.Join(line.BudgetLines(), "\n"); !strings.Contains(text, "short of mirror") || !strings.Contains(text, "there is room again") {
		t.Error(text)
	}
}

// TestNoCopiesInTheKernel leaves no room for a single copy: the programs are off the interface, whose own counters tell that it is still too much, until
// it is not.
func TestNoCopiesInTheKernel(t *testing.T) {
	_, b, f, tool := flooded(t)
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly, spec.Path = []string{"b0"}, b.Path(), true, tap.PathTCX
	spec.To = []string{toTool(b, tool)}
	spec.Budget = tapspec.Budget{Mirror: 2e5} // a sixteenth of the headers is 4.8e5
	line, stop := start(t, spec)
	f.burst.Store(60)
	const stays = 1500 * time.Millisecond // it would come back after a second
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		g, _ := line.Governing()
		if n := len(g.Steps); n > 0 && g.Level == "flows_only" && time.Since(g.Steps[n-1].Time) > stays && g.Load.Frames > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", g)
		}
	}
	f.burst.Store(0)
	becomes(t, line, "again", "full")
	f.stop()
	stop()
	for _, s := range line.Statements() {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
}

// TestBudgetOfFlowsInTheKernel has the CPU short for packets that the kernel counts: it samples conversations, the records say so, and what they
// stand for is what was sent.
func TestBudgetOfFlowsInTheKernel(t *testing.T) {
	_, b, f, _ := flooded(t)
	var lines bytes.Buffer
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly, spec.Path, spec.Workers = []string{"b0"}, b.Path(), true, tap.PathTCX, 1
	spec.To, spec.Stdout = []string{"flows:-"}, &lines
	spec.Budget = tapspec.Budget{CPU: 1e-6} // less than looking costs: all levels down
	line, stop := start(t, spec)
	f.burst.Store(60)
	becomes(t, line, "overloaded", "off")
	f.burst.Store(0)
	f.stop()
	stop()
	for _, s := range line.Statements() {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
	if books := line.Statements()[0]; books.In == 0 || books.In > f.sent.Load() {
		t.Errorf("%d frames sent; %+v", f.sent.Load(), books)
	}
}
