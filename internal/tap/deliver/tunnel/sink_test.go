package tunnel

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
	"crosstap/internal/testns"
)

// TestTooLong sends frames that do not fit through a path of 1500 bytes: in fragments, which the kernel's device puts together, cut, or not at
// all.
func TestTooLong(t *testing.T) {
	p := newPair(t, 1500)
	p.tool.Sh("ip link add vx0 type vxlan id 5 dstport 4789 local 10.7.0.9 dev eth0; ip link set vx0 up")
	frames := []frame.Frame{ethernet(1, 1464, 0), ethernet(2, 1465, 0), ethernet(3, 1514, 0), ethernet(4, 100, 0)}
	f := func(url, drops string, want []frame.Frame, notes string) {
		t.Helper()
		s := p.sink(url)
		path := temp(t, "got.pcap")
		stop := dump(t, p.tool, "vx0", path)
		st := run(t, s, frames)
		stop(len(want))
		if diff := cmp.Diff(hexes(want), pcapFrames(t, path)); diff != "" {
			t.Errorf("%s: (-want, +received)\n%.600s", url, diff)
		}
		if got := dropped(st); got != drops || fmt.Sprint(s.Notes()) != notes {
			t.Errorf("%s: dropped %q, want %q; notes %v, want %s", url, got, drops, s.Notes(), notes)
		}
	}
	short := func(n int) []frame.Frame {
		out := slices.Clone(frames)
		for i := range out {
			out[i].Data = out[i].Data[:min(n, len(out[i].Data))]
		}
		return out
	}
	f("vxlan://10.7.0.9?vni=5", "", frames, "[{frames sent in fragments 2}]")
	f("vxlan://10.7.0.9?vni=5&mtu=slice", "", short(1464), "[{frames cut to fit the path 2}]")
	f("vxlan://10.7.0.9?vni=5&mtu=slice&path=1000", "", short(964), "[{frames cut to fit the path 3}]")
	f("vxlan://10.7.0.9?vni=5&mtu=refuse", "2 too_big", []frame.Frame{frames[0], frames[3]}, "[]")
}

// TestPathNarrows meets a router that asks for shorter packets: copies are cut to the new path, and none is lost without being counted.
func TestPathNarrows(t *testing.T) {
	p := newPair(t, 1500)
	far := testns.New(t)
	p.tool.Sh(`sysctl -qw net.ipv4.ip_forward=1; ip link add out0 mtu 1400 type veth peer name eth0 mtu 1400 netns NS; ip link set out0 up; ip addr add 10.8.0.1/24 dev out0`, far)
	far.Sh("ip link set eth0 up; ip addr add 10.8.0.9/24 dev eth0; ip route add default via 10.8.0.1; ip link add vx0 type vxlan id 5 dstport 4789 local 10.8.0.9 dev eth0; ip link set vx0 up")
	p.host.Sh("ip route add 10.8.0.0/24 via 10.7.0.9")
	p.host.Reach("10.8.0.9")
	s := p.sink("vxlan://10.8.0.9?vni=5&mtu=slice&ports=1")
	if n := s.Report().Fits; n != 1464 {
		t.Fatalf("%d bytes fit at first", n)
	}
	path := temp(t, "got.pcap")
	stop := dump(t, far, "vx0", path)
	long := []frame.Frame{ethernet(1, 1514, 0)}
	in := make(chan frame.Batch)
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context(), in) }()
	in <- frame.Batch{Frames: long} // the router answers this one
	for end := time.Now().Add(patienceOfTests); s.Report().Fits != 1364 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	in <- frame.Batch{Frames: long}
	close(in)
	must(t, <-done)
	stop(1)
	want := []string{hex.EncodeToString(long[0].Data[:1364])}
	if diff := cmp.Diff(want, pcapFrames(t, path)); diff != "" {
		t.Errorf("%d bytes fit, %s\n%s", s.Report().Fits, dropped(s.Book().Read()), diff)
	}
}

