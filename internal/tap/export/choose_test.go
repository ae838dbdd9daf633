package export

import (
	"context"
	"net"
	"testing"

	"crosstap/internal/choose"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// A record is filtered as the frames that it stands for.
func TestRecordFilter(t *testing.T) {
	recs, _ := mixed(10, true)
	plain, six, tunnelled := recs[0], recs[3], recs[5]
	gre := tunnelled
	gre.Segment, gre.Tunnel.Type, gre.Tunnel.Proto = flow.NewSegment(flow.KindGRE, 77), 2, 47
	geneve := tunnelled
	geneve.Segment, geneve.Tunnel.Type, geneve.Tunnel.DstPort = flow.NewSegment(flow.KindGeneve, 88), 7, 6081
	tagged := plain
	tagged.VLAN, tagged.Proto, tagged.ICMPTypeCode = 10, 1, 0x0800
	arp := flow.Record{EtherType: 0x0806, SrcMAC: 1, DstMAC: 2}
	f := func(expr string, r flow.Record, want bool) {
		t.Helper()
		m, err := choose.NewFilter(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Passes(&r); got != want {
			t.Errorf("%q passes: %v, want %v: % x", expr, got, want, choose.AppendFrame(nil, &r))
		}
	}
	f("", plain, true)
	f("tcp port 443 and host 10.0.0.1", plain, true)
	f("tcp[tcpflags] & tcp-syn != 0", plain, true)
	f("udp", plain, false)
	f("not port 443", plain, false)
	f("ip6 and tcp src port 1027 and dst host 2001:db8::2", six, true)
	f("ip", six, false)
	f("vxlan 5001", tunnelled, true)
	f("vxlan 5002", tunnelled, false)
	f("inner tcp port 443", tunnelled, true)
	f("inner host 10.0.0.1", tunnelled, true)
	f("host 192.0.2.1 and udp port 4789", tunnelled, true)
	f("gre and inner tcp port 443", gre, true)
	f("geneve 88 and inner tcp port 443", geneve, true)
	f("vlan 10 and icmp", tagged, true)
	f("icmp[icmptype] == icmp-echo", plain, false)
	f("arp", arp, true)
	f("ether src 00:00:00:00:00:01", arp, true)
}

func TestRecordFilterDoesNotAllocate(t *testing.T) {
	recs, _ := mixed(10, true)
	m, err := choose.NewFilter("tcp port 443 and not host 10.9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	if n := testkit.Allocs(100, func() {
		for i := range recs {
			m.Passes(&recs[i])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Of all flows about one in N is chosen, with both its directions and each of its records.
func TestSampler(t *testing.T) {
	s := choose.NewSampler(10)
	recs := records(20000)
	taken := 0
	for i := range recs {
		r := &recs[i]
		back := *r
		back.Src, back.Dst, back.SrcPort, back.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
		got := s.Takes(r)
		if got != s.Takes(&back) || got != s.Takes(r) {
			t.Fatal("the directions of a flow are chosen apart")
		}
		if got {
			taken++
		}
	}
	if taken < 1600 || taken > 2400 {
		t.Errorf("%d of 20000 were taken", taken)
	}
	if m := s.Mark(flow.Record{Sampling: 4}); m.Sampling != 40 || !m.Is(flow.MarkSampled) {
		t.Errorf("%+v", m)
	}
}

// Each collector has its own filter and sampling, and the books say who got what.
func TestSeveralCollectors(t *testing.T) {
	a, b, c := listen(t, "udp4", "127.0.0.1:0"), listen(t, "udp4", "127.0.0.1:0"), listen(t, "udp4", "127.0.0.1:0")
	all, filtered, sampled := a.target(t), b.target(t), c.target(t)
	filtered.Filter, sampled.Sample, sampled.Domain, sampled.RefreshPackets = "udp src portrange 0-99", 4, 9, 2
	l := start(t, t.Context(), config(all, filtered, sampled))
	l.in <- records(1000)
	a.read(t, 1000)
	b.read(t, 100)
	l.end(t)
	books := l.Books()
	if n := books[1].Read(); n.Out != 100 || n.Dropped[DropFiltered].N != 900 {
		t.Errorf("filtered: %+v", n)
	}
	n := books[2].Read()
	if n.Out+n.Dropped[DropSampled].N != 1000 || n.Out < 150 || n.Out > 350 {
		t.Errorf("sampled: %+v", n)
	}
	c.read(t, int(n.Out))
	for _, r := range c.recs {
		if r.Sampling != 4 || r.Domain != 9 {
			t.Fatalf("told with sampling %d, domain %d", r.Sampling, r.Domain)
		}
	}
}

// Two directions that come together are one record on the wire, and two in the books.
func TestBiflow(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0")
	target := c.target(t)
	target.Biflow = true
	l := start(t, t.Context(), config(target))
	var recs []flow.Record
	for _, r := range records(50) {
		r.Client, r.Direction = flow.ClientSrc, 0
		b := r
		b.Src, b.Dst, b.SrcPort, b.DstPort, b.SrcMAC, b.DstMAC = r.Dst, r.Src, r.DstPort, r.SrcPort, r.DstMAC, r.SrcMAC
		b.Client, b.Direction, b.Packets, b.Marks = flow.ClientDst, 1, 9, flow.MarkReverse
		recs = append(recs, r, b)
	}
	recs = append(recs, records(1)[0])
	l.in <- recs
	c.read(t, 101)
	l.end(t)
	if s := l.Books()[0].Read(); s.Out != 101 || c.lost != 0 {
		t.Errorf("%d lost, books %+v", c.lost, s)
	}
	if r := c.recs[1]; !r.Is(flow.MarkReverse) || r.Packets != 9 || r.SrcPort != 53 {
		t.Errorf("reverse half: %+v", r)
	}
}

// About one frame in N is chosen, super-frames count as their segments, and the books balance.
func TestSFlowSampling(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	frames := ethernet(40000, 10)
	for i := range frames {
		frames[i].Data = frames[i].Data[:60]
		if i%10 == 0 {
			frames[i].VNet = frame.VNet{Type: frame.GSOUDPL4, Segment: 100, NeedsCsum: true, CsumStart: 34}
			frames[i].OrigLen = 42 + 1000
		}
	}
	s := sampleAll(t, SFlowConfig{Target: SFlowTarget{Host: "127.0.0.1", Port: uint16(c.LocalAddr().(*net.UDPAddr).Port), Sample: 100}, Capture: true}, frames)
	st := s.Book().Read()
	if st.Out < 550 || st.Out > 1000 { // 76,000 packets, 760 samples
		t.Errorf("%d samples", st.Out)
	}
	if s.points[0].pool != 36000+4000*10 {
		t.Errorf("sample pool %d", s.points[0].pool)
	}
}

func TestProbe(t *testing.T) {
	f := func(url string, ok bool, answer string) {
		t.Helper()
		r, err := Probe(t.Context(), url)
		if err != nil || r.OK != ok || r.Answer != answer || ok != (r.Error == "") {
			t.Errorf("%s: %v %+v", url, err, r)
		}
	}
	udp := listen(t, "udp4", "127.0.0.1:0")
	tcp := listenTCP(t, "127.0.0.1:0", nil)
	silent := "nothing came back: nobody refused it, and over UDP nobody says more"
	at := udp.conn.LocalAddr().String()
	f("ipfix://"+at, true, silent)
	udp.read(t, 1)
	f("ipfix+tcp://"+tcp.l.Addr().String(), true, "connected, and all bytes were acknowledged")
	tcp.wait(1)
	f("netflow9://"+at, true, silent)
	f("netflow5://"+at, true, silent)
	f("sflow://"+at, true, silent)
	udp.conn.Close()
	tcp.close()
	f("netflow9://"+at, false, "refused")
	f("sflow://"+at, false, "refused")
	f("ipfix+tcp://"+tcp.l.Addr().String(), false, "")
	if _, err := Probe(context.Background(), "ipfix://h?colour=red"); err == nil {
		t.Error("a wrong option was taken")
	}
}
