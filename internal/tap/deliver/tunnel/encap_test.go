package tunnel

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// headersOf returns the headers that a target puts in front of two frames.
func headersOf(t *testing.T, url string, frames ...frame.Frame) (all []string) {
	t.Helper()
	target, err := Parse(url)
	must(t, err)
	e := newEncap(&target)
	for i := range frames {
		b := bytes.Repeat([]byte{0xee}, maxHeader) // what was there before must not show
		n := e.put(b, &frames[i], frames[i].Truncated())
		all = append(all, hex.EncodeToString(b[:n]))
	}
	return all
}

// TestHeaders compares with bytes that are written by hand from the specifications.
func TestHeaders(t *testing.T) {
	plain, tagged := ethernet(1, 60, 0), ethernet(2, 60, 0xa00a) // priority 5, VLAN 10
	tagged.OrigLen, tagged.Dir, tagged.Point = 100, frame.Egress, 2
	f := func(url string, want ...string) {
		t.Helper()
		got := headersOf(t, url, plain, tagged)
		for i := range want {
			if w := strings.ReplaceAll(want[i], " ", ""); got[i] != w {
				t.Errorf("%s: frame %d: got %s, want %s", url, i, got[i], w)
			}
		}
	}
	f("vxlan://h?vni=5001", "08000000 00138900", "08000000 00138900")
	f("geneve://h?vni=5001", "00006558 00138900", "00006558 00138900")
	f("udp://h:9", "", "")
	f("gre://h", "00006558", "00006558")
	f("gre://h?key=0", "20006558 00000000")
	f("gre://h?seq", "10006558 00000000", "10006558 00000001")
	f("gre://h?key=7&seq", "30006558 00000007 00000000", "30006558 00000007 00000001")
	// 0x100a = version 1, VLAN 10; 0xbc05 = priority 5, En 3, T, session 5
	f("erspan2://h?session=5", "100088be 00000000 10000005 00000001", "100088be 00000001 100abc05 00000003")
	f("erspan2://h?session=1023&index=0x12345", "100088be 00000000 100003ff 00012345")
	// 1772366400.123457789 s in 100 us: 0x9cb268d2; P = 0x8000, D = 8; 0xa405 = priority 5, T, session 5
	f("erspan3://h?session=5&sgt=258&hwid=63", "100022eb 00000000 20000005 9cb268d2 0102 83f0", "100022eb 00000001 200aa405 9cb268d2 0102 83f8")
	// nanoseconds 123457789 = 0x075bd0fd, seconds 1772366400 = 0x69a42a40; granularity 2, O; platform 5, switch 1000, port 1
	f("erspan3://h?session=5&granularity=ptp&switch=1000", "100022eb 00000000 20000005 075bd0fd 0000 8005 17e80001 69a42a40")
}

// TestNoAllocations wraps and sends frames without allocating.
func TestNoAllocations(t *testing.T) {
	frames := mixed(0, 128, 1400)
	for _, url := range []string{"vxlan://h?vni=1", "geneve://h?vni=1", "gre://h?key=1&seq", "erspan2://h?session=1", "erspan3://h?session=1&granularity=ptp", "udp://h:9"} {
		s := toNowhere(t, url)
		if n := testkit.Allocs(20, func() { s.batch(t.Context(), frames) }); n != 0 {
			t.Errorf("%s: %v allocations for %d frames", url, n, len(frames))
		}
	}
}

// toNowhere returns a sink whose packets end in a socket of this host that nobody reads.
func toNowhere(tb testing.TB, url string) *Sink {
	tb.Helper()
	target, err := Parse(url)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Config{Target: target})
	if err != nil {
		tb.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		tb.Fatal(err)
	}
	// A filter that takes nothing: packets are dropped where they arrive.
	if err := unix.SetsockoptSockFprog(pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &deaf[0]}); err != nil {
		tb.Fatal(err)
	}
	s.lanes = append(s.lanes, newLane(pair[0]))
	s.way.source, s.way.tool = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")
	s.watch()
	tb.Cleanup(func() { s.Close(); unix.Close(pair[1]) })
	return s
}