// TestNoListener notices at the start that nothing listens, goes on sending or pauses, and resumes when something does.
func TestNoListener(t *testing.T) {
	p := newPair(t, 1500)
	p.tool.Sh("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
	for _, url := range []string{"vxlan://10.7.0.9?vni=1", "geneve://[fd07::9]?vni=1", "gre://10.7.0.9", "udp://10.7.0.9:9999"} {
		s := p.sink(url)
		for range 20 { // the tool's answer may come later than the probe waits for it
			if s.Report().Refused {
				break
			}
			s = p.sink(url)
		}
		if !s.Report().Refused || !strings.Contains(p.log.String(), "nothing listens at the tool") {
			t.Errorf("%s: not noticed", url)
		}
		st := run(t, s, mixed(0, 10, 200))
		if st.Out != 10 {
			t.Errorf("%s: %d sent, %s", url, st.Out, dropped(st))
		}
	}
	s := p.sink("vxlan://10.7.0.9?vni=1&absent=pause")
	in, done := make(chan frame.Batch), make(chan error, 1)
	go func() { done <- s.Run(t.Context(), in) }()
	for end := time.Now().Add(patienceOfTests); s.Book().Read().Dropped[DropRefused].N < 10 && time.Now().Before(end); {
		in <- frame.Batch{Frames: mixed(0, 10, 200)} // the first may leave before the answer is there
		time.Sleep(10 * time.Millisecond)
	}
	if s.Up() {
		t.Error("the tool is up, and nothing listens")
	}
	p.tool.Sh("ip link add vx0 type vxlan id 1 dstport 4789 local 10.7.0.9 dev eth0; ip link set vx0 up")
	before := s.Book().Read().Out
	for end := time.Now().Add(patienceOfTests); s.Book().Read().Out == before && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		in <- frame.Batch{Frames: mixed(0, 1, 200)}
	}
	for end := time.Now().Add(patienceOfTests); !s.Up() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	if !s.Up() {
		t.Error("the tool is not up, and listens again")
	}
	close(in)
	must(t, <-done)
	st := s.Book().Read()
	if st.Dropped[DropRefused].N < 10 || st.Out == before {
		t.Errorf("paused: %d sent, %s", st.Out, dropped(st))
	}
}

// TestNoWay counts what cannot be sent because the way is gone.
func TestNoWay(t *testing.T) {
	p := newPair(t, 1500)
	if _, err := p.try("vxlan://192.0.2.1?vni=1"); err == nil || !strings.Contains(err.Error(), "no route to 192.0.2.1") {
		t.Errorf("got %v", err)
	}
	p.listen(4789)
	s := p.sink("vxlan://10.7.0.9?vni=1")
	p.host.Sh("ip link set up0 down")
	if st := run(t, s, mixed(0, 10, 200)); dropped(st) != "10 no_route" {
		t.Errorf("%d sent, %s", st.Out, dropped(st))
	}
}

// TestNoHost has a tool that is not there any more, for which its copies are sent all the same, and then is again.
func TestNoHost(t *testing.T) {
	p := newPair(t, 1500)
	p.listen(4789)
	p.host.Sh("sysctl -qw net.ipv4.neigh.up0.mcast_solicit=1 net.ipv4.neigh.up0.retrans_time_ms=100")
	s := p.sink("vxlan://10.7.0.9?vni=1")
	in, done := make(chan frame.Batch), make(chan error, 1)
	go func() { done <- s.Run(t.Context(), in) }()
	until := func(up bool) {
		t.Helper()
		for end := time.Now().Add(patienceOfTests); s.Up() != up; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it is not known that up is %v", up)
			}
			if !up {
				in <- frame.Batch{Frames: mixed(0, 1, 200)}
			}
		}
	}
	until(true)
	p.tool.Sh("ip addr del 10.7.0.9/24 dev eth0")
	p.host.Sh("ip neigh flush dev up0")
	until(false)
	p.tool.Sh("ip addr add 10.7.0.9/24 dev eth0")
	until(true)
	close(in)
	must(t, <-done)
}

