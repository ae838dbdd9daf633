//go:build linux

package tap_test

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// site is a host with a bridge, two VMs on it, and a tool behind the host's uplink.
type site struct {
	t                *testing.T
	host, a, b, tool *testns.Space
}

// newSite makes a site. The host is 10.7.0.1 and fd07::1, the tool 10.7.0.9 and fd07::9 with that MTU between them; the VMs are 10.9.0.1 and
// 10.9.0.2.
func newSite(t *testing.T, mtu int) *site {
	t.Helper()
	s := &site{t, testns.New(t), testns.New(t), testns.New(t), testns.New(t)}
	for _, x := range []*testns.Space{s.host, s.a, s.b, s.tool} {
		x.Sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.dad_transmits=0")
	}
	s.host.Sh("ip link add br0 type bridge mcast_snooping 0; ip link set br0 up")
	for i, vm := range []*testns.Space{s.a, s.b} {
		vm.Sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
		s.host.Sh(fmt.Sprintf("ip link add p%[1]d type veth peer name eth0 netns NS; sysctl -qw net.ipv6.conf.p%[1]d.disable_ipv6=1; ip link set p%[1]d master br0 up", i), vm)
		vm.Sh(fmt.Sprintf("ip addr add 10.9.0.%d/24 dev eth0; ip link set eth0 up", i+1))
	}
	s.a.Sh("ip neigh add 10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02")
	s.b.Sh("ip link set eth0 address 02:00:00:00:00:02; ip neigh add 10.9.0.1 dev eth0 lladdr 02:00:00:00:00:01")
	s.a.Sh("ip link set eth0 address 02:00:00:00:00:01")
	s.host.Sh(fmt.Sprintf(`ip link add up0 mtu %[1]d type veth peer name eth0 mtu %[1]d netns NS; ip link set up0 up
		ip addr add 10.7.0.1/24 dev up0; ip addr add fd07::1/64 dev up0 nodad`, mtu), s.tool)
	s.tool.Sh("ip link set eth0 up; ip addr add 10.7.0.9/24 dev eth0; ip addr add fd07::9/64 dev eth0 nodad")
	s.host.Sh(testkit.Tool(t, "ethtool") + " -K p1 tx off tso off gso off tx-udp-segmentation off") // VM b gets what a wire would carry
	s.host.Up("p0", "p1", "up0")
	s.host.Reach("10.7.0.9", "fd07::9")
	return s
}

// dump has tcpdump write what passes an interface to a file, until the function that it returns is called.
func dump(t *testing.T, in *testns.Space, iface, path string, args ...string) (stop func()) {
	t.Helper()
	end := in.Dump(testkit.Tool(t, "tcpdump"), path, append([]string{"-i", iface, "-p", "-B", "16384"}, args...)...)
	return func() {
		testns.WaitStill(path)
		end()
	}
}

// contents returns the bytes of a capture's frames, sorted.
func contents(t *testing.T, path string) (all []string) {
	t.Helper()
	read, _ := frames(t, path)
	for _, f := range read {
		all = append(all, hex.EncodeToString(f.Data))
	}
	slices.Sort(all)
	return all
}

// talk sends n datagrams of each size from VM a to VM b.
func (s *site) talk(n int, sizes ...int) {
	s.t.Helper()
	for _, size := range sizes {
		s.a.Datagrams(s.b, "10.9.0.2", make([]byte, n*size), size)
	}
}

// logTo keeps what a tap logs.
type logTo struct{ testkit.Output }

func (l *logTo) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// spec is a tap on VM a's port that sends from the host.
func (s *site) spec(log *logTo, to ...string) tap.Spec {
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly, spec.Log = []string{"p0"}, s.host.Path(), true, log.logger()
	for _, url := range to {
		spec.To = append(spec.To, strings.ReplaceAll(url, "NS", "netns="+s.host.Path()))
	}
	return spec
}

func balance(t *testing.T, line *tap.Tap) {
	t.Helper()
	for _, st := range line.Statements() {
		if err := st.Balance(); err != nil {
			t.Error(err)
		}
	}
}

