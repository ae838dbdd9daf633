//go:build linux

package tap_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// TestRepairedFrames writes frames that travel in super-frames to a capture file, repaired, and finds in it bit for bit
// what tcpdump sees behind the place where the kernel cuts them.
func TestRepairedFrames(t *testing.T) {
	tcpdump := testkit.Tool(t, "tcpdump")
	a, middle, b := hosts(t)
	middle.Sh("ethtool -K p1 tx off") // checksums are complete where tcpdump looks
	b.Sh("ethtool -K eth0 tx off")
	dir := t.TempDir()
	truth, ours := filepath.Join(dir, "truth.pcap"), filepath.Join(dir, "ours.pcapng")
	stopDump := b.Dump(tcpdump, truth, "-B", "32768", "tcp or udp")
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.To, spec.Filter = []string{"p0"}, middle.Path(), []string{"pcapng:" + ours}, "tcp or udp"
	spec.Groom = &groom.Spec{Repair: &groom.Repair{MTU: 1500}}
	line, stop := start(t, spec)
	a.Stream(b, "10.9.0.2", make([]byte, 700_000))
	a.Stream(b, "fd09::2", make([]byte, 500_000))
	a.Stream(b, "10.10.0.2", make([]byte, 600_000))
	a.Datagrams(b, "10.9.0.2", make([]byte, 40*1100-1100/3), 1100)
	testns.WaitStill(truth)
	stop()
	stopDump()

	count := func(path string) map[string]int {
		all, _ := frames(t, path)
		n := map[string]int{}
		for _, f := range all {
			if discovery(f.Data) {
				continue
			}
			n[fmt.Sprintf("%x", f.Data)]++
		}
		return n
	}
	want, got := count(truth), count(ours)
	missing, extra := 0, 0
	for k, n := range want {
		missing += max(n-got[k], 0)
	}
	for k, n := range got {
		extra += max(n-want[k], 0)
	}
	if missing+extra > 0 || len(want) < 1000 {
		t.Errorf("of %d frames behind the cut %d are missing, %d are not there; %s", len(want), missing, extra, line.Ledger())
	}
	st := line.Statements()
	read, made, delivered := st[0].In, st[1].Made, st[len(st)-1].Out
	books := sprint(read, " frames read + ", made, " made = ")
	if other := read - st[0].Out; other > 0 { // of address resolution, for example
		books += sprint(other, " filtered in kernel + ")
	}
	if diff := cmp.Diff(books+sprint(delivered, " delivered"), line.Ledger()); diff != "" || made < st[0].Out {
		t.Error(diff)
	}
}

// discovery reports whether a frame carries neighbour or multicast listener discovery inside VXLAN, which hosts send
// when they like: also before the capture.
func discovery(b []byte) bool {
	const inner, icmpv6 = 14 + 20 + 8 + 8, 58
	if len(b) < inner+60 || b[23] != 17 || b[36] != 0x12 || b[37] != 0xb5 {
		return false
	}
	next := b[inner+14+6]
	return b[inner+12] == 0x86 && b[inner+13] == 0xdd && (next == icmpv6 || next == 0) // MLD has a hop-by-hop header
}
