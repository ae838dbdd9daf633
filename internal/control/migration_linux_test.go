package control_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// migration is one way in which copies of a machine that moves come to a tool.
type migration struct {
	name, destination, tap string
	seen                   string // which of the machine's frames are to be copied, for tshark
	copies                 string // which of the tool's frames are copies
	// tool is where the copies come that a host makes, and what of it tcpdump is to write.
	tool func(*host) (at *testns.Space, filter string)
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
	local := map[*host]*vm{l.hosts[0]: l.hosts[0].vm("ids", 8), l.hosts[1]: l.hosts[1].vm("ids", 9)}
	for h, v := range local { // what goes everywhere is no copy
		h.ofctl("mod-port", "br-int", fmt.Sprintf("vnet%d", v.n), "no-flood")
	}
	know(peer, web, far)
	l.learn(t, peer, web, far)
	l.apply(destination("ids", "url: 'vxlan://10.99.0.9?vni=9000'") + tap("web", "select: 'vm = web', destinations: [ids]"))
	l.run()
	testkit.Eventually(t, "following both hosts", func() bool { return l.followed.Are(len(l.hosts)) })
	remote := func(h *host) (*testns.Space, string) {
		return l.tool, fmt.Sprintf("src host 10.99.0.%d and (udp dst port 4789 or proto 47)", h.n)
	}
	const web1, greeting = "select: 'vm = web', destinations: [ids]", "eth.type == 0x88b5" // of new tunnels
	for _, m := range []migration{
		{"vxlan", "url: 'vxlan://10.99.0.9?vni=9001'", web1, "frame", "vxlan.vni == 9001 && !" + greeting, remote},
		{"erspan2", "url: 'erspan2://10.99.0.9?session=7'", web1, "frame", "erspan.spanid == 7 && !" + greeting, remote},
		{"ingress beside another", "url: 'vxlan://10.99.0.9?vni=9001'", "select: 'vm in (web, far)', direction: ingress, destinations: [ids]", "sll.pkttype == 4",
			"vxlan.vni == 9001 && !" + greeting, remote},
		{"a port of the same switch", "port: {vm: ids}", web1, "frame", "frame", func(h *host) (*testns.Space, string) { return local[h].ns, "ether host 02:00:00:00:01:02" }},
	} {
		t.Run(m.name, func(t *testing.T) {
			l.apply(destination("ids", m.destination) + tap("web", m.tap))
			exact, all := 0, platformtest.Moves(t, 1)
			for range all {
				if l.move(t, &m, web, peer) {
					exact++
				}
			}
			t.Logf("%d of %d gaps are told as one number", exact, all)
		})
	}
}

// move moves a machine while another pings it. It reports whether the gap is told as one number.
func (l *lab) move(t *testing.T, how *migration, v, peer *vm) (exact bool) {
	t.Helper()
	from, to := l.hosts[0], l.hosts[1]
	if strings.Contains(to.db.Vsctl("list-ports br-int"), "vnet2") {
		from, to = to, from
	}
	testkit.Eventually(t, "tapped here alone", func() bool { return l.tapped(from, "vnet2") && !l.tapped(to, "vnet2") })
	known, kinds := len(l.line.Gaps()), []string{"icmp.type", "icmp.ident", "icmp.seq", "arp.opcode", "arp.src.hw_mac", "icmpv6.type"}
	tool, machine := filepath.Join(t.TempDir(), "tool.pcap"), filepath.Join(t.TempDir(), "machine.pcap")
	at, filter := how.tool(to)
	endTool := at.Dump(testkit.Tool(t, "tcpdump"), tool, "-s", "200", "-B", "16384", filter)
	stopPing := v.pinged(t, peer)
	from.detach(v)
	// It has no interface yet: what is seen is of the new one.
	endMachine := v.ns.Dump(testkit.Tool(t, "tcpdump"), machine, "-i", "any", "-s", "200", "-B", "16384")
	made := time.Now()
	to.attach(v)
	know(v, peer)
	v.ns.Sh("ping -q -c1 -w60 -i0.2 " + peer.addr + " >/dev/null") // it says where it is, as hypervisors do for their machines
	testkit.Eventually(t, "told of the gap", func() bool { return len(l.line.Gaps()) > known })
	gap, told := l.line.Gaps()[known], time.Now()
	time.Sleep(200 * time.Millisecond) // so that there are copies in any case
	stopPing()
	testns.WaitStill(tool)
	endTool()
	endMachine()
	copies := map[string]int{}
	for _, r := range tshark(t, tool, how.copies, kinds...) {
		copies[strings.Join(r, " ")]++
	}
	m := platformtest.Move{Gap: gap, Made: made, Told: told, Copies: copies}
	m.Frames = tshark(t, machine, how.seen, append([]string{"frame.time_epoch"}, kinds...)...)
	if gap.Port != "vnet2" || gap.Platform != to.name {
		t.Errorf("the gap is told of another port: %+v", gap)
	}
	return m.Check(t)
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
