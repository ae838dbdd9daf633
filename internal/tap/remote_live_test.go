//go:build linux

package tap_test

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/tap/testns"
	"crosstap/internal/testkit"
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
	return s
}

// dump has tcpdump write what passes an interface to a file, until the function that it returns is called.
func dump(t *testing.T, in *testns.Space, iface, path string, args ...string) (stop func()) {
	t.Helper()
	c := exec.Command(testkit.Tool(t, "tcpdump"), append([]string{"-i", iface, "-n", "-p", "--immediate-mode", "-U", "-Z", "root", "-B", "16384", "-w", path}, args...)...)
	must(t, in.Do(func() error {
		stderr, err := c.StderrPipe()
		if err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return err
		}
		_, err = stderr.Read(make([]byte, 1))
		return err
	}))
	return func() {
		testns.WaitStill(path)
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
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
type logTo struct{ strings.Builder }

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
