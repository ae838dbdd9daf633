package kernel

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// outer returns what copies are wrapped in: the header in hexadecimal, its places, over IPv4 or IPv6.
func (l *lab) outer(proto uint8, port uint16, head string, seq, erspan int, v6 bool) Outer {
	l.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(head, " ", ""))
	must(l.t, err)
	o := l.vxlan(0)
	o.Protocol, o.Port, o.Head, o.Seq, o.ERSPAN = proto, port, b, seq, erspan
	if v6 {
		o.Source, o.Tool = netip.MustParseAddr("fd07::1"), netip.MustParseAddr("fd07::9")
	}
	return o
}

// TestMirrorFormats sends copies in every format; tshark says what arrived.
func TestMirrorFormats(t *testing.T) {
	l := newLab(t)
	l.arp()
	path := filepath.Join(t.TempDir(), "tool.pcap")
	stopDump := l.dump(path, "(udp and not icmp6) or proto 47 or ip6 proto 47")
	const each = 3
	var want, names []string
	var udp []bool
	f := func(name string, o Outer, row string) {
		t.Helper()
		stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst port 7000"}, Outer: o})
		l.datagrams(each, 100, 7000)
		if s := stop(); s.Out != each {
			t.Errorf("%s: %+v", name, s)
		}
		for i := range each {
			want, names, udp = append(want, strings.ReplaceAll(row, "N", strconv.Itoa(i))), append(names, name), append(udp, o.Protocol == 17)
		}
	}
	const inner = "eth:ethertype:ip:udp:data"
	f("vxlan", l.vxlan(4711), "eth:ethertype:ip:udp:vxlan:"+inner+";4711;;;1,1;;;;")
	f("vxlan over IPv6", l.outer(17, 4789, "08000000 00126700", -1, -1, true), "eth:ethertype:ipv6:udp:vxlan:"+inner+";4711;;;1;;;;")
	f("geneve", l.outer(17, 6081, "00006558 00126700", -1, -1, false), "eth:ethertype:ip:udp:geneve:"+inner+";;0x001267;;1,1;;;;")
	f("gre", l.outer(47, 0, "20006558 0000002a", -1, -1, false), "eth:ethertype:ip:gre:"+inner+";;;0x0000002a;1,1;;;;")
	f("gre with numbers over IPv6", l.outer(47, 0, "30006558 0000002a 00000000", 8, -1, true), "eth:ethertype:ipv6:gre:"+inner+";;;0x0000002a;1;N;;;")
	f("erspan2", l.outer(47, 0, "100088be 00000000 10000141 00000000", 4, 8, false), "eth:ethertype:ip:gre:erspan:"+inner+";;;;1,1;N;321;1;0")
	three := l.outer(47, 0, "100022eb 00000000 20000141 00000000 00078150", 4, 8, false)
	three.Stamp = Stamp100Micros
	f("erspan3", three, "eth:ethertype:ip:gre:erspan:"+inner+";;;;1,1;N;321;;0")
	three = l.outer(47, 0, "100022eb 00000000 20000141 00000000 00008005 17e80000 00000000", 4, 8, false)
	three.Stamp = StampPTP
	f("erspan3 with seconds", three, "eth:ethertype:ip:gre:erspan:"+inner+";;;;1,1;N;321;;0")
	stopDump(len(want))
	rows := tshark(t, path, "frame.protocols", "vxlan.vni", "geneve.vni", "gre.key", "ip.checksum.status", "gre.sequence_number", "erspan.spanid", "erspan.index", "erspan.truncated", "udp.srcport")
	if len(rows) != len(want) {
		t.Fatalf("%d copies, want %d", len(rows), len(want))
	}
	for i, r := range rows {
		at := strings.LastIndexByte(r, ';')
		if r[:at] != want[i] {
			t.Errorf("%s: %q, want %q", names[i], r[:at], want[i])
		}
		if src, _ := strconv.Atoi(strings.Split(r[at+1:], ",")[0]); udp[i] && src < firstPort {
			t.Errorf("%s: source port %d", names[i], src)
		}
	}
}

