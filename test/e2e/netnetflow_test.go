//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// switches is a host with a Linux bridge br0 and an Open vSwitch bridge br-int, two VMs at each. Both pairs of VMs have the same
// addresses.
type switches struct {
	t    *testing.T
	host *testns.Space
	db   *ovstest.DB
	vms  [2][2]*testns.Space // by switch
	args []string            // that every command line has
}

func newSwitches(t *testing.T) *switches {
	t.Helper()
	testkit.Tool(t, "ethtool")
	s := &switches{t: t, host: testns.New(t)}
	s.host.Sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up")
	s.db = ovstest.New(t, s.host.Do)
	s.db.Switch()
	s.db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev")
	for i, port := range []string{"lin", "ovs"} {
		for j := range 2 {
			vm, name := testns.New(t), fmt.Sprintf("%s%d", port, j+1)
			vm.Sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
			s.host.Sh("ip link add name "+name+" type veth peer name eth0 netns NS && ip link set dev "+name+" up", vm)
			vm.Sh(fmt.Sprintf("ethtool -K eth0 tx off >/dev/null; ip addr add 10.1.0.%d/24 dev eth0 && ip link set eth0 up", j+1))
			if i == 0 {
				s.host.Sh("ip link set dev " + name + " master br0")
			} else {
				s.db.Vsctl(fmt.Sprintf("add-port br-int %s -- set interface %s ofport_request=%d", name, name, 13+j))
			}
			s.vms[i][j] = vm
		}
	}
	dir := t.TempDir()
	s.args = []string{"--ovsdb", "unix:" + s.db.Socket(), "--state", filepath.Join(dir, "ids.json"), "--run-dir", filepath.Join(dir, "run")}
	return s
}

// run starts a command line of net-netflow on the host.
func (s *switches) run(args ...string) (r *run) {
	s.t.Helper()
	must(s.t, s.host.Do(func() error {
		r = start(s.t, nil, append(append([]string{"net-netflow"}, args...), s.args...)...)
		return nil
	}))
	return r
}

