//go:build linux

package linux

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	stored "crosstap/internal/state"
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
	st, err := stored.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	line, err := control.New(control.Config{Owner: "test", Store: st, Connect: func(r *policy.Platform) (platform.Platform, error) {
		return New(Config{Name: r.Name, Host: r.Name, NetNS: l.hosts[r.Name].Path()})
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	l.warm("a>b", "a>c")
	set, err := policy.Parse("test", []byte(movePolicies))
	if err != nil {
		t.Fatal(err)
	}
	p, err := line.Plan(t.Context(), control.Wanted{Set: set})
	if err != nil || len(p.Refusals) > 0 {
		t.Fatalf("%v, %+v", err, p.Refusals)
	}
	if out, err := line.Apply(t.Context(), p, control.Author{Who: "test", Action: "apply"}); err != nil || out.State != stored.Done {
		t.Fatalf("%+v, %v", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- line.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

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
	if missing := received - len(answers); gap.Port != "vnet-b" || gap.Platform != "h2" || int64(missing) > gap.Packets || gap.Least > gap.Packets {
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