// nested wraps a frame in the packet of a target.
func nested(t *testing.T, url string, inner []byte, source, tool netip.Addr) []byte {
	t.Helper()
	target, err := Parse(url)
	must(t, err)
	e := newEncap(&target)
	head := make([]byte, maxHeader)
	head = head[:e.put(head, &frame.Frame{Data: inner, OrigLen: len(inner)}, false)]
	proto := byte(47)
	if target.Kind.overUDP() {
		n := 8 + len(head) + len(inner)
		head = append([]byte{0xc0, 0, byte(target.Port >> 8), byte(target.Port), byte(n >> 8), byte(n), 0, 0}, head...)
		proto = 17
	}
	n := len(head) + len(inner)
	var b []byte
	if tool.Is4() {
		b = append([]byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, byte((n + 20) >> 8), byte(n + 20), 0, 0, 0, 0, 64, proto, 0, 0}, append(source.AsSlice(), tool.AsSlice()...)...)
	} else {
		b = append([]byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, byte(n >> 8), byte(n), proto, 64}, append(source.AsSlice(), tool.AsSlice()...)...)
	}
	return append(append(b, head...), inner...)
}

var urls = []string{
	"vxlan://h?vni=5001", "vxlan://h:4799?vni=5001", "geneve://h?vni=7", "udp://h:999", "gre://h", "gre://h?key=8", "gre://h?key=8&seq", "erspan2://h?session=9",
	"erspan3://h?session=9", "erspan3://h?session=9&granularity=ptp",
}

// TestExclusion matches our own copies, and nothing that differs in one thing from them.
func TestExclusion(t *testing.T) {
	inner := ethernet(1, 100, 0).Data
	for _, hosts := range [][3]string{{"10.0.0.1", "10.0.0.9", "10.0.0.8"}, {"fd00::1", "fd00::9", "fd00::8"}} {
		source, tool, other := netip.MustParseAddr(hosts[0]), netip.MustParseAddr(hosts[1]), netip.MustParseAddr(hosts[2])
		for _, url := range urls {
			target, err := Parse(url)
			must(t, err)
			m, err := filter.Compile("not ("+target.exclusion(source, tool)+")", frame.LinkEthernet, filter.Options{KernelVLAN: true})
			must(t, err)
			f := func(what string, b []byte, passes bool) {
				t.Helper()
				if got := m.Match(b, len(b)); got != passes {
					t.Errorf("%s from %s: %s: passes: %v", url, source, what, got)
				}
			}
			f("our own copy", nested(t, url, inner, source, tool), false)
			f("a copy of another host", nested(t, url, inner, other, tool), true)
			f("a copy to another tool", nested(t, url, inner, source, other), true)
			f("the way back", nested(t, url, inner, tool, source), true)
			f("the frame itself", inner, true)
			f("the answer that nobody listens", icmpError(t, nested(t, url, inner, source, tool), tool, source), false)
			f("what a router says of a copy", icmpError(t, nested(t, url, inner, source, tool), other, source), false)
			f("an answer to another host", icmpError(t, nested(t, url, inner, source, tool), tool, other), true)
			f("an error about what goes elsewhere", icmpError(t, nested(t, url, inner, source, other), other, source), true)
			f("an error about the way back", icmpError(t, nested(t, url, inner, tool, source), tool, source), true)
			if next := strings.NewReplacer("=5001", "=5002", "vni=7", "vni=6", "key=8", "key=9", "session=9", "session=8", ":999", ":998").Replace(url); next != url {
				f("another number", nested(t, next, inner, source, tool), true)
			}
		}
	}
}

// icmpError returns the frame with which a host says that what another one sent it did not arrive: destination unreachable, with the beginning of that.
func icmpError(t *testing.T, about []byte, from, to netip.Addr) []byte {
	t.Helper()
	const ethernetLen, quoted = 14, 56
	packet := about[ethernetLen:][:quoted]
	if from.Is4() {
		b := []byte{0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0}
		return slices.Concat(about[:ethernetLen], b, from.AsSlice(), to.AsSlice(), []byte{3, 3, 0, 0, 0, 0, 0, 0}, packet)
	}
	b := []byte{0x60, 0, 0, 0, 0, 64, 58, 64}
	return slices.Concat(about[:ethernetLen], b, from.AsSlice(), to.AsSlice(), []byte{1, 4, 0, 0, 0, 0, 0, 0}, packet)
}

