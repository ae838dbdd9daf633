//go:build linux

package linux

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/control/policy"
	stored "crosstap/internal/state"
	"crosstap/internal/testkit"
)

const movePolicies = `
apiVersion: crosstap/v1
kind: Platform
metadata: {name: h1}
spec: {kind: linux}
---
apiVersion: crosstap/v1
kind: Platform
metadata: {name: h2}
spec: {kind: linux}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: tool}
spec: {url: "vxlan://10.9.0.9:4790?vni=7001"}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: all, reason: test}
spec:
  select: {ports: [vnet-a, vnet-b, vnet-c]}
  filter: icmp
  destinations: [tool]
`

// A machine moves between two hosts while it is pinged: of its answers no more are missing at the tool than the gap says, what others say is
// not missed, and afterwards each packet comes once again.
func TestMove(t *testing.T) {
	l := newLab(t)
	l.warm("a>b", "a>c")
	line := l.line(movePolicies)
	stop := l.capture()
	answered := l.pinging("a", 2, 200)
	l.unplug("h1", "b")
	l.vm("h2", "br0", "b", 2)
	wait(t, "no gap is told", func() bool { return len(line.Gaps()) > 0 })
	received := answered()
	file := stop()
	// While both hosts change, a packet between two tapped machines may be copied at both: new copies begin before old ones end.
	asked := count(l.decoded(file, 7001, "icmp.type == 8 && ip.dst == 10.1.0.2", "icmp.seq"))
	if len(asked) != 200 {
		t.Errorf("copies of %d questions, want 200: the other machine has not moved", len(asked))
	}
	answers := count(l.decoded(file, 7001, "icmp.type == 0 && ip.src == 10.1.0.2", "icmp.seq"))
	gap := line.Gaps()[0]
	if missing := received - len(answers); gap.Port != "vnet-b" || gap.Platform != "h2" || int64(missing) > gap.Packets || gap.Least > int64(missing) || gap.Exact() != (gap.Why == "") {
		t.Errorf("%d of %d answers are missing, gaps %+v", missing, received, line.Gaps())
	}
	t.Logf("%d of 200 answered, copies of %d answers, gap %+v", received, len(answers), gap)

	stop = l.capture()
	l.ping("a", "b", 20)
	l.ping("c", "b", 20)
	got := count(l.decoded(stop(), 7001, "icmp", "ip.src", "ip.dst"))
	want := map[string]int{"10.1.0.1 10.1.0.2": 20, "10.1.0.2 10.1.0.1": 20, "10.1.0.3 10.1.0.2": 20, "10.1.0.2 10.1.0.3": 20}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the move:\n%s", diff)
	}
}