// send sends n datagrams of 100 bytes between the VMs of a switch, and waits for them.
func (s *switches) send(i, n int) {
	s.t.Helper()
	var sink net.PacketConn
	must(s.t, s.vms[i][1].Do(func() (err error) { sink, err = net.ListenPacket("udp4", "10.1.0.2:2000"); return err }))
	defer sink.Close()
	must(s.t, s.vms[i][0].Do(func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{Port: 1000}, sink.LocalAddr().(*net.UDPAddr))
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			if _, err := c.Write(make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}))
	_ = sink.SetReadDeadline(time.Now().Add(patience))
	for range n {
		if _, _, err := sink.ReadFrom(make([]byte, 2000)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// flow is what nfdump says of one.
type nfFlow struct {
	Src     string `json:"src4_addr"`
	SrcPort int    `json:"src_port"`
	DstPort int    `json:"dst_port"`
	In      int    `json:"input_snmp"`
	Out     int    `json:"output_snmp"`
	Packets int    `json:"in_packets"`
	Bytes   int    `json:"in_bytes"`
}

// Two switches of two kinds to nfcapd: each flow once, with switch and ports in its interfaces and the packets and bytes that were sent.
func TestNetNetflow(t *testing.T) {
	nfcapd, nfdump := testkit.Tool(t, "nfcapd"), testkit.Tool(t, "nfdump")
	s := newSwitches(t)
	dir := t.TempDir()
	collector := exec.Command(nfcapd, "-b", "127.0.0.1", "-p", "2055", "-w", dir, "-t", testkit.OneFile, "-I", "test")
	must(t, s.host.Do(collector.Start))
	t.Cleanup(testkit.Guard(t, collector.Process.Pid))
	t.Cleanup(func() { _ = collector.Process.Kill() })
	waitUDP(t, s.host, 2055)
	r := s.run("-e", "br0,br-int", "-p", "-v", "-s", "100", "--idle", "2s", "--switch-id", "br0=1", "--switch-id", "br-int=3", "127.0.0.1")
	testkit.Eventually(t, "a running instance", func() bool {
		return exec.Command(binary(t), append([]string{"net-netflow", "--status"}, s.args...)...).Run() == nil
	})
	testkit.Eventually(t, "both switches", func() bool {
		out, _ := exec.Command(binary(t), append([]string{"net-netflow", "--status"}, s.args...)...).Output()
		return strings.Contains(string(out), "ovs1 1549, ovs2 1550") && strings.Contains(string(out), "br0 512, lin1 513, lin2 514")
	})
	s.send(0, 10)
	s.send(1, 20)
	r.waitFor(`br-int: [1-3] flows, 2\d packets, 2\d\d\d bytes sent`) // IGMP may be among them; nfdump tells the flow itself below
	r.waitFor(`br0: [1-3] flows, 1\d packets, 1\d\d\d bytes sent`)

	second := s.run("-e", "br0", "127.0.0.1")
	second.exit(7)
	if !strings.Contains(second.text(), "already running (process "+strconv.Itoa(r.cmd.Process.Pid)) {
		t.Error(second.text())
	}
	must(t, r.cmd.Process.Signal(syscall.SIGINT))
	r.exit(0)
	testkit.Drained(t, collector.Process.Pid, 2055)
	must(t, collector.Process.Signal(syscall.SIGINT))
	_ = collector.Wait()
	out, err := exec.Command(nfdump, "-R", dir, "-o", "json", "proto udp and port 2000").Output()
	must(t, err)
	var got []nfFlow
	must(t, json.Unmarshal(out, &got))
	slices.SortFunc(got, func(a, b nfFlow) int { return a.In - b.In })
	want := []nfFlow{
		{"10.1.0.1", 1000, 2000, 513, 514, 10, 1280},
		{"10.1.0.1", 1000, 2000, 1549, 1550, 20, 2560},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-sent +nfdump)\n%s", diff)
	}
}

// waitUDP waits until something listens on a port in a namespace.
func waitUDP(t *testing.T, space *testns.Space, port int) {
	t.Helper()
	var table []byte
	testkit.Eventually(t, "a collector", func() bool {
		must(t, space.Do(func() (err error) { table, err = os.ReadFile("/proc/thread-self/net/udp"); return err }))
		return strings.Contains(string(table), fmt.Sprintf(":%04X ", port))
	})
}

// Command lines that end at once, each with its code, and the daemon.
func TestNetNetflowCommandLine(t *testing.T) {
	s := newSwitches(t)
	f := func(code int, want string, args ...string) {
		t.Helper()
		r := s.run(args...)
		r.exit(code)
		if !strings.Contains(r.text(), want) {
			t.Errorf("%v: %s", args, r.text())
		}
	}
	f(2, "Usage:", "-e", "br0")         // N3: no collector
	f(2, "no switch: give", "10.0.0.9") // N3: no switch
	f(0, "polling period", "-h")        // N5
	f(2, "there are: br-int, br0", "-e", "br0,vSwitch7", "127.0.0.1")
	f(2, "must be 10 to 60000", "-e", "br0", "-s", "1", "127.0.0.1")
	f(2, "unknown flag", "-e", "br0", "--bogus", "127.0.0.1")
	f(0, "ovs br-int, number 2: ports br-int 65534, ovs1 13, ovs2 14", "--check", "-e", "br0,br-int", "127.0.0.1")
	f(1, "no running instance", "--status")
	f(2, `"-x" is not known before net-netflow`, "vmkload_app", "-x", "net-netflow")

	// Without rights: what to do about it. The folders are root's.
	for _, mode := range []string{"-v", "-S"} {
		denied := start(t, &syscall.Credential{Uid: nobody, Gid: nobody}, append([]string{"net-netflow", mode, "-e", "br0", "127.0.0.1"}, s.args...)...)
		denied.exit(4)
		if !strings.Contains(denied.text(), "run as root; or as another user give the program the right to capture") {
			t.Error(denied.text())
		}
	}

	// The historic line, as a daemon (N21, N28); then the live change and the end by a signal.
	d := s.run("vmkload_app", "-S", "-i", "vmktcp", "/usr/lib/vmware/bin/net-netflow", "-e", "br0", "127.0.0.1:9995")
	d.exit(0)
	pid, err := strconv.Atoi(strings.TrimSpace(d.text()))
	must(t, err)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	f(0, "br-int: 0 flows", "--change", "-e", "br0,br-int")
	f(1, "no switch of the name br9", "--change", "-e", "br9")
	f(0, "9995", "--status")
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	testkit.Eventually(t, "the daemon ends", func() bool {
		return exec.Command(binary(t), append([]string{"net-netflow", "--status"}, s.args...)...).Run() != nil
	})
	testkit.Eventually(t, "the lock is free, too", func() bool { return syscall.Kill(pid, 0) != nil })
	r := s.run("-e", "br0", "127.0.0.1")
	testkit.Eventually(t, "an instance", func() bool {
		return exec.Command(binary(t), append([]string{"net-netflow", "--status"}, s.args...)...).Run() == nil
	})
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.exit(0)
}