// TestBreaker recognises our own copies at any depth, and trips.
func TestBreaker(t *testing.T) {
	inner := ethernet(1, 100, 0).Data
	source, tool, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.5")
	for _, url := range urls {
		s := toNowhere(t, url)
		count := func(b []byte) uint64 {
			before := s.guard.seen.Load()
			s.inspect(&frame.Frame{Data: b, OrigLen: len(b), Link: frame.LinkEthernet})
			return s.guard.seen.Load() - before
		}
		own := nested(t, url, inner, source, tool)
		f := func(what string, b []byte, want uint64) {
			t.Helper()
			if got := count(b); got != want {
				t.Errorf("%s: %s: %d", url, what, got)
			}
		}
		f("our own copy", own, 1)
		f("in another's tunnel", nested(t, "vxlan://h?vni=9", own, other, source), 1)
		f("in two", nested(t, "gre://h", nested(t, "erspan2://h?session=1", own, other, source), other, source), 1)
		f("another's copy", nested(t, url, inner, other, tool), 0)
		f("the frame itself", inner, 0)
		for range 100 - 3 {
			count(own)
		}
		if !s.guard.tripped.Load() {
			t.Errorf("%s: not tripped after 100 copies", url)
		}
		s.batch(t.Context(), mixed(0, 5, 100))
		if got := dropped(s.Book().Read()); got != "5 loop" {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// FuzzInspect reads any frame.
func FuzzInspect(f *testing.F) {
	for _, url := range urls {
		target, err := Parse(url)
		if err != nil {
			f.Fatal(err)
		}
		e := newEncap(&target)
		f.Add(append(append([]byte{}, e.head[:e.n]...), ethernet(1, 60, 0).Data...), url)
	}
	f.Add(ethernet(1, 60, 5).Data, "vxlan://h?vni=1")
	f.Fuzz(func(t *testing.T, b []byte, url string) {
		target, err := Parse(url)
		if err != nil {
			return
		}
		s, err := New(Config{Target: target})
		if err != nil {
			t.Fatal(err)
		}
		s.lanes = make([]*lane, 2)
		s.guard.armed, s.guard.t = true, &s.cfg.Target
		s.guard.source, s.guard.tool = flow.V4([]byte{10, 0, 0, 1}), flow.V4([]byte{10, 0, 0, 9})
		for _, link := range []frame.LinkType{frame.LinkEthernet, frame.LinkRaw} {
			fr := frame.Frame{Data: b, OrigLen: len(b) + len(b)%3, Link: link}
			if one, two := s.inspect(&fr), s.inspect(&fr); one != two {
				t.Errorf("hash %x, then %x", one, two)
			}
			var head [maxHeader]byte
			if n := s.encap.put(head[:], &fr, fr.Truncated()); n != s.encap.n {
				t.Errorf("%d bytes of headers", n)
			}
		}
	})
}

// BenchmarkEncap measures headers, hash and loop guard, without sending.
func BenchmarkEncap(b *testing.B) {
	frames := mixed(0, 256, 1400)
	for _, url := range []string{"vxlan://h?vni=1", "geneve://h?vni=1", "gre://h?key=1&seq", "erspan2://h?session=1", "erspan3://h?session=1", "udp://h:9"} {
		b.Run(url[:strings.Index(url, ":")], func(b *testing.B) {
			s := toNowhere(b, url)
			l := s.lanes[0]
			i := 0
			for b.Loop() {
				f := &frames[i&255]
				s.inspect(f)
				if l.add(&s.encap, f, nil, f.Data, false) {
					l.n = 0
				}
				i++
			}
		})
	}
}

// BenchmarkSend measures the whole way to the far end of a link between two namespaces, where a socket drops what comes.
func BenchmarkSend(b *testing.B) {
	host, tool := testns.New(b), testns.New(b)
	host.Sh("ip link add up0 mtu 9000 type veth peer name eth0 mtu 9000 netns NS; ip addr add 10.7.0.1/24 dev up0; ip link set up0 up", tool)
	tool.Sh("ip addr add 10.7.0.9/24 dev eth0; ip link set eth0 up; ip link add vx0 type vxlan id 1 dstport 4789 local 10.7.0.9 dev eth0; ip link set vx0 up; sysctl -qw net.ipv4.icmp_ratelimit=1000")
	host.Up("up0")
	frames := mixed(0, 256, 1400)
	for _, url := range []string{"vxlan://10.7.0.9?vni=1", "vxlan://10.7.0.9?vni=1&ports=1", "gre://10.7.0.9", "erspan2://10.7.0.9?session=1", "iface:up0"} {
		b.Run(url, func(b *testing.B) {
			target, err := Parse(url)
			if err != nil {
				b.Fatal(err)
			}
			target.NetNS = host.Path()
			s, err := New(Config{Target: target})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Open(b.Context()); err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			n := 0
			for b.Loop() {
				s.batch(b.Context(), frames)
				n += len(frames)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/frame")
			b.ReportMetric(float64(s.Book().Read().Out)/float64(n), "sent/frame")
		})
	}
}
