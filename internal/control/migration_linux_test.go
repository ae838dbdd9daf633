package control_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/tap/testns"
	"crosstap/internal/testkit"
)

// moves is how often a machine moves for each method, at least and at most: CROSSTAP_MOVES, for measurements. Copies may be lost between the switch
// and the tool, and a loaded machine may not know the number: then it moves once more.
func moves(t *testing.T) (least, most int) {
	t.Helper()
	if text := os.Getenv("CROSSTAP_MOVES"); text != "" {
		n, err := strconv.Atoi(text)
		must(t, err)
		return n, n
	}
	return 1, 4
}

// A machine that is pinged moves to the other host and back. Frame by frame what is missing at the tool is what the gap says: what tcpdump sees
// at the machine from when it has arrived, less what tshark finds in the copies.
func TestMigration(t *testing.T) {
	l := newLab(t, 2)
	for _, h := range l.hosts {
		h.ns.Sh("ping -q -c1 -w60 -i0.2 10.99.0.9 >/dev/null") // teaches the switch the tool's MAC address
	}
	peer, far := l.hosts[0].vm("peer", 1), l.hosts[1].vm("far", 3)
	web := l.hosts[0].vm("web", 2)
	know(peer, web, far)
	l.learn(t, peer, web, far)
	l.apply(destination("ids", "url: 'vxlan://10.99.0.9?vni=9000'") + tap("web", "select: 'vm = web', destinations: [ids]"))
	l.run()
	eventually(t, "following both hosts", func() bool { return int(l.followed.Load()) == len(l.hosts) })
	both, sent := "", " && sll.pkttype == 4"
	for _, m := range []struct{ name, url, policy, seen string }{
		{"vxlan", "vxlan://10.99.0.9?vni=9001", "select: 'vm = web', destinations: [ids]", both},
		{"erspan2", "erspan2://10.99.0.9?session=7", "select: 'vm = web', destinations: [ids]", both},
		{"ingress beside another", "vxlan://10.99.0.9?vni=9001", "select: 'vm in (web, far)', direction: ingress, destinations: [ids]", sent},
	} {
		t.Run(m.name, func(t *testing.T) {
			l.apply(destination("ids", "url: '"+m.url+"'") + tap("web", m.policy))
			least, most := moves(t)
			right, all := 0, 0
			for ; all < least || all < most && right == 0; all++ {
				if l.move(t, web, peer, m.seen) {
					right++
				}
			}
			if t.Logf("%d of %d gaps are exactly what is missing", right, all); right == 0 {
				t.Error("no gap is what is missing")
			}
		})
	}
}

// move moves a machine while another pings it. It reports whether the gap is exactly what is missing; more than is missing it must not be.
func (l *lab) move(t *testing.T, v, peer *vm, seen string) (right bool) {
	t.Helper()
	from, to := l.hosts[0], l.hosts[1]
	if strings.Contains(to.db.Vsctl("list-ports br-int"), "vnet2") {
		from, to = to, from
	}
	eventually(t, "tapped here alone", func() bool { return l.tapped(from, "vnet2") && !l.tapped(to, "vnet2") })
	known, kinds := len(l.line.Gaps()), []string{"icmp.type", "icmp.ident", "icmp.seq", "arp.opcode", "arp.src.hw_mac", "icmpv6.type"}
	tool, machine := filepath.Join(t.TempDir(), "tool.pcap"), filepath.Join(t.TempDir(), "machine.pcap")
	endTool := l.tool.Dump(testkit.Tool(t, "tcpdump"), tool, "-s", "200", "-B", "16384", fmt.Sprintf("src host 10.99.0.%d and (udp dst port 4789 or proto 47)", to.n))
	stopPing := v.pinged(t, peer)
	from.detach(v)
	// It has no interface yet: what is seen is of the new one.
	endMachine := v.ns.Dump(testkit.Tool(t, "tcpdump"), machine, "-i", "any", "-s", "200", "-B", "16384")
	came := time.Now()
	to.attach(v)
	know(v, peer)
	v.ns.Sh("ping -q -c1 -w60 -i0.2 " + peer.addr + " >/dev/null") // it says where it is, as hypervisors do for their machines
	eventually(t, "told of the gap", func() bool { return len(l.line.Gaps()) > known })
	gap, told := l.line.Gaps()[known], time.Now()
	time.Sleep(200 * time.Millisecond) // so that there are copies in any case
	stopPing()
	testns.WaitStill(tool)
	endTool()
	endMachine()
	copies := map[string]int{}
	for _, r := range tshark(t, tool, "(vxlan.vni == 9001 || erspan.spanid == 7) && !(eth.type == 0x88b5)", kinds...) { // greetings of new tunnels
		copies[strings.Join(r, " ")]++
	}
	missing, which := 0, []string(nil)
	for _, r := range tshark(t, machine, "frame"+seen, append([]string{"frame.time_epoch"}, kinds...)...) {
		frame := strings.Join(r[1:], " ")
		switch at, err := strconv.ParseFloat(r[0], 64); {
		case err != nil:
			t.Fatal(err)
		case copies[frame] > 0:
			copies[frame]--
		case at < float64(told.UnixNano())/1e9:
			missing++
			which = append(which, r[0][7:14]+" "+frame)
		}
	}
	for frame, n := range copies {
		if n > 0 {
			t.Errorf("%d copies more than frames %q", n, frame)
		}
	}
	t.Logf("to %s: %d frames missing at the tool, told are %d to %d; copied %v after the port was told, %v after it was made; %s",
		to.name, missing, gap.Least, gap.Packets, gap.After.Round(time.Millisecond), gap.At.Sub(came).Round(time.Millisecond), gap.Why)
	if gap.Port != "vnet2" || gap.Platform != to.name || int64(missing) < gap.Least || gap.Exact() != (gap.Why == "") {
		t.Errorf("%d frames are missing, told are %+v", missing, gap)
	}
	if int64(missing) > gap.Packets {
		t.Logf("%d frames are missing, told are at most %d: %s", missing, gap.Packets, strings.Join(which, ", "))
	}
	return gap.Exact() && gap.Packets == int64(missing)
}

// tapped reports whether a mirror of ours has a port of a host.
func (l *lab) tapped(h *host, port string) bool {
	for _, s := range snapshots(l) {
		for _, o := range s.Objects {
			if s.Platform != h.name || o.Kind != "Mirror" {
				continue
			}
			for _, src := range o.Sources {
				if src.Port == port {
					return true
				}
			}
		}
	}
	return false
}

func snapshots(l *lab) []*platform.Snapshot {
	out, err := l.line.Inventory(l.t.Context())
	must(l.t, err)
	return out
}

// pinged has another machine ping it a hundred times a second until the function is called.
func (v *vm) pinged(t *testing.T, by *vm) (stop func()) {
	t.Helper()
	c := exec.Command(testkit.Tool(t, "ping"), "-q", "-i", "0.01", v.addr)
	must(t, by.ns.Do(c.Start))
	stop = sync.OnceFunc(func() {
		_ = c.Process.Signal(syscall.SIGINT)
		_ = c.Wait() // not all were answered
	})
	t.Cleanup(stop)
	return stop
}

// tshark returns the fields of each packet of a file that display shows.
func tshark(t *testing.T, path, display string, fields ...string) (rows [][]string) {
	t.Helper()
	args := []string{"-n", "-r", path, "-Y", display, "-T", "fields", "-E", "occurrence=l"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.CommandContext(t.Context(), testkit.Tool(t, "tshark"), args...).Output()
	must(t, err)
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	return rows
}