// TestInterface injects frames as they are.
func TestInterface(t *testing.T) {
	p := newPair(t, 1500)
	s := p.sink("iface:up0")
	path := temp(t, "got.pcap")
	stop := dump(t, p.tool, "eth0", path, "ether src 02:aa:00:00:00:01")
	frames := append(mixed(0, 100, 1514), ethernet(200, 1600, 0))
	st := run(t, s, frames)
	stop(100)
	if diff := cmp.Diff(hexes(frames[:100]), pcapFrames(t, path)); diff != "" || dropped(st) != "1 too_big" {
		t.Errorf("%d sent, %s (-sent, +received)\n%.800s", st.Out, dropped(st), diff)
	}
	f := func(url, tapped, want string) {
		t.Helper()
		_, err := p.try(url, func(c *Config) { c.Tapped, c.TappedNetNS = []string{tapped}, p.host.Path() })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %s tapped: got %v, want %s", url, tapped, err, want)
		}
	}
	p.host.Sh("ip link add br0 type bridge; ip link add a0 type veth peer name b0; ip link set a0 master br0")
	f("iface:up0", "up0", "up0 is tapped")
	f("iface:br0", "a0", "br0 is the switch of the tapped port a0")
	f("iface:a0", "br0", "a0 is a port of br0, which is tapped")
	f("iface:b0", "a0", "b0 is the other end of a0")
	f("iface:none0", "a0", "there are: ")
	p.host.Sh(`ip link add vx7 type vxlan id 7 dstport 4790 remote 10.7.0.9 local 10.7.0.1; ip link add vx8 type vxlan id 8 dstport 4790 dev up0
		ip link add mv0 link up0 type macvlan; ip link add c0 type veth peer name c1; ip link set c1 master br0; ip link set vx7 up; ip link set vx8 up; ip link set mv0 up; ip link set c0 up; ip link set c1 up`)
	f("iface:vx7", "up0", "vx7 is a vxlan tunnel over up0")
	f("iface:vx8", "up0", "vx8 is a vxlan tunnel over up0") // its far ends are in its table
	f("iface:mv0", "up0", "mv0 stands on up0")
	f("iface:c0", "br0", "c0 leads into br0")
	f("iface:c0", "a0", "c0 leads into the switch of the tapped port a0")
	for _, tapped := range []string{"a0", "up0"} {
		_, err := p.try("iface:vx7", func(c *Config) { c.Tapped, c.TappedNetNS, c.IngressOnly = []string{tapped}, p.host.Path(), true })
		if err != nil {
			t.Errorf("%s tapped: %v", tapped, err)
		}
	}
}

// TestRefusesLoops refuses ways on which copies could not be told from what is tapped.
func TestRefusesLoops(t *testing.T) {
	p := newPair(t, 1500)
	p.host.Sh("ip link add vx7 type vxlan id 7 dstport 4789 remote 10.7.0.9 dev up0; ip addr add 10.77.0.1/24 dev vx7; ip link set vx7 up; ip neigh add 10.77.0.9 dev vx7 lladdr 02:00:00:00:00:09")
	f := func(url, tapped, want string) {
		t.Helper()
		_, err := p.try(url, func(c *Config) { c.Tapped, c.TappedNetNS = []string{tapped}, p.host.Path() })
		if want == "" && err == nil {
			return
		}
		if err == nil || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %s tapped: got %v, want %s", url, tapped, err, want)
		}
	}
	f("vxlan://10.77.0.9?vni=1", "up0", "leaves through vx7, a vxlan tunnel over up0, which is tapped")
	p.host.Sh("ip link add vx6 type vxlan id 6 dstport 4790 dev up0; ip addr add 10.66.0.1/24 dev vx6; ip link set vx6 up; ip neigh add 10.66.0.9 dev vx6 lladdr 02:00:00:00:00:09")
	f("vxlan://10.66.0.9?vni=1", "up0", "leaves through vx6, a vxlan tunnel over up0") // whose far ends are in its table
	f("vxlan://10.7.0.9?vni=7", "vx7", "VNI 7 is the segment of vx7")
	f("vxlan://10.7.0.9?vni=8", "vx7", "")
	f("vxlan://10.7.0.9?vni=8", "up0", "") // the kernel keeps these out
	f("gre://10.7.0.9?mtu=refuse", "up0", "raise the MTU of the path to 1542")
}

