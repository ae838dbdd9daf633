//go:build linux

package linux

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// A port that sees everything: between machines of its bridge, from and to other hosts, and of machines that come later; each packet once.
func TestPromiscuous(t *testing.T) {
	l := newLab(t)
	l.vm("h1", "br0", "ids", 7)
	l.warm("a>b", "a>c")
	p := l.platform("h1")
	s := platform.Session{
		Mark: platform.Mark{Owner: "test", Policy: "hub", Part: "br0", Digest: "hub"}, Method: platform.MethodPromiscuous, Switch: "br0",
		Outputs: []platform.Output{{Name: "ids", Port: "vnet-ids"}},
	}
	converge(t, p, s)
	seen := func(want ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "ids.pcap")
		stop := l.vms["ids"].Dump(testkit.Tool(t, "tcpdump"), file, "icmp")
		for _, pair := range want {
			from, to, _ := strings.Cut(pair, ">")
			l.ping(from, to, 3)
		}
		testns.WaitStill(file)
		stop()
		out, err := exec.Command("tcpdump", "-n", "-t", "-r", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		var n, total int
		for _, pair := range want {
			from, to, _ := strings.Cut(pair, ">")
			a, b := fmt.Sprintf("10.1.0.%d", l.mac[from]&0xff), fmt.Sprintf("10.1.0.%d", l.mac[to]&0xff)
			n += strings.Count(string(out), "IP "+a+" > "+b+": ICMP echo request") + strings.Count(string(out), "IP "+b+" > "+a+": ICMP echo reply")
			total += 6
		}
		if n != total || strings.Count(string(out), "\n") != total {
			t.Errorf("%d of %d packets:\n%s", n, total, out)
		}
	}
	seen("a>b", "a>c")
	l.vm("h1", "br0", "late", 8)
	l.warm("late>a")
	converge(t, p, s)
	seen("late>a")
	converge(t, p)
	if left := l.untouched("h1"); strings.Contains(left, "mirred") || slices.Contains(strings.Fields(left), "clsact") {
		t.Errorf("left: %s", left)
	}
	s.Outputs = []platform.Output{{Name: "far", Encap: platform.EncapVXLAN}}
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, refused := p.Steps(now, platform.Want{Owner: "test", Sessions: []platform.Session{s}}); len(refused) != 1 || refused[0].Reason != platform.ReasonCapability {
		t.Errorf("copies of everything into a tunnel: %+v", refused)
	}
}