// TestVXLAN sends copies to a VXLAN device of the kernel and compares what comes out of it with what the VM received.
func TestVXLAN(t *testing.T) {
	for _, tool := range []string{"10.7.0.9", "[fd07::9]"} {
		s := newSite(t, 1600)
		s.tool.Sh("ip link add vx0 type vxlan id 77 dstport 4789 local " + strings.Trim(tool, "[]") + " dev eth0; ip link set vx0 up")
		dir := t.TempDir()
		truth, got := filepath.Join(dir, "truth.pcap"), filepath.Join(dir, "got.pcap")
		stopTruth := dump(t, s.b, "eth0", truth, "udp")
		stopGot := dump(t, s.tool, "vx0", got, "udp and host 10.9.0.1")
		var log logTo
		line, stop := start(t, s.spec(&log, "vxlan://"+tool+"?vni=77&NS"))
		s.talk(20, 100, 700, 1472)
		stopTruth()
		stop()
		stopGot()
		want, have := contents(t, truth), contents(t, got)
		if diff := cmp.Diff(want, have); diff != "" || len(want) != 60 {
			t.Errorf("%s: %d frames, (-the VM received, +the tool received)\n%.2000s\n%s", tool, len(want), diff, log.String())
		}
		balance(t, line)
	}
}

// TestLoopThroughTappedPort taps the port that carries the mirror, and the host's own interface: the kernel keeps our own copies out, whole
// ones and fragments, so that each frame is copied once.
func TestLoopThroughTappedPort(t *testing.T) {
	f := func(name, url string, mtu, want int, tapped ...string) {
		t.Helper()
		s := newSite(t, mtu)
		if slices.Contains(tapped, "tool0") { // the tool is on the bridge of the VMs
			s.host.Sh(`ip addr flush dev up0; ip link set up0 down; ip link set up0 name tool0; ip link set tool0 master br0; ip link set tool0 up
				ip addr add 10.7.0.1/24 dev br0; ip addr add fd07::1/64 dev br0 nodad`)
		}
		s.tool.Sh("ip link add vx0 type vxlan id 77 dstport 4789 dev eth0; ip link set vx0 up")
		sinkGRE(t, s.tool)
		path := filepath.Join(t.TempDir(), "got.pcap")
		stopGot := dump(t, s.tool, "eth0", path, "(udp dst port 4789 or ip proto 47 or ip6 proto 47) or ip6 proto 44 or (ip[6:2] & 0x1fff != 0)")
		var log logTo
		spec := s.spec(&log, url)
		spec.Interfaces, spec.IngressOnly = tapped, false
		spec.Filter = "udp or ip6 proto 44 or ip[6:2] & 0x1fff != 0 or ip proto 47 or ip6 proto 47"
		line, stop := start(t, spec)
		s.talk(30, 1400)
		testns.WaitStill(path)
		stop()
		stopGot()
		balance(t, line)
		st := line.Statements()
		if sent := st[len(st)-1].Out; int(sent) != want {
			t.Errorf("%s: %d copies of %d frames\n%s", name, sent, want, log.String())
		}
		if !strings.Contains(log.String(), "our own copies are kept out of the capture") {
			t.Errorf("%s: the log does not tell", name)
		}
	}
	// Each frame crosses p0 once. The mirror's port adds none.
	f("mirror's port, fragments", "vxlan://10.7.0.9?vni=77&NS", 1300, 30, "p0", "tool0")
	f("own interface, fragments over IPv6", "geneve://[fd07::9]?vni=77&NS", 1300, 30, "p0", "up0")
	f("own interface, ERSPAN", "erspan3://10.7.0.9?session=5&NS", 1500, 30, "p0", "up0")
	f("own interface, GRE over IPv6", "gre://[fd07::9]?key=5&NS", 1500, 30, "p0", "up0")
}

// sinkGRE makes a host listen for GRE.
func sinkGRE(t *testing.T, in *testns.Space) {
	t.Helper()
	must(t, in.Do(func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_GRE)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
		}
		return nil
	}))
}