// TestRate bounds the bits of each second.
func TestRate(t *testing.T) {
	p := newPair(t, 1500)
	p.listen(4789)
	s := p.sink("vxlan://10.7.0.9?vni=1&rate=1M")
	const size = 750 // of all: when little is left, small ones would find room
	var frames []frame.Frame
	for i := range 2000 {
		frames = append(frames, ethernet(i, size, 0))
	}
	began := time.Now()
	st := run(t, s, frames)
	// 65535 bytes may leave at once, and 125 kB in each second after.
	most := 1 + uint64(65535+125_000*time.Since(began).Seconds())/size
	if st.Out < 60 || st.Out > most || st.Out+st.Dropped[DropRate].N != 2000 {
		t.Errorf("%d sent, at most %d may be; %s", st.Out, most, dropped(st))
	}
}

// TestPatientRate sends frames of a file as fast as the rate allows and loses none.
func TestPatientRate(t *testing.T) {
	p := newPair(t, 1500)
	p.listen(4789)
	s := p.sink("vxlan://10.7.0.9?vni=1&rate=40M", func(c *Config) { c.Patient = true })
	if st := run(t, s, mixed(0, 1000, 1400)); st.Out != 1000 {
		t.Errorf("%d sent, %s", st.Out, dropped(st))
	}
}

// TestEntropy spreads conversations over source ports, and keeps both ways of one together.
func TestEntropy(t *testing.T) {
	p := newPair(t, 1500)
	p.listen(4789)
	s := p.sink("vxlan://10.7.0.9?vni=1")
	path := temp(t, "got.pcap")
	stop := dump(t, p.tool, "eth0", path, "udp dst port 4789")
	var frames []frame.Frame
	for n := range 100 {
		there := ethernet(n, 60, 0)
		back := ethernet(n, 60, 0)
		b := back.Data // addresses and ports change places, which no checksum notices
		copy(b[26:30], there.Data[30:34])
		copy(b[30:34], there.Data[26:30])
		copy(b[34:36], there.Data[36:38])
		copy(b[36:38], there.Data[34:36])
		frames = append(frames, there, back)
	}
	run(t, s, frames)
	stop(200)
	ports, of := map[string]int{}, map[string]string{}
	for _, f := range pcapOrder(t, path) {
		port, inner := f[2*34:2*36], f[2*50:]
		id := inner[2*18 : 2*20] // identification: the number of the conversation
		if was, ok := of[id]; ok && was != port {
			t.Errorf("conversation %s leaves from ports %s and %s", id, was, port)
		}
		of[id] = port
		ports[port]++
	}
	if len(ports) < 12 {
		t.Errorf("%d source ports: %v", len(ports), ports)
	}
	for port := range ports {
		if port < "c000" {
			t.Errorf("port 0x%s is not a dynamic one", port)
		}
	}
}

// TestBareIP puts an Ethernet header in front of packets that have none.
func TestBareIP(t *testing.T) {
	p := newPair(t, 1500)
	p.listen(9999)
	s := p.sink("udp://10.7.0.9:9999?ports=1")
	path := temp(t, "got.pcap")
	stop := dump(t, p.tool, "eth0", path, "udp dst port 9999")
	whole := ethernet(1, 80, 0)
	raw := whole
	raw.Data, raw.OrigLen, raw.Link = whole.Data[14:], 66, frame.LinkRaw
	odd := frame.Frame{Data: []byte{1, 2, 3}, OrigLen: 3, Link: frame.LinkSLL}
	st := run(t, s, []frame.Frame{raw, odd})
	stop(1)
	want := "020000000002" + "020000000001" + "0800" + hex.EncodeToString(raw.Data)
	if got := pcapOrder(t, path); len(got) != 1 || got[0][2*42:] != want || dropped(st) != "1 other_link_type" {
		t.Errorf("got %v, %s", got, dropped(st))
	}
}
