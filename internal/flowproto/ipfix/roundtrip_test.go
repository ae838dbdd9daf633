package ipfix

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
)

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

var exportTime = time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)

// sampleRecords are one record of each shape, with every field that the profiles carry.
func sampleRecords() []flow.Record {
	at := exportTime.Add(-4 * time.Second).UnixNano()
	base := flow.Record{
		StartNS: at, EndNS: at + 1_250_000_000, Domain: 7, Point: 3, InIf: 11, OutIf: 12,
		Direction: 0, EndReason: flow.EndIdle, Client: flow.ClientSrc,
		Proto: 6, ToS: 0x2e, MinTTL: 63, MaxTTL: 64, TCPFlags: 0x1b, FirstTCPFlags: 0x02, SrcPort: 40001, DstPort: 443,
		EtherType: 0x0800, VLAN: 10, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"),
		SrcMAC: 0x020000000001, DstMAC: 0x020000000002,
		Packets: 7, Octets: 5400, L2Octets: 5498, Observer: "h1 mirror",
	}
	v6 := base
	v6.EtherType, v6.Src, v6.Dst, v6.Direction = 0x86dd, addr("fd00::1"), addr("fd00::2"), 1
	ping := base
	ping.Proto, ping.SrcPort, ping.DstPort, ping.TCPFlags, ping.FirstTCPFlags, ping.ICMPTypeCode = 1, 0, 0, 0, 0, 0x0800
	ping6 := v6
	ping6.Proto, ping6.SrcPort, ping6.DstPort, ping6.TCPFlags, ping6.FirstTCPFlags, ping6.ICMPTypeCode = 58, 0, 0, 0, 0, 0x8000
	arp := flow.Record{
		StartNS: at, EndNS: at, Domain: 7, Direction: 255, EtherType: 0x0806, SrcMAC: 0x020000000001,
		DstMAC: 0xffffffffffff, Packets: 1, L2Octets: 42, EndReason: flow.EndForced,
	}
	dns := base
	dns.Proto, dns.DstPort, dns.TCPFlags, dns.FirstTCPFlags = 17, 53, 0, 0
	gre := base
	gre.Proto, gre.SrcPort, gre.DstPort, gre.TCPFlags, gre.FirstTCPFlags, gre.SrcMAC, gre.DstMAC = 47, 0, 0, 0, 0, 0, 0
	sampled := base
	sampled.Sampling, sampled.Marks = 64, flow.MarkSampled
	vx := base
	vx.Segment = flow.NewSegment(flow.KindVXLAN, 5001)
	vx.Tunnel = flow.Tunnel{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), SrcPort: 50123, DstPort: 4789, Proto: 17, Type: 1}
	vx6 := v6
	vx6.Segment, vx6.Tunnel = flow.NewSegment(flow.KindVXLAN, 5002), vx.Tunnel
	vxping := ping
	vxping.Segment, vxping.Tunnel = vx.Segment, vx.Tunnel
	vxarp := arp
	vxarp.Segment, vxarp.Tunnel = vx.Segment, vx.Tunnel
	gen := base
	gen.Segment = flow.NewSegment(flow.KindGeneve, 0xabcdef)
	gen.Tunnel = flow.Tunnel{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), SrcPort: 50123, DstPort: 6081, Proto: 17, Type: 7}
	key := base
	key.Segment = flow.NewSegment(flow.KindGRE, 0xfedcba98)
	key.Tunnel = flow.Tunnel{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), Proto: 47, Type: 2}
	known := base
	known.Segment = flow.NewSegment(flow.KindVLAN, 100)
	told := base
	told.MinLen, told.MaxLen, told.InnerVLAN, told.SrcVIF, told.DstVIF, told.MPLS, told.Fragments = 40, 1500, 33, 5, 0, 0xabcde, 2
	told.RTTUS, told.Retransmits, told.ZeroWindows = 1234, 3, 1
	named := vx
	named.SrcVM, named.DstVM, named.SrcVMID, named.DstVMID = "web1", "", "4c4c4544-0042-3010-8051-c4c04f4d3732", "sixteen bytes id"
	named.AppHow, named.AppName = flow.AppTLS, "www.example"
	all := []flow.Record{base, v6, dns, ping, ping6, arp, gre, sampled, vx, vx6, vxping, vxarp, gen, key, known, told, named}
	for _, a := range []flow.Record{
		{AppHow: flow.AppHTTP, AppName: "www.example"}, {AppHow: flow.AppDNS, AppName: "a.example"}, {AppHow: flow.AppSSH, AppName: "SSH-2.0-x"},
		{AppHow: flow.AppPort}, {AppHow: flow.AppTLS},
	} {
		r := dns
		r.AppHow, r.AppName = a.AppHow, a.AppName
		all = append(all, r)
	}
	return all
}

// underV6 are records whose tunnel runs over IPv6.
func underV6() []flow.Record {
	recs := sampleRecords()
	v4, v6 := recs[0], recs[1]
	t := flow.Tunnel{Src: addr("2001:db8::1"), Dst: addr("2001:db8::2"), SrcPort: 50123, DstPort: 4789, Proto: 17, Type: 1}
	v4.Tunnel, v6.Tunnel = t, t
	v4.Segment, v6.Segment = flow.NewSegment(flow.KindVXLAN, 5001), flow.NewSegment(flow.KindVXLAN, 5001)
	return []flow.Record{v4, v6}
}