// TestMirrorSuperFrames copies TCP streams that travel in super-frames. At the tool, behind an interface that cuts them as a wire would, each copy is a
// segment as b got it, with the right checksums; with slices, and where copies are numbered, too.
func TestMirrorSuperFrames(t *testing.T) {
	ethtool := testkit.Tool(t, "ethtool")
	l := newLab(t)
	l.arp()
	l.host.Sh(ethtool + " -K p2 tso off gso off tx-udp-segmentation off")
	l.b.Sh(ethtool + " -K eth0 gro off tso off gso off")
	dir := t.TempDir()
	truth, path := filepath.Join(dir, "truth.pcap"), filepath.Join(dir, "tool.pcap")
	stopTruth := l.b.Dump(testkit.Tool(t, "tcpdump"), truth, "-s", "0", "-B", "32768", "-Q", "in", "tcp")
	stopDump := l.dump(path, "udp port 4789 or proto 47")
	cut := l.vxlan(78)
	cut.Keep = 100
	for _, o := range []Outer{l.vxlan(77), cut, l.outer(47, 0, "100088be 00000000 10000005 00000000", 4, 8, false)} {
		stop := l.mirror(MirrorConfig{Config: Config{Filter: "tcp", IngressOnly: true}, Outer: o})
		l.a.Stream(l.b, "10.9.0.2", make([]byte, 300_000))
		testns.WaitStill(truth)
		s := stop()
		if whole := o.Keep == 0 && o.Seq < 0; dropped(s, DropLost) != 0 || s.Made > 0 == whole {
			t.Errorf("%+v: %+v", o, s)
		}
	}
	stopTruth()
	sent := tshark(t, truth, "ip.len", "tcp.seq_raw", "tcp.stream")
	stopDump(len(sent))
	// What b got is taken away from by what the tool got.
	segments := []map[string]int{{}, {}, {}}
	for _, r := range sent {
		col := strings.Split(r, ";")
		stream, err := strconv.Atoi(col[2])
		must(t, err)
		segments[stream][col[0]+";"+col[1]]++
	}
	number := 0
	for i, r := range tshark(t, path, "ip.len", "tcp.seq_raw", "vxlan.vni", "gre.sequence_number", "tcp.checksum.status", "ip.checksum.status", "frame.len") {
		col := strings.Split(r, ";")
		stream := map[string]int{"77": 0, "78": 1, "": 2}[col[2]]
		lengths := strings.Split(col[0], ",")
		segments[stream][lengths[len(lengths)-1]+";"+col[1]]--
		if n, _ := strconv.Atoi(col[6]); stream == 1 && n > 100+50 {
			t.Errorf("copy %d: a slice of %d bytes", i, n)
		}
		if stream != 1 && (col[4] != "1" || col[5] != "1,1") {
			t.Errorf("copy %d: checksums %s %s", i, col[4], col[5])
		}
		if stream == 2 {
			if col[3] != strconv.Itoa(number) {
				t.Errorf("copy %d has number %s, want %d", i, col[3], number)
			}
			number++
		}
	}
	for stream, left := range segments {
		for k, n := range left {
			if n != 0 {
				t.Errorf("stream %d, segment %s: %d copies are missing", stream, k, n)
			}
		}
	}
}

