package enrich

import (
	"bytes"
	"context"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func enricher(t testing.TB, change func(*Config)) *Enricher {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// twoTenants is an inventory with overlapping addresses.
func twoTenants() identity.Inventory {
	vm := func(name string, mac flow.MAC, seg flow.Segment, host string, addrs ...string) identity.VNIC {
		v := identity.VNIC{VM: name, VMID: "id of " + name, MAC: mac, Segment: seg, Host: host}
		for _, a := range addrs {
			v.Addrs = append(v.Addrs, addr(a))
		}
		return v
	}
	return identity.Inventory{
		VNICs: []identity.VNIC{
			vm("blue-web", 0x0201, vxlan(5001), "h1", "10.0.0.1", "fd00::1"), vm("blue-db", 0x0202, vxlan(5001), "h2", "10.0.0.2"),
			vm("red-web", 0x0301, vxlan(5002), "h1", "10.0.0.1"), vm("red-db", 0x0302, vxlan(5002), "h2", "10.0.0.2"),
			vm("red-only", 0x0303, vxlan(5002), "h2", "10.0.0.3"), vm("red-far", 0x0304, vxlan(5003), "h2", "10.0.9.3"),
			vm("router", 0x0401, vxlan(5001), "h1", "10.0.0.254"), {VM: "free", MAC: 0x0501, Tenant: "green", Host: "h1"},
		},
		Hosts: []identity.Host{
			{Name: "h1", VTEPs: []flow.Addr{addr("10.200.0.1")}}, {Name: "h2", VTEPs: []flow.Addr{addr("10.200.0.2")}},
		},
		Tenants: []identity.Tenant{
			{Name: "blue", Segments: []flow.Segment{vxlan(5001)}}, {Name: "red", Segments: []flow.Segment{vxlan(5002), vxlan(5003)}},
			{Name: "lab", Segments: []flow.Segment{vxlan(5001)}, Fabric: "other"},
		},
		Observers: []identity.Observer{
			{Name: "h1 switch", Role: flow.RolePort, Host: "h1", Exporter: addr("10.201.0.1"), Domain: 1},
			{Name: "red tap", Role: flow.RoleVNIC, Host: "h2", Exporter: addr("10.201.0.1"), Domain: 2, Segment: vxlan(5002)},
			{Name: "other site", Role: flow.RoleMirror, Exporter: addr("10.201.0.1"), Domain: 3, Fabric: "other"},
		},
	}
}

func TestIdentify(t *testing.T) {
	type want struct {
		seg                                    flow.Segment
		tenant, srcVM, dstVM, srcHost, dstHost string
		observer, host                         string
		role                                   flow.Role
		ambiguous                              bool
		fabric                                 string
	}
	f := func(change func(*flow.Record), w want) {
		t.Helper()
		e := enricher(t, nil)
		e.SetInventory(identity.NewBook(twoTenants()))
		r := flow.Record{
			Exporter: addr("192.0.2.9"), Domain: 9, Observer: "eth0", Proto: 17, SrcPort: 5000, DstPort: 53, StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9,
			Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), EtherType: 0x0800,
		}
		change(&r)
		recs := []flow.Record{r}
		e.Records(recs)
		r = recs[0]
		if w.fabric == "" {
			w.fabric = "default"
		}
		if w.observer == "" {
			w.observer = "eth0"
		}
		for _, end := range [][2]string{{r.SrcVM, r.SrcVMID}, {r.DstVM, r.DstVMID}} {
			if id := "id of " + end[0]; end[0] != "" && end[0] != "free" && end[1] != id || end[0] == "" && end[1] != "" {
				t.Errorf("the id of %q is %q", end[0], end[1])
			}
		}
		got := want{r.Segment, r.Tenant, r.SrcVM, r.DstVM, r.SrcHost, r.DstHost, r.Observer, r.ObserverHost, r.Role, r.Is(flow.MarkAmbiguous), r.Fabric}
		if got != w {
			t.Errorf("got  %+v\nwant %+v", got, w)
		}
	}
	blue := want{seg: vxlan(5001), tenant: "blue", srcVM: "blue-web", dstVM: "blue-db", srcHost: "h1", dstHost: "h2"}
	red := want{seg: vxlan(5002), tenant: "red", srcVM: "red-web", dstVM: "red-db", srcHost: "h1", dstHost: "h2"}
	with := func(w want, change func(*want)) want { change(&w); return w }

	f(func(r *flow.Record) { r.Segment = vxlan(5001) }, blue)
	f(func(r *flow.Record) { r.Segment = vxlan(5002) }, red)
	f(func(r *flow.Record) { r.SrcMAC, r.DstMAC = 0x0301, 0x0302 }, red)
	f(func(r *flow.Record) { r.SrcMAC, r.DstMAC = 0x0999, 0x0302 }, red) // one known end is enough
	f(func(r *flow.Record) {}, want{ambiguous: true})                    // overlapping addresses and nothing else
	f(func(r *flow.Record) { r.SrcMAC, r.DstMAC = 0x0201, 0x0302 }, want{ambiguous: true, srcVM: "blue-web", srcHost: "h1", dstVM: "red-db", dstHost: "h2"})
	f(func(r *flow.Record) { r.Src, r.Dst = addr("10.0.0.3"), addr("8.8.8.8") }, want{seg: vxlan(5002), tenant: "red", srcVM: "red-only", srcHost: "h2"})
	f(func(r *flow.Record) { r.Exporter, r.Domain = addr("10.201.0.1"), 2 },
		with(red, func(w *want) { w.observer, w.host, w.role = "red tap", "h2", flow.RoleVNIC }))
	f(func(r *flow.Record) { r.Exporter, r.Domain, r.Role = addr("10.201.0.1"), 2, flow.RolePort }, // as a named point looks
		with(red, func(w *want) { w.observer, w.host, w.role = "red tap", "h2", flow.RoleVNIC }))
	f(func(r *flow.Record) { r.Exporter, r.Domain, r.Segment = addr("10.201.0.1"), 1, vxlan(5001) },
		with(blue, func(w *want) { w.observer, w.host, w.role = "h1 switch", "h1", flow.RolePort }))
	tunnel := flow.Tunnel{Src: addr("10.200.0.2"), Dst: addr("10.200.0.1"), Type: 1}
	f(func(r *flow.Record) {
		r.Exporter, r.Domain, r.Segment, r.Tunnel = addr("10.201.0.1"), 1, vxlan(5001), tunnel
	},
		with(blue, func(w *want) { w.observer, w.host, w.role = "h1 switch tunnel", "h1", flow.RoleTunnel }))
	f(func(r *flow.Record) { r.Segment, r.Tunnel = vxlan(7), tunnel }, // nobody known but the tunnel's ends
		want{seg: vxlan(7), srcHost: "h2", dstHost: "h1", observer: "eth0 tunnel", host: "h1", role: flow.RoleTunnel})
	f(func(r *flow.Record) { r.Observer, r.Direction, r.Segment, r.Tunnel = "", 1, vxlan(7), tunnel },
		want{seg: vxlan(7), srcHost: "h2", dstHost: "h1", observer: "192.0.2.9/9 tunnel", host: "h2", role: flow.RoleTunnel})
	f(func(r *flow.Record) { r.VLAN = 100 }, want{seg: flow.NewSegment(flow.KindVLAN, 100)})
	f(func(r *flow.Record) { r.Segment, r.SrcMAC, r.Src = vxlan(5001), 0x0401, addr("8.8.8.8") }, // through a router: not its traffic
		want{seg: vxlan(5001), tenant: "blue", dstVM: "blue-db", dstHost: "h2"})
	f(func(r *flow.Record) { r.Segment, r.SrcMAC, r.Src = vxlan(5002), 0x0999, addr("10.0.9.3") }, // routed inside the tenant
		with(red, func(w *want) { w.srcVM, w.srcHost = "red-far", "h2" }))
	f(func(r *flow.Record) { r.Segment, r.Src = vxlan(5001), addr("10.0.9.3") }, // another tenant's machine is not named
		with(blue, func(w *want) { w.srcVM, w.srcHost = "", "" }))
	f(func(r *flow.Record) {
		r.SrcMAC, r.Src, r.Dst = 0x0201, addr("fe80::1"), addr("ff02::1")
		r.DstMAC = 0x333300000001
	},
		want{seg: vxlan(5001), tenant: "blue", srcVM: "blue-web", srcHost: "h1"})
	f(func(r *flow.Record) { r.SrcMAC, r.Src, r.Dst, r.EtherType = 0x0201, flow.Addr{}, flow.Addr{}, 0x0806 }, // ARP
		want{seg: vxlan(5001), tenant: "blue", srcVM: "blue-web", srcHost: "h1"})
	f(func(r *flow.Record) { r.SrcMAC, r.Src, r.Dst = 0x0501, addr("10.7.0.1"), addr("10.7.0.2") },
		want{tenant: "green", srcVM: "free", srcHost: "h1"})
	f(func(r *flow.Record) { r.Exporter, r.Domain, r.Segment = addr("10.201.0.1"), 3, vxlan(5001) },
		with(blue, func(w *want) { w.tenant, w.fabric, w.observer, w.role = "lab", "other", "other site", flow.RoleMirror }))
}

func TestClientAndApp(t *testing.T) {
	e := enricher(t, nil)
	n := uint16(0)
	// f enriches both directions of a new conversation, one after the other.
	f := func(proto uint8, sport, dport uint16, change func(fwd, rev *flow.Record), client flow.Client, guess bool, app string) {
		t.Helper()
		n++
		fwd := flow.Record{
			Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Segment: flow.Segment(n), Proto: proto, SrcPort: sport, DstPort: dport,
			StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9, Packets: 5, TCPFlags: 0x1b,
		}
		rev := fwd
		rev.Src, rev.Dst, rev.SrcPort, rev.DstPort = fwd.Dst, fwd.Src, fwd.DstPort, fwd.SrcPort
		change(&fwd, &rev)
		opposite := map[flow.Client]flow.Client{flow.ClientSrc: flow.ClientDst, flow.ClientDst: flow.ClientSrc}[client]
		for _, together := range []bool{false, true} {
			fwd.Fabric, rev.Fabric = "", ""
			fwd.Segment += 1000
			rev.Segment += 1000
			recs := []flow.Record{fwd, rev, fwd}
			if together {
				e.Records(recs)
			} else {
				for i := range recs {
					e.Records(recs[i : i+1])
				}
			}
			for i, want := range []flow.Client{client, opposite, client} {
				r := &recs[i]
				if r.Client != want || r.Is(flow.MarkGuess) != guess || r.App != app || (app != "") != (r.AppHow != flow.AppUnknown) {
					t.Errorf("proto %d %d to %d, row %d, together %v: client %d, guess %v, app %q, want %d, %v, %q",
						proto, sport, dport, i, together, r.Client, r.Is(flow.MarkGuess), r.App, want, guess, app)
				}
			}
		}
	}
	same := func(_, _ *flow.Record) {}
	f(6, 40000, 443, same, flow.ClientSrc, true, "https")
	f(6, 443, 40000, same, flow.ClientDst, true, "https")
	f(6, 40000, 443, func(fwd, _ *flow.Record) { fwd.TCPFlags, fwd.Packets = 0x02, 3 }, flow.ClientSrc, false, "https")
	f(6, 20, 50000, func(fwd, _ *flow.Record) { fwd.TCPFlags, fwd.Packets = 0x02, 1 }, flow.ClientSrc, false, "") // active FTP: the server opens
	f(6, 443, 40000, func(fwd, _ *flow.Record) { fwd.TCPFlags, fwd.Packets = 0x12, 1 }, flow.ClientDst, false, "https")
	f(6, 40000, 443, func(fwd, _ *flow.Record) { fwd.FirstTCPFlags = 0x02 }, flow.ClientSrc, false, "https")
	f(6, 443, 40000, func(fwd, _ *flow.Record) { fwd.FirstTCPFlags = 0x12 }, flow.ClientDst, false, "https")
	f(6, 40000, 5201, func(fwd, rev *flow.Record) { fwd.FirstTCPFlags, rev.FirstTCPFlags = 0xc2, 0x52 }, flow.ClientSrc, false, "iperf3") // with ECN, RFC 3168
	f(6, 40000, 443, func(fwd, rev *flow.Record) { fwd.FirstTCPFlags, rev.FirstTCPFlags = 0x10, 0x18 }, flow.ClientSrc, true, "https")
	f(6, 40000, 443, func(fwd, _ *flow.Record) { fwd.Client = flow.ClientDst }, flow.ClientDst, false, "")
	f(17, 40000, 53, same, flow.ClientSrc, true, "dns")
	f(17, 123, 123, same, flow.ClientUnknown, false, "ntp")
	f(17, 700, 40000, same, flow.ClientDst, true, "")
	f(17, 40000, 40001, same, flow.ClientDst, true, "")
	f(1, 0, 0, func(fwd, rev *flow.Record) { fwd.ICMPTypeCode, rev.ICMPTypeCode = 8<<8, 0 }, flow.ClientSrc, false, "icmp")
	f(1, 0, 2048, func(fwd, rev *flow.Record) { fwd.ICMPTypeCode, rev.ICMPTypeCode = 0, 8<<8 }, flow.ClientDst, false, "icmp")
	f(58, 0, 0, func(fwd, rev *flow.Record) { fwd.ICMPTypeCode, rev.ICMPTypeCode = 128<<8, 129<<8 }, flow.ClientSrc, false, "icmpv6")
	f(132, 40000, 3868, same, flow.ClientSrc, true, "diameter")
	f(6, 40000, 3868, same, flow.ClientSrc, true, "diameter")
	f(6, 40000, 53, same, flow.ClientSrc, true, "dns")
	f(47, 0, 0, same, flow.ClientUnknown, false, "gre")
}

// Two high ports: whose direction began first opened it, when one clock saw both.
func TestClientByStart(t *testing.T) {
	e := enricher(t, nil)
	fwd := flow.Record{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: 17, SrcPort: 40000, DstPort: 50000, StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9}
	rev := fwd
	rev.Src, rev.Dst, rev.SrcPort, rev.DstPort, rev.StartNS = fwd.Dst, fwd.Src, 50000, 40000, 1e9+1e6
	recs := []flow.Record{rev, fwd}
	e.Records(recs)
	if recs[0].Client != flow.ClientDst || recs[1].Client != flow.ClientSrc || !recs[0].Is(flow.MarkGuess) {
		t.Errorf("clients %d, %d", recs[0].Client, recs[1].Client)
	}
}

func TestTimes(t *testing.T) {
	e := enricher(t, nil)
	day := int64(24 * time.Hour)
	f := func(start, end, recv, wantStart, wantEnd int64) {
		t.Helper()
		r := flow.Record{StartNS: start, EndNS: end, RecvNS: recv}
		e.times(&r)
		if r.StartNS != wantStart || r.EndNS != wantEnd {
			t.Errorf("%d to %d at %d: %d to %d, want %d to %d", start, end, recv, r.StartNS, r.EndNS, wantStart, wantEnd)
		}
	}
	now := 20000 * day
	f(now-5, now, now+1, now-5, now)
	f(0, now, now, now, now)
	f(now, 0, now, now, now)
	f(now, now-1, now, now-1, now-1)
	f(0, 0, now, now, now)                                  // 1970
	f(now+day, now+day, now, now, now)                      // tomorrow
	f(now-8*day, now-8*day+7, now, now-7, now)              // last week
	f(now-9*day, now+2*day, now, now-int64(time.Hour), now) // absurd
	f(1<<62, -1<<62, now, now, now)
	if n := e.Stats().Times; n != 5 {
		t.Errorf("%d repaired", n)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	e := enricher(t, nil)
	e.SetInventory(identity.NewBook(twoTenants()))
	recs := make([]flow.Record, 256)
	fill := func() {
		for i := range recs {
			recs[i] = flow.Record{
				Exporter: addr10, Domain: 1, Observer: "vnet0", Src: addr10, Dst: addr11, SrcMAC: 0x0201, DstMAC: 0x0202, Proto: 6, SrcPort: uint16(i), DstPort: 80,
				StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9, Packets: 1, Tunnel: flow.Tunnel{Src: addr10, Dst: addr11, Type: 1},
			}
		}
	}
	fill()
	e.Records(recs)
	if n := testkit.Allocs(50, func() { fill(); e.Records(recs) }); n != 0 {
		t.Errorf("%v allocations for a batch of known flows", n)
	}
}

var addr10, addr11 = addr("10.0.0.1"), addr("10.0.0.2")

func TestRunEndsWithItsInput(t *testing.T) {
	e := enricher(t, nil)
	in, out := make(chan []flow.Record, 1), make(chan []flow.Record, 1)
	in <- []flow.Record{rec(vxlan(1), 1, 2)}
	close(in)
	if err := e.Run(context.Background(), in, out); err != nil {
		t.Fatal(err)
	}
	if got := <-out; len(got) != 1 || !got[0].Is(flow.MarkCanonical) {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Run(ctx, make(chan []flow.Record), out); err != nil {
		t.Fatal(err)
	}
}

func TestValidate(t *testing.T) {
	f := func(change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
	f(func(c *Config) { c.MaxFlows = 15 })
	f(func(c *Config) { c.Linger = 0 })
	f(func(c *Config) { c.MaxAge = 0 })
}

// What nobody reports any more is forgotten, without counting as evicted.
func TestLinger(t *testing.T) {
	e := enricher(t, nil)
	for i := range 1000 {
		r := rec(vxlan(1), 1, 2)
		r.SrcPort = uint16(i)
		r.RecvNS = int64(i) * int64(time.Minute)
		r.StartNS, r.EndNS = r.RecvNS, r.RecvNS
		e.Records([]flow.Record{r})
	}
	if s := e.Stats(); s.Flows > 20 || s.Conversations > 20 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
	e.flows.check(t)
}

func BenchmarkRecords(b *testing.B) {
	e := enricher(b, nil)
	e.SetInventory(identity.NewBook(twoTenants()))
	recs := make([]flow.Record, 512)
	n, before := uint32(0), cpuTime(b)
	for b.Loop() {
		for i := range recs {
			n++
			recs[i] = flow.Record{
				Exporter: addr10, Domain: n % 3, Observer: "vnet0", Src: addr10, Dst: addr11, SrcMAC: 0x0201, DstMAC: 0x0202, Proto: 6,
				SrcPort: uint16(n / 4), DstPort: 80, StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9, Packets: 1,
			}
		}
		e.Records(recs)
	}
	b.ReportMetric(float64(n)/(cpuTime(b)-before).Seconds(), "records/cpu-s")
}

// cpuTime is the processor time of the whole process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkNewFlows: every record is of a flow that was never seen, in a table that is full.
func BenchmarkNewFlows(b *testing.B) {
	e := enricher(b, nil)
	e.SetInventory(identity.NewBook(twoTenants()))
	recs := make([]flow.Record, 512)
	n := uint32(0)
	batch := func() {
		for i := range recs {
			n++
			k := n * 2654435761 // all numbers, in no order
			recs[i] = flow.Record{
				Exporter: addr10, Domain: n % 3, Observer: "vnet0", Src: flow.V4([]byte{10, 0, byte(k >> 8), byte(k)}), Dst: addr11, SrcMAC: 0x0201, DstMAC: 0x0202, Proto: 6,
				SrcPort: uint16(k >> 16), DstPort: 80, StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9, Packets: 1,
			}
		}
		e.Records(recs)
	}
	for e.Stats().Evicted == 0 {
		batch()
	}
	n0, before := n, cpuTime(b)
	for b.Loop() {
		batch()
	}
	b.ReportMetric(float64(n-n0)/(cpuTime(b)-before).Seconds(), "records/cpu-s")
}

// Whatever records say, the table stays whole and bounded, no flow has two canonical observers at one time, and
// nothing panics.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("crosstap"), uint8(3))
	f.Add(bytes.Repeat([]byte{0, 1, 255, 7, 9}, 100), uint8(40))
	f.Fuzz(func(t *testing.T, b []byte, batch uint8) {
		e := enricher(t, func(c *Config) { c.MaxFlows = 32 })
		e.SetInventory(identity.NewBook(twoTenants()))
		var recs []flow.Record
		next := func() byte {
			if len(b) == 0 {
				return 0
			}
			c := b[0]
			b = b[1:]
			return c
		}
		for len(b) > 0 {
			r := rec(vxlan(5000+uint32(next()&3)), flow.MAC(next()&3)+0x0200, flow.MAC(next()&3)+0x0300)
			bits := next()
			if bits&1 != 0 {
				r.Segment = 0
			}
			if bits&2 != 0 {
				r.SrcMAC, r.DstMAC = 0, 0
			}
			if bits&4 != 0 {
				r.Src, r.Dst = r.Dst, r.Src
			}
			r.Proto, r.SrcPort, r.TCPFlags, r.Domain, r.Direction = next(), uint16(next()&3), uint16(next()), uint32(next()&3), next()
			r.StartNS, r.EndNS = int64(int8(next()))<<(next()&63), int64(int8(next()))<<(next()&63)
			r.RecvNS = 1e18 + int64(next())*1e9
			recs = append(recs, r)
		}
		for rest := recs; len(rest) > 0; {
			n := min(len(rest), int(batch)+1)
			e.Records(rest[:n])
			rest = rest[n:]
			e.flows.check(t)
		}
		for i := range recs {
			if recs[i].FlowID == 0 || recs[i].ObserverID == 0 || recs[i].StartNS > recs[i].EndNS || recs[i].Fabric == "" {
				t.Fatalf("%+v", recs[i])
			}
		}
		if err := e.Book().Balance(); err != nil {
			t.Fatal(err)
		}
	})
}