// line has a control line follow both hosts with policies, until the test ends.
func (l *lab) line(policies string) *control.Line {
	l.t.Helper()
	must := func(err error) {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
	}
	var watched platformtest.Followed
	st, err := stored.Open(l.t.Context(), filepath.Join(l.t.TempDir(), "state.db"))
	must(err)
	l.t.Cleanup(func() { st.Close() })
	line, err := control.New(control.Config{Owner: "test", Store: st, Connect: func(r *policy.Platform) (platform.Platform, error) {
		p, err := New(Config{Name: r.Name, Host: r.Name, NetNS: l.hosts[r.Name].Path()})
		return &followed{p, &watched}, err
	}})
	must(err)
	l.t.Cleanup(func() { line.Close() })
	set, err := policy.Parse("test", []byte(policies))
	must(err)
	p, err := line.Plan(l.t.Context(), control.Wanted{Set: set})
	if err != nil || len(p.Refusals) > 0 {
		l.t.Fatalf("%v, %+v", err, p.Refusals)
	}
	if out, err := line.Apply(l.t.Context(), p, control.Author{Who: "test", Action: "apply"}); err != nil || out.State != stored.Done {
		l.t.Fatalf("%+v, %v", out, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- line.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	wait(l.t, "nobody follows the hosts", func() bool { return watched.Are(len(l.hosts)) })
	return line
}

// followed is a platform that says when it is followed.
type followed struct {
	*Platform
	by *platformtest.Followed
}

func (f *followed) Watch(ctx context.Context, update func(platform.Update)) error {
	return f.by.Watch(ctx, f.Platform, update)
}

// A machine that is pinged moves to the other host and back. Frame by frame what is missing at the tool is what the gap says: what tcpdump sees
// at the machine from when it has arrived, less what tshark finds in the copies.
func TestMigration(t *testing.T) {
	l := newLab(t)
	for _, h := range l.hosts { // bridges would speak to their ports by themselves
		h.Sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	}
	l.warm("a>b")
	line := l.line(strings.NewReplacer("[vnet-a, vnet-b, vnet-c]", "[vnet-b]", "  filter: icmp\n", "").Replace(movePolicies))
	exact, all, at := 0, platformtest.Moves(t, 2), "h1"
	for range all {
		to := map[string]string{"h1": "h2", "h2": "h1"}[at]
		if l.move(line, at, to) {
			exact++
		}
		at = to
	}
	t.Logf("%d of %d gaps are told as one number", exact, all)
}

// move moves machine b while a pings it. It reports whether the gap is told as one number.
func (l *lab) move(line *control.Line, from, to string) (exact bool) {
	l.t.Helper()
	known, kinds := len(line.Gaps()), []string{"icmp.type", "icmp.ident", "icmp.seq", "arp.opcode", "arp.src.hw_mac", "icmpv6.type"}
	stop := l.capture()
	c := exec.Command(testkit.Tool(l.t, "ping"), "-q", "-i", "0.01", "10.1.0.2")
	if err := l.vms["a"].Do(c.Start); err != nil {
		l.t.Fatal(err)
	}
	stopPing := sync.OnceFunc(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait() // not all were answered
	})
	l.t.Cleanup(stopPing)
	l.unplug(from, "b")
	machine := filepath.Join(l.t.TempDir(), "machine.pcap")
	// It has no interface yet: what is seen is of the new one.
	end := l.vms["b"].Dump(testkit.Tool(l.t, "tcpdump"), machine, "-i", "any", "-s", "200", "-B", "16384")
	made := time.Now()
	l.vm(to, "br0", "b", 2)
	l.vms["b"].Sh("ping -q -c1 -w60 -i0.2 10.1.0.1 >/dev/null") // it says where it is, as hypervisors do for their machines
	wait(l.t, "no gap is told", func() bool { return len(line.Gaps()) > known })
	gap, told := line.Gaps()[known], time.Now()
	time.Sleep(200 * time.Millisecond) // so that there are copies in any case
	stopPing()
	tool := stop()
	end()
	m := platformtest.Move{Gap: gap, Made: made, Told: told}
	m.Copies = count(l.decoded(tool, 7001, "ip.src == "+map[string]string{"h1": "10.9.0.1", "h2": "10.9.0.2"}[to], kinds...))
	for _, line := range l.fields(machine, "frame", append([]string{"frame.time_epoch"}, kinds...)...) {
		m.Frames = append(m.Frames, strings.Split(line, "\t"))
	}
	if gap.Port != "vnet-b" || gap.Platform != to {
		l.t.Errorf("the gap is told of another port: %+v", gap)
	}
	return m.Check(l.t)
}

// pinging sends n echo requests in the background; the function that it returns waits for the end and tells how many were answered.
func (l *lab) pinging(from string, to, n int) (answered func() int) {
	l.t.Helper()
	c := exec.Command("ping", "-q", "-c", fmt.Sprint(n), "-i", "0.01", "-W", "2", fmt.Sprintf("10.1.0.%d", to))
	var out strings.Builder
	c.Stdout = &out
	if err := l.vms[from].Do(c.Start); err != nil {
		l.t.Fatal(err)
	}
	return func() int {
		_ = c.Wait() // it fails when an answer is missing
		var sent, received int
		_, after, _ := strings.Cut(out.String(), "statistics ---\n")
		if _, err := fmt.Sscanf(after, "%d packets transmitted, %d received", &sent, &received); err != nil || sent != n {
			l.t.Fatalf("ping: %v: %s", err, out.String())
		}
		return received
	}
}