// raw sends frames from a's interface as they are.
func (l *lab) raw(frames ...[]byte) {
	l.t.Helper()
	must(l.t, l.a.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, b := range frames {
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestMirrorTags copies frames with VLAN tags, which the kernel keeps beside the frame, and frames that are not IP.
func TestMirrorTags(t *testing.T) {
	l := newLab(t)
	payload := slices.Concat(unhex(t, "45000032 00000000 4011664a 0a090001 0a090002 1b581b58 001e0000"), make([]byte, 22))
	macs := unhex(t, "ffffffffffff 0200000000aa")
	frames := [][]byte{
		slices.Concat(macs, unhex(t, "0800"), payload),
		slices.Concat(macs, unhex(t, "8100 a007 0800"), payload),
		slices.Concat(macs, unhex(t, "88a8 0064 8100 0007 0800"), payload),
		slices.Concat(macs, unhex(t, "88b5"), payload), // experimental
		slices.Concat(macs, unhex(t, "8100 2003 88b5"), payload),
	}
	f := func(name string, o Outer, head int, check func(i int, outer []byte)) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "tool.pcap")
		stopDump := l.dump(path, "udp port 4789 or proto 47")
		stop := l.mirror(MirrorConfig{Config: Config{Filter: "ether src 02:00:00:00:00:aa", IngressOnly: true}, Outer: o})
		l.raw(frames...)
		stopDump(len(frames))
		if s := stop(); s.Out != uint64(len(frames)) {
			t.Errorf("%s: %+v", name, s)
		}
		got := l.read(path)
		for i := range min(len(got), len(frames)) {
			if diff := cmp.Diff(hex.EncodeToString(frames[i]), hex.EncodeToString(got[i][head:])); diff != "" {
				t.Errorf("%s: frame %d: (-sent, +copy)\n%s", name, i, diff)
			}
			check(i, got[i])
		}
		if len(got) != len(frames) {
			t.Errorf("%s: %d copies", name, len(got))
		}
	}
	f("vxlan", l.vxlan(1), 50, func(int, []byte) {})
	tags := []string{"1000 0005", "1007 b805", "1064 1805", "1000 0005", "1003 3805"} // version, VLAN · class, En, T, session
	f("erspan2", l.outer(47, 0, "100088be 00000000 10000005 00000000", 4, 8, false), 50, func(i int, b []byte) {
		if got, want := hex.EncodeToString(b[42:46]), strings.ReplaceAll(tags[i], " ", ""); got != want {
			t.Errorf("frame %d: ERSPAN %s, want %s", i, got, want)
		}
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	must(t, err)
	return b
}

// TestMirrorSamples draws samples; what is left out is counted.
func TestMirrorSamples(t *testing.T) {
	l := newLab(t)
	l.arp()
	const n = 2000
	f := func(name string, s Sample, least, most uint64) {
		t.Helper()
		stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst port 7000", IngressOnly: true, Sample: s}, Outer: l.vxlan(1)})
		l.datagrams(n, 20, 7000)
		b := stop()
		if b.Out < least || b.Out > most || b.Out+dropped(b, DropSampled) != n {
			t.Errorf("%s: %+v", name, b)
		}
	}
	f("every 16th", Sample{Rate: 16}, n/16, n/16+uint64(runtime.NumCPU())) // each processor begins with one of its own
	f("random", Sample{Rate: 16, Mode: Random}, n/16-70, n/16+70)
	f("by flows", Sample{Rate: 2, Mode: ByFlows}, 0, n)
	// A conversation is in the sample as a whole, both ways.
	conversations, in := 60, 0
	for i := range conversations {
		stop := l.mirror(MirrorConfig{Config: Config{Filter: fmt.Sprintf("udp port %d or icmp", 8000+i), Sample: Sample{Rate: 3, Mode: ByFlows}, IngressOnly: false}, Outer: l.vxlan(1)})
		l.exchange(8000+i, 4)
		b := stop()
		switch b.Out {
		case 0:
		case 8:
			in++
		default:
			t.Errorf("conversation %d: %+v", i, b)
		}
		if in > 1 && i > in+1 { // some are, and some are not
			break
		}
	}
	if in == 0 || in == conversations {
		t.Errorf("%d conversations of %d are in a sample of one in three", in, conversations)
	}
}

// exchange has a and b send each other n datagrams.
func (l *lab) exchange(port, n int) {
	l.t.Helper()
	var a, b net.PacketConn
	must(l.t, l.a.Do(func() (err error) { a, err = net.ListenPacket("udp", fmt.Sprintf("10.9.0.1:%d", port)); return err }))
	must(l.t, l.b.Do(func() (err error) { b, err = net.ListenPacket("udp", fmt.Sprintf("10.9.0.2:%d", port)); return err }))
	defer a.Close()
	defer b.Close()
	buf := make([]byte, 64)
	must(l.t, a.SetReadDeadline(time.Now().Add(time.Minute)))
	must(l.t, b.SetReadDeadline(time.Now().Add(time.Minute)))
	for range n {
		_, err := a.WriteTo(buf, b.LocalAddr())
		must(l.t, err)
		_, _, err = b.ReadFrom(buf)
		must(l.t, err)
		_, err = b.WriteTo(buf, a.LocalAddr())
		must(l.t, err)
		_, _, err = a.ReadFrom(buf)
		must(l.t, err)
	}
}

// TestMirrorTooLong drops, or cuts, copies that one packet of the path is too short for.
func TestMirrorTooLong(t *testing.T) {
	l := newLab(t)
	l.arp()
	f := func(slice bool, out, big uint64) {
		t.Helper()
		o := l.vxlan(1)
		o.Fits, o.Slice = 500, slice
		stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst port 7000", IngressOnly: true}, Outer: o})
		l.datagrams(5, 100, 7000)
		l.datagrams(7, 1000, 7000)
		if s := stop(); s.Out != out || dropped(s, DropTooBig) != big || dropped(s, DropLost) != 0 {
			t.Errorf("slice %t: %+v", slice, s)
		}
	}
	f(false, 5, 7)
	f(true, 12, 0)
}

// TestMirrorLosesItsWay counts copies as lost while there is no way to the tool, and goes on when it is back. The application notices nothing.
func TestMirrorLosesItsWay(t *testing.T) {
	l := newLab(t)
	l.arp()
	o := l.vxlan(1)
	m, err := NewMirror(MirrorConfig{Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Filter: "udp dst port 7000", IngressOnly: true}, Outer: o})
	must(t, err)
	must(t, m.Open())
	defer m.Close()
	l.datagrams(3, 100, 7000)
	l.host.Sh("ip route del 10.7.0.0/24 dev up0")
	if m.follow(); m.told == nil {
		t.Error("no word of the route that is gone")
	}
	l.datagrams(4, 100, 7000)
	l.host.Sh("ip route add 10.7.0.0/24 dev up0 src 10.7.0.1")
	if m.follow(); m.told != nil {
		t.Error(m.told)
	}
	l.datagrams(5, 100, 7000)
	m.account()
	if s := m.Book().Read(); s.Out != 8 || dropped(s, DropLost) != 4 || s.Balance() != nil {
		t.Errorf("%+v", s)
	}
}

// An interface that goes away and comes back is tapped again; what was counted before stays.
func TestMirrorFollowsTheInterface(t *testing.T) {
	l := newLab(t)
	l.arp()
	m, err := NewMirror(MirrorConfig{Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Filter: "udp dst port 7000", IngressOnly: true}, Outer: l.vxlan(1)})
	must(t, err)
	must(t, m.Open())
	defer m.Close()
	l.datagrams(3, 100, 7000)
	before := m.index[0]
	l.host.Sh("ip link del p1")
	m.look()
	if _, index := m.Interface(0); index != 0 {
		t.Error("the interface is gone, but not for the mirror")
	}
	l.host.Sh("ip link add p1 type veth peer name eth0 netns NS; ip link set p1 addrgenmode none; ip link set p1 master br0 up", l.a)
	l.a.Sh("ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0")
	l.host.Up("p1")
	l.a.Up("eth0")
	l.arp()
	m.look()
	if _, index := m.Interface(0); index == 0 || int(index) == before {
		t.Errorf("interface %d, before %d", index, before)
	}
	l.datagrams(4, 100, 7000)
	m.account()
	if s := m.Book().Read(); s.Out != 7 || s.Balance() != nil {
		t.Errorf("%+v", s)
	}
}

// TestMirrorLoop has copies come back to the tapped port inside another tunnel: the kernel stops them within 100.
func TestMirrorLoop(t *testing.T) {
	l := newLab(t)
	copied := func(wrap string, o Outer) []byte { // as a's interface would bring a copy in a tunnel of somebody else
		inner := slices.Concat(unhex(t, "02000000000902000000000a0800"), o.template()[14:], make([]byte, 60))
		return slices.Concat(unhex(t, wrap), inner)
	}
	const (
		eth   = "ffffffffffff0200000000aa0800"
		ip    = "450000c8000000004011000009090909 08080808"
		ip47  = "450000c8000000004 02f000009090909 08080808"
		vxlan = eth + ip + "c00012b500b40000" + "0800000000000100"
		gre   = eth + ip47 + "00006558"
	)
	o := l.vxlan(7)
	for name, b := range map[string][]byte{"vxlan": copied(vxlan, o), "gre": copied(gre, o)} {
		m, err := NewMirror(MirrorConfig{Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Filter: "ether src 02:00:00:00:00:aa", IngressOnly: true}, Outer: o})
		must(t, err)
		must(t, m.Open())
		l.raw(slices.Repeat([][]byte{b}, 40)...)
		if m.follow(); m.tripped {
			t.Errorf("%s: 40 of them are an echo, not a loop", name)
		}
		l.raw(slices.Repeat([][]byte{b}, 160)...)
		m.follow()
		m.account()
		if s := m.Book().Read(); !m.tripped || s.Out != tripAt-1 || dropped(s, DropLost) != 201-tripAt || s.Balance() != nil {
			t.Errorf("%s: tripped %t, %+v", name, m.tripped, s)
		}
		m.Close()
	}
}
