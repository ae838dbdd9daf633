package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// lab is a host with a switch, whose port p1 leads to the VM a and p2 to the VM b, and an underlay to a tool: 10.7.0.1 and fd07::1 on the
// host, 10.7.0.9 and fd07::9 at the tool. a is 10.9.0.1, b 10.9.0.2.
type lab struct {
	t                *testing.T
	host, a, b, tool *testns.Space
}

const quiet = "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0 net.ipv6.conf.default.router_solicitations=0"

func newLab(t *testing.T) *lab {
	t.Helper()
	ethtool := testkit.Tool(t, "ethtool")
	l := &lab{t, testns.New(t), testns.New(t), testns.New(t), testns.New(t)}
	for _, x := range []*testns.Space{l.host, l.a, l.b, l.tool} {
		x.Sh(quiet)
	}
	l.host.Sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 addrgenmode none && ip link set br0 up")
	for i, vm := range []*testns.Space{l.a, l.b} {
		l.host.Sh(fmt.Sprintf("ip link add p%[1]d type veth peer name eth0 netns NS; ip link set p%[1]d addrgenmode none; ip link set p%[1]d master br0 up", i+1), vm)
		vm.Sh(fmt.Sprintf("ip link set eth0 up; ip addr add 10.9.0.%[1]d/24 dev eth0; ip addr add fd09::%[1]d/64 dev eth0 nodad", i+1))
	}
	l.host.Sh(`ip link add up0 mtu 9000 type veth peer name eth0 mtu 9000 netns NS; ip link set up0 up
		ip addr add 10.7.0.1/24 dev up0; ip addr add fd07::1/64 dev up0 nodad`, l.tool)
	l.tool.Sh("ip link set eth0 up; ip addr add 10.7.0.9/24 dev eth0; ip addr add fd07::9/64 dev eth0 nodad")
	l.host.Sh(ethtool + " -K up0 tx off tso off gso off") // checksums and segments as on a wire
	l.host.Up("up0", "p1", "p2", "br0")
	l.a.Up("eth0")
	l.b.Up("eth0")
	l.host.Reach("10.7.0.9", "fd07::9")
	return l
}

// vxlan is what copies for VNI 77 are wrapped in.
func (l *lab) vxlan(vni uint32) Outer {
	head := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	return Outer{Source: netip.MustParseAddr("10.7.0.1"), Tool: netip.MustParseAddr("10.7.0.9"), Protocol: unix.IPPROTO_UDP, Port: 4789,
		DontFragment: true, Head: head, Seq: -1, ERSPAN: -1, Fits: 8950}
}

// mirror starts a mirror of p1; the function stops it and returns its books.
func (l *lab) mirror(c MirrorConfig) (stop func() ledger.Statement) {
	l.t.Helper()
	if c.Interfaces == nil {
		c.Interfaces = []string{"p1"}
	}
	c.NetNS = l.host.Path()
	m, err := NewMirror(c)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := m.Open(); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, nil) }()
	return func() ledger.Statement {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
		s := m.Book().Read()
		if err := s.Balance(); err != nil || s.Held != 0 {
			l.t.Errorf("%+v: %v", s, err)
		}
		return s
	}
}

// datagrams sends n datagrams of size bytes from a to a port of b.
func (l *lab) datagrams(n, size, port int) {
	l.t.Helper()
	var c net.PacketConn // not connected: answers that nobody listens do not matter
	must(l.t, l.a.Do(func() (err error) {
		c, err = net.ListenPacket("udp", "10.9.0.1:0")
		return err
	}))
	defer c.Close()
	to := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: port}
	for range n {
		_, err := c.WriteTo(make([]byte, size), to)
		must(l.t, err)
	}
}

// arp lets a and b know each other's addresses, so that tests see their own packets only.
func (l *lab) arp() {
	l.t.Helper()
	mac := func(s *testns.Space) string {
		var i *net.Interface
		must(l.t, s.Do(func() (err error) { i, err = net.InterfaceByName("eth0"); return err }))
		return i.HardwareAddr.String()
	}
	l.a.Sh("ip neigh replace 10.9.0.2 lladdr " + mac(l.b) + " dev eth0 nud permanent; ip -6 neigh replace fd09::2 lladdr " + mac(l.b) + " dev eth0 nud permanent")
	l.b.Sh("ip neigh replace 10.9.0.1 lladdr " + mac(l.a) + " dev eth0 nud permanent; ip -6 neigh replace fd09::1 lladdr " + mac(l.a) + " dev eth0 nud permanent")
}

// dump has tcpdump write what arrives at the tool; stop waits for n frames.
func (l *lab) dump(path string, args ...string) (stop func(n int)) {
	l.t.Helper()
	return l.dumpOf("eth0", path, args...)
}

// dumpOf is dump for another interface of the tool.
func (l *lab) dumpOf(iface, path string, args ...string) (stop func(n int)) {
	l.t.Helper()
	c := exec.Command(testkit.Tool(l.t, "tcpdump"), append([]string{"-i", iface, "-Q", "in", "-n", "-p", "--immediate-mode", "-U", "-Z", "root", "-B", "16384", "-w", path}, args...)...)
	must(l.t, l.tool.Do(func() error {
		stderr, err := c.StderrPipe()
		if err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return err
		}
		_, err = stderr.Read(make([]byte, 1)) // "listening on …"
		return err
	}))
	release := testkit.Guard(l.t, c.Process.Pid)
	return func(n int) {
		for end := time.Now().Add(time.Minute); len(l.read(path)) < n && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		_ = c.Process.Signal(unix.SIGINT)
		_ = c.Wait()
		release()
	}
}

// read returns the lengths of the frames of a capture.
func (l *lab) read(path string) [][]byte { return frames(l.t, path) }

// tshark returns the fields of each frame of a capture.
func tshark(t *testing.T, path string, fields ...string) (rows []string) {
	t.Helper()
	args := []string{"-r", path, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-T", "fields", "-E", "separator=;", "-E", "occurrence=a"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(testkit.Tool(t, "tshark"), args...).Output()
	must(t, err)
	for l := range strings.Lines(string(out)) {
		rows = append(rows, strings.TrimSpace(l))
	}
	return rows
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dropped(s ledger.Statement, reason int) uint64 { return s.Dropped[reason].N }

// TestMirrorVXLAN copies what a filter matches, both ways, to a tool, where tshark finds it.
func TestMirrorVXLAN(t *testing.T) {
	l := newLab(t)
	l.arp()
	path := filepath.Join(t.TempDir(), "tool.pcap")
	stopDump := l.dump(path, "udp port 4789")
	stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp port 7000"}, Outer: l.vxlan(77)})
	l.datagrams(40, 100, 7000)
	l.datagrams(25, 100, 7001)
	stopDump(40)
	s := stop()
	if s.Out != 40 || dropped(s, DropLost) != 0 {
		t.Errorf("%+v", s)
	}
	rows := tshark(t, path, "vxlan.vni", "vxlan.flags", "ip.src", "ip.dst", "udp.dstport", "frame.len", "ip.checksum.status")
	for _, r := range rows {
		if r != "77;0x0800;10.7.0.1,10.9.0.1;10.7.0.9,10.9.0.2;4789,7000;192;1,1" {
			t.Errorf("%s", r)
		}
	}
	if len(rows) != 40 {
		t.Errorf("%d copies", len(rows))
	}
}
