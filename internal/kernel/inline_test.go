package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// newPairLab is a host between the VMs a (10.9.0.1) and b (10.9.0.2), which reach each other through its interfaces i1 and i2 alone.
func newPairLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t, testns.New(t), testns.New(t), testns.New(t), nil}
	for _, x := range []*testns.Space{l.host, l.a, l.b} {
		x.Sh(quiet)
	}
	for i, vm := range []*testns.Space{l.a, l.b} {
		l.host.Sh(fmt.Sprintf("ip link add i%[1]d type veth peer name eth0 netns NS; ip link set i%[1]d addrgenmode none; ip link set i%[1]d up", i+1), vm)
		vm.Sh(fmt.Sprintf("ip link set eth0 addrgenmode none; ip link set eth0 up; ip addr add 10.9.0.%[1]d/24 dev eth0", i+1))
	}
	l.host.Up("i1", "i2")
	l.a.Up("eth0")
	l.b.Up("eth0")
	l.arp4()
	return l
}

// arp4 lets a and b know each other's addresses of IPv4.
func (l *lab) arp4() {
	l.t.Helper()
	mac := func(s *testns.Space) string {
		var i *net.Interface
		must(l.t, s.Do(func() (err error) { i, err = net.InterfaceByName("eth0"); return err }))
		return i.HardwareAddr.String()
	}
	l.a.Sh("ip neigh replace 10.9.0.2 lladdr " + mac(l.b) + " dev eth0 nud permanent")
	l.b.Sh("ip neigh replace 10.9.0.1 lladdr " + mac(l.a) + " dev eth0 nud permanent")
}

// join joins i1 and i2; the function ends that and returns the books.
func (l *lab) join(c InlineConfig) (x *Inline, stop func() ledger.Statement) {
	l.t.Helper()
	c.A, c.B, c.NetNS = "i1", "i2", l.host.Path()
	x, err := NewInline(c)
	must(l.t, err)
	must(l.t, x.Open())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx) }()
	return x, func() ledger.Statement {
		cancel()
		<-done
		x.Close()
		s := x.Book().Read()
		if err := s.Balance(); err != nil {
			l.t.Errorf("%+v: %v", s, err)
		}
		return s
	}
}

// ports returns what the interfaces themselves have counted: packets that came in by either, and that left by either.
func (l *lab) ports() (in, out uint64) {
	l.t.Helper()
	must(l.t, l.host.Do(func() error {
		for _, name := range []string{"i1", "i2"} {
			x, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			in, out = in+x.Attrs().Statistics.RxPackets, out+x.Attrs().Statistics.TxPackets
		}
		return nil
	}))
	return in, out
}

// rawFrames sends frames from a, and returns those with one of the same EtherType or length field that b got.
func (l *lab) rawFrames(frames ...[]byte) (got [][]byte) {
	l.t.Helper()
	socket := func(s *testns.Space) (fd int) {
		must(l.t, s.Do(func() error {
			i, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			all := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: all})
		}))
		return fd
	}
	tx, rx := socket(l.a), socket(l.b)
	defer unix.Close(tx)
	defer unix.Close(rx)
	must(l.t, unix.SetsockoptTimeval(rx, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}))
	for _, f := range frames {
		_, err := unix.Write(tx, f)
		must(l.t, err)
	}
	for len(got) < len(frames) {
		b := make([]byte, 2048)
		n, _, err := unix.Recvfrom(rx, b, 0)
		if err != nil {
			l.t.Fatalf("%d of %d frames came: %v", len(got), len(frames), err)
		}
		got = append(got, b[:n])
	}
	return got
}

// Everything passes: streams in super-frames, what is not IP, what bridges keep for themselves. The counts are those of the interfaces.
func TestInlinePassesAll(t *testing.T) {
	l := newPairLab(t)
	x, stop := l.join(InlineConfig{})
	in, out := l.ports()
	l.a.Stream(l.b, "10.9.0.2", make([]byte, 2_000_000))
	l.b.Stream(l.a, "10.9.0.1", make([]byte, 1_000_000))
	l.exchange(7000, 50)
	pad := strings.Repeat("00", 40)
	var frames [][]byte
	for _, text := range []string{
		"0180c2000000 020000000001 0026 424203 0000000000" + pad, // a BPDU: IEEE 802.3 with LLC
		"0180c200000e 020000000001 88cc 0207040200000000010403" + pad,
		"0180c2000002 020000000001 8809 0101" + pad, // LACP
		"ffffffffffff 020000000001 0806 0001080006040001" + pad,
		"0200000000ff 020000000001 88b5 dead" + pad, // to nobody here
	} {
		frames = append(frames, unhex(t, text))
	}
	if diff := cmp.Diff(frames, l.rawFrames(frames...)); diff != "" {
		t.Errorf("(-sent, +came)\n%s", diff)
	}
	s := stop()
	inNow, outNow := l.ports()
	if s.In != inNow-in || s.Out != outNow-out || s.In != s.Out || s.In < 100 {
		t.Errorf("%+v, but the interfaces say %d in, %d out", s, inNow-in, outNow-out)
	}
	if st := x.State(); st.Segments[0] < st.Frames[0] || st.Frames[0]+st.Frames[1] != s.Out || st.Bytes[0] < 2_000_000 || st.Bytes[1] < 1_000_000 {
		t.Errorf("%+v", st)
	}
	must(t, RemovePair(l.host.Path(), "i2", "i1", false))
	if left := l.left(); left != nil {
		t.Errorf("left: %v", left)
	}
}