// encoded returns the messages of recs, templates first.
func encoded(t testing.TB, c EncoderConfig, recs []flow.Record) (msgs [][]byte) {
	t.Helper()
	e := NewEncoder(c)
	keep := func(m []byte, _ int) error {
		if len(m) > e.MaxLen() {
			t.Errorf("message has %d bytes, at most %d allowed", len(m), e.MaxLen())
		}
		msgs = append(msgs, append([]byte(nil), m...))
		return nil
	}
	for i := range recs {
		if err := e.Add(&recs[i], exportTime, keep); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(exportTime, keep); err != nil {
		t.Fatal(err)
	}
	return msgs
}

func decodeAll(t testing.TB, msgs [][]byte) (recs []flow.Record) {
	t.Helper()
	s := NewSession(Limits{})
	for i, m := range msgs {
		var res Result
		var err error
		recs, res, err = s.Decode(m, 1, recs)
		if err != nil || res.Lost != 0 || res.UnknownFields != 0 {
			t.Fatalf("message %d: %v, %+v", i, err, res)
		}
	}
	for i := range recs {
		recs[i].App = "" // the encoder names applications itself, by how they are known
	}
	return recs
}

func TestRoundTrip(t *testing.T) {
	f := func(c EncoderConfig, recs, want []flow.Record) {
		t.Helper()
		c.Domain = 7
		for i := range want {
			want[i].RecvNS = 1
		}
		if diff := cmp.Diff(want, decodeAll(t, encoded(t, c, recs))); diff != "" {
			t.Errorf("%s, %d bytes (-want +got):\n%s", c.Profile, c.MaxLen, diff)
		}
	}
	for _, n := range []int{512, 1232, 1472, 65535} {
		f(EncoderConfig{Profile: OVS, MaxLen: n}, sampleRecords(), sampleRecords())
		f(EncoderConfig{Profile: VMware, MaxLen: n}, sampleRecords(), sampleRecords())
		f(EncoderConfig{Profile: VMware, MaxLen: n}, underV6(), underV6())
		without := underV6()
		for i := range without {
			without[i].Tunnel.Src, without[i].Tunnel.Dst = flow.Addr{}, flow.Addr{}
		}
		f(EncoderConfig{Profile: OVS, MaxLen: n}, underV6(), without)
	}
}

// A pair of records comes back as it was but for the tunnel's source port, as one data record.
func TestBiflowRoundTrip(t *testing.T) {
	f := func(p Profile, change func(f, b *flow.Record), paired bool) {
		t.Helper()
		for _, r := range append(sampleRecords(), underV6()...) {
			if r.Proto == 1 || r.Proto == 58 || r.Direction > 1 || p == OVS && r.Tunnel.Src != (flow.Addr{}) && !r.Tunnel.Src.Is4() {
				continue
			}
			if r.Client == flow.ClientUnknown {
				r.Client = flow.ClientSrc
			}
			b := r
			b.Src, b.Dst, b.SrcPort, b.DstPort, b.SrcMAC, b.DstMAC = r.Dst, r.Src, r.DstPort, r.SrcPort, r.DstMAC, r.SrcMAC
			b.Tunnel.Src, b.Tunnel.Dst, b.InIf, b.OutIf, b.Direction, b.Client = r.Tunnel.Dst, r.Tunnel.Src, r.OutIf, r.InIf, 1-r.Direction, 3-r.Client
			b.SrcVIF, b.DstVIF, b.SrcVM, b.DstVM, b.SrcVMID, b.DstVMID = r.DstVIF, r.SrcVIF, r.DstVM, r.SrcVM, r.DstVMID, r.SrcVMID
			b.Marks |= flow.MarkReverse
			b.Packets, b.Octets, b.L2Octets, b.StartNS, b.EndNS = 77, 8888, 9999, r.StartNS+1e6, r.EndNS+5e6
			if r.Src != (flow.Addr{}) || r.Dst != (flow.Addr{}) {
				b.ToS, b.MinTTL, b.MaxTTL, b.MinLen, b.MaxLen = 8, 60, 61, 52, 900
			}
			if r.Proto == 6 {
				b.TCPFlags, b.FirstTCPFlags = 0x1a, 0x12
			}
			if r.Fragments != 0 {
				b.Fragments, b.Retransmits, b.ZeroWindows = 9, 8, 7
			}
			change(&r, &b)
			if Paired(&r, &b) != paired {
				t.Fatalf("Paired is %v for\n%+v\n%+v", !paired, r, b)
			}
			if !paired {
				continue
			}
			e := NewEncoder(EncoderConfig{Profile: p, Domain: 7, MaxLen: 1472})
			var msgs [][]byte
			keep := func(m []byte, n int) error {
				msgs = append(msgs, append([]byte(nil), m...))
				return nil
			}
			_ = e.AddPair(&r, &b, exportTime, keep)
			_ = e.Flush(exportTime, keep)
			r.RecvNS, b.RecvNS = 1, 1
			if diff := cmp.Diff([]flow.Record{r, b}, decodeAll(t, msgs)); diff != "" || e.Sequence() != 1 {
				t.Errorf("%s, sequence %d (-want +got):\n%s", p, e.Sequence(), diff)
			}
		}
	}
	for _, p := range []Profile{OVS, VMware} {
		f(p, func(_, _ *flow.Record) {}, true)
		f(p, func(_, b *flow.Record) { b.SrcPort++ }, false)
		f(p, func(_, b *flow.Record) { b.Marks = 0 }, false)
		f(p, func(_, b *flow.Record) { b.InIf = 99 }, false)
		f(p, func(_, b *flow.Record) { b.Segment++ }, false)
	}
}