// TestLoopAcrossHosts has two hosts mirror the link between them to each other: no filter of one knows the copies of the other, and the
// breaker of either ends it.
func TestLoopAcrossHosts(t *testing.T) {
	a, b := testns.New(t), testns.New(t)
	for _, x := range []*testns.Space{a, b} {
		x.Sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	}
	a.Sh("ip link add eth0 type veth peer name eth0 netns NS; ip addr add 10.7.0.1/24 dev eth0; ip link set eth0 up", b)
	b.Sh("ip addr add 10.7.0.2/24 dev eth0; ip link set eth0 up")
	a.Up("eth0")
	var logs [2]logTo
	var lines [2]*tap.Tap
	var stops [2]func()
	for i, x := range []struct {
		host *testns.Space
		url  string
	}{{a, "vxlan://10.7.0.2?vni=1&netns=" + a.Path()}, {b, "vxlan://10.7.0.1?vni=2&netns=" + b.Path()}} {
		must(t, x.host.Do(func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 4789})
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			return err
		}))
		spec := tap.DefaultSpec()
		spec.Interfaces, spec.NetNS, spec.Log, spec.To = []string{"eth0"}, x.host.Path(), logs[i].logger(), []string{x.url}
		lines[i], stops[i] = start(t, spec)
	}
	a.Sh("ping -c3 -i0.2 -W1 10.7.0.2 >/dev/null")
	noticed := func() bool {
		return strings.Contains(logs[0].String()+logs[1].String(), "our own copies are being captured again: this destination is stopped")
	}
	for end := time.Now().Add(time.Minute); !noticed() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	still := func() (sum uint64) { return lines[0].Statements()[0].In + lines[1].Statements()[0].In }
	for n, last := 0, uint64(0); n < 100 && (still() != last || n == 0); n++ {
		last = still()
		time.Sleep(300 * time.Millisecond)
	}
	for i := range lines {
		stops[i]()
		balance(t, lines[i])
	}
	if !noticed() {
		t.Errorf("nobody noticed\n%s\n%s", logs[0].String(), logs[1].String())
	}
	for i := range lines {
		st := lines[i].Statements()
		if last := st[len(st)-1]; last.Out > 100 {
			t.Errorf("host %d: %d copies sent", i, last.Out)
		}
	}
}

// TestBranches gives each destination its own filter and groom steps; the books of every one add up to what was captured.
func TestBranches(t *testing.T) {
	s := newSite(t, 1600)
	s.tool.Sh("ip link add vx0 type vxlan id 1 dstport 4789 local 10.7.0.9 dev eth0; ip link set vx0 up; ip link add vx1 type vxlan id 2 dstport 4789 local 10.7.0.9 dev eth0; ip link set vx1 up")
	dir := t.TempDir()
	small, cut, file := filepath.Join(dir, "small.pcap"), filepath.Join(dir, "cut.pcap"), filepath.Join(dir, "all.pcapng")
	stop0 := dump(t, s.tool, "vx0", small, "udp and host 10.9.0.1")
	stop1 := dump(t, s.tool, "vx1", cut, "host 10.9.0.1")
	var log logTo
	spec := s.spec(&log, "vxlan://10.7.0.9?vni=1&NS&filter=udp and less 200", "vxlan://10.7.0.9?vni=2&NS&filter=udp&groom=slice=l4+12", "pcapng:"+file+"?filter=greater%20800")
	spec.Filter, spec.Groom = "udp", &groom.Spec{Repair: &groom.Repair{MTU: groom.DefaultMTU}} // cut before the filters look
	line, stop := start(t, spec)
	s.talk(10, 100, 700, 1400)
	testns.WaitStill(cut)
	stop()
	stop0()
	stop1()
	if a, b, c := len(contents(t, small)), contents(t, cut), len(contents(t, file)); a != 10 || len(b) != 30 || c != 10 {
		t.Errorf("%d small, %d cut, %d long frames\n%s", a, len(b), c, log.String())
	} else {
		for _, f := range b {
			if len(f) != 2*(14+20+12) {
				t.Errorf("%d bytes: %s", len(f)/2, f)
			}
		}
	}
	balance(t, line)
	want := []string{
		"vxlan://10.7.0.9?vni=1&filter=udp and less 200: 30 frames = 20 filtered + 10 delivered",
		"vxlan://10.7.0.9?vni=2&filter=udp&groom=slice=l4+12: 30 frames = 30 delivered",
		"pcapng:" + file + "?filter=greater%20800: 30 frames = 20 filtered + 10 delivered",
	}
	var got []string
	for _, d := range line.Deliveries() {
		got = append(got, strings.ReplaceAll(d, "&netns="+s.host.Path(), ""))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want, +got)\n%s", diff)
	}
}