// A VLAN tag stays where it was: beside the frame on the way, in it when it arrives.
func TestInlineTags(t *testing.T) {
	l := newPairLab(t)
	_, stop := l.join(InlineConfig{})
	tcpdump := testkit.Tool(t, "tcpdump")
	path := t.TempDir() + "/b.pcap"
	stopDump := l.b.Dump(tcpdump, path, "-e", "-Q", "in")
	pad := strings.Repeat("00", 46)
	l.raw(unhex(t, "02000000000202000000000181000065080045"+pad), unhex(t, "0200000000020200000000018 1000001 8100 0002 88b5"+pad))
	testns.WaitStill(path)
	stopDump()
	rows := tshark(t, path, "vlan.id", "eth.type", "vlan.etype")
	if diff := cmp.Diff([]string{"101;0x8100;0x0800", "1,2;0x8100;0x8100,0x88b5"}, rows); diff != "" {
		t.Error(diff)
	}
	if s := stop(); s.Out != 2 {
		t.Errorf("%+v", s)
	}
	must(t, RemovePair(l.host.Path(), "i1", "i2", false))
}

// Links follow each other: who is behind one notices that the other one has no signal.
func TestInlineLinks(t *testing.T) {
	l := newPairLab(t)
	x, stop := l.join(InlineConfig{})
	x.mu.Lock()
	x.raise = time.Time{} // no waiting for a first signal
	x.mu.Unlock()
	l.a.Sh("ip link set eth0 down")
	await(t, "i2 is down", func() bool { return !l.up("i2")[0] })
	if s := x.State(); s.Held != "i2" {
		t.Errorf("%+v", s)
	}
	l.a.Sh("ip link set eth0 up")
	await(t, "i2 is up", func() bool { return l.up("i2")[0] })
	l.host.Up("i1", "i2")
	l.a.Up("eth0")
	l.b.Up("eth0")
	l.arp4()
	l.exchange(7000, 5)
	x.mu.Lock()
	x.raise = time.Time{}
	x.mu.Unlock()
	l.b.Sh("ip link set eth0 down")
	await(t, "i1 is down", func() bool { return !l.up("i1")[0] })
	stop() // lets go
	if !l.up("i1")[0] {
		t.Error("i1 stays down without anybody who would set it up")
	}
	must(t, RemovePair(l.host.Path(), "i1", "i2", false))
}

// An interface that went away, as that of a VM which is started again, is joined again when it is back. The counts go on.
func TestInlineComesBack(t *testing.T) {
	l := newPairLab(t)
	x, stop := l.join(InlineConfig{})
	l.exchange(7000, 10)
	l.host.Sh("ip link del i1")
	await(t, "it is noticed", func() bool { return !x.State().Up[0] })
	l.host.Sh("ip link add i1 type veth peer name eth0 netns NS; ip link set i1 addrgenmode none; ip link set i1 up", l.a)
	l.a.Sh("ip link set eth0 addrgenmode none; ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0")
	await(t, "both are joined", func() bool { p := l.pairs(); return len(p) == 1 && p[0].B == "i2" && p[0].Up[0] && p[0].Up[1] })
	l.host.Up("i1", "i2")
	l.a.Up("eth0")
	l.b.Up("eth0")
	l.arp4()
	l.exchange(7000, 10)
	if s := stop(); s.Out != 40 || s.In != 40 {
		t.Errorf("%+v", s)
	}
	must(t, RemovePair(l.host.Path(), "i1", "i2", false))
	if left := l.left(); left != nil {
		t.Errorf("left: %v", left)
	}
}

// What would be a loop, lose frames, or cut the host off is refused.
func TestInlineRefuses(t *testing.T) {
	l := newPairLab(t)
	l.host.Sh(`ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up
		for n in 1 2 3; do ip link add v$n type veth peer name w$n; ip link set v$n addrgenmode none up; ip link set w$n addrgenmode none up; done
		ip link set w1 master br0; ip link set w2 master br0
		ip link add x1 mtu 9000 type veth peer name y1 mtu 9000; ip addr add 10.1.1.1/24 dev v3
		ip link add mv0 link v2 type macvlan mode bridge 2>/dev/null || true`)
	f := func(a, b, want string) {
		t.Helper()
		x, err := NewInline(InlineConfig{A: a, B: b, NetNS: l.host.Path()})
		if err == nil {
			err = x.Check()
		}
		var no *Refused
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &no) && want != "none of that name" && want != "two interfaces" {
			t.Errorf("%s, %s: %v, want %q", a, b, err, want)
		}
	}
	f("i1", "i1", "two interfaces")
	f("i1", "none", "none of that name")
	f("w1", "w2", "port of the bridge br0")
	f("i1", "w1", "port of the bridge br0")
	f("v1", "v2", "ports of one bridge, br0")
	f("x1", "y1", "two ends of one veth pair")
	f("i1", "x1", "MTU of 1500, x1 of 9000")
	f("i1", "v3", "has the address 10.1.1.1/24")
	f("i1", "lo", "")
}

func TestPairNote(t *testing.T) {
	for _, n := range []pairNote{
		{peer: "eth2", fail: FailOpen, lease: 5 * time.Second},
		{peer: "enp0s31f6.100", fail: FailClosed, lease: 1500 * time.Millisecond, qdisc: true, promisc: true, lro: true, apart: true, second: true},
	} {
		got, ok := parseNote(n.String())
		if !ok || got != n {
			t.Errorf("%q: %+v, %t", n, got, ok)
		}
	}
	for _, s := range []string{"", "crosstap", "crosstap:q", "crosstap:inline ", "theirs"} {
		if _, ok := parseNote(s); ok {
			t.Errorf("%q is a note", s)
		}
	}
}
