package meter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// text shows what matters of records, one per line.
func text(records []flow.Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%g-%g %s:%d>%s:%d/%d %d p %d o %d l2 flags %x ttl %d-%d end %d",
			float64(r.StartNS)/1e9, float64(r.EndNS)/1e9, r.Src, r.SrcPort, r.Dst, r.DstPort, r.Proto, r.Packets, r.Octets, r.L2Octets, r.TCPFlags,
			r.MinTTL, r.MaxTTL, r.EndReason)
		if r.Tunnel != (flow.Tunnel{}) {
			fmt.Fprintf(&b, " %v %d %s>%s:%d/%d", r.Segment.Kind(), r.Segment.Number(), r.Tunnel.Src, r.Tunnel.Dst, r.Tunnel.DstPort, r.Tunnel.Proto)
		}
		if r.Marks != 0 {
			fmt.Fprintf(&b, " marks %x", r.Marks)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestTimeouts(t *testing.T) {
	web := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, srcPort: 4000, dstPort: 80, flags: 16, payload: 48}
	f := func(name string, frames []frame.Frame, want string) {
		t.Helper()
		got, _ := run(t, DefaultConfig(), frames)
		if diff := cmp.Diff(strings.TrimLeft(want, "\n"), text(got)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	flags := func(flags uint8) packet { p := web; p.flags = flags; return p }
	ttl := func(ttl uint8) packet { p := web; p.ttl = ttl; return p }

	f("one flow", []frame.Frame{web.at(1), ttl(60).at(2), ttl(70).at(15.9)}, `
1-15.9 10.0.0.1:4000>10.0.0.2:80/6 3 p 300 o 342 l2 flags 10 ttl 60-70 end 4
`)
	f("idle for 15 s", []frame.Frame{web.at(1), web.at(15.999), web.at(30.999)}, `
1-15.999 10.0.0.1:4000>10.0.0.2:80/6 2 p 200 o 228 l2 flags 10 ttl 64-64 end 1
30.999-30.999 10.0.0.1:4000>10.0.0.2:80/6 1 p 100 o 114 l2 flags 10 ttl 64-64 end 4
`)
	f("active for 60 s", []frame.Frame{web.at(1), web.at(13), web.at(25), web.at(37), web.at(49), web.at(60.9), web.at(61)}, `
1-60.9 10.0.0.1:4000>10.0.0.2:80/6 6 p 600 o 684 l2 flags 10 ttl 64-64 end 2
61-61 10.0.0.1:4000>10.0.0.2:80/6 1 p 100 o 114 l2 flags 10 ttl 64-64 end 4
`)
	f("the last acknowledgement joins a closed flow", []frame.Frame{flags(2).at(1), web.at(2), flags(17).at(3), web.at(3.9), web.at(4.125)}, `
1-3.9 10.0.0.1:4000>10.0.0.2:80/6 4 p 400 o 456 l2 flags 13 ttl 64-64 end 3
4.125-4.125 10.0.0.1:4000>10.0.0.2:80/6 1 p 100 o 114 l2 flags 10 ttl 64-64 end 4
`)
	f("a SYN after a reset is a new flow", []frame.Frame{flags(2).at(1), flags(4).at(1.1), flags(2).at(1.2)}, `
1-1.1 10.0.0.1:4000>10.0.0.2:80/6 2 p 200 o 228 l2 flags 6 ttl 64-64 end 3
1.2-1.2 10.0.0.1:4000>10.0.0.2:80/6 1 p 100 o 114 l2 flags 2 ttl 64-64 end 4
`)
	f("time starts again", []frame.Frame{web.at(1000), web.at(939), web.at(940)}, `
1000-1000 10.0.0.1:4000>10.0.0.2:80/6 1 p 100 o 114 l2 flags 10 ttl 64-64 end 4
939-940 10.0.0.1:4000>10.0.0.2:80/6 2 p 200 o 228 l2 flags 10 ttl 64-64 end 4
`)
	f("frames out of order", []frame.Frame{web.at(1000), web.at(950), web.at(1001)}, `
950-1001 10.0.0.1:4000>10.0.0.2:80/6 3 p 300 o 342 l2 flags 10 ttl 64-64 end 4
`)
}

func TestInnerPacket(t *testing.T) {
	p := packet{
		src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 4000, dstPort: 53, payload: 72,
		vni: 5001, vtepSrc: "192.0.2.1", vtepDst: "192.0.2.2",
	}
	other := p
	other.vni = 5002
	got, _ := run(t, DefaultConfig(), []frame.Frame{p.at(1), other.at(2), p.at(3)})
	want := `1-3 10.0.0.1:4000>10.0.0.2:53/17 2 p 200 o 228 l2 flags 0 ttl 64-64 end 4 vxlan 5001 192.0.2.1>192.0.2.2:4789/17
2-2 10.0.0.1:4000>10.0.0.2:53/17 1 p 100 o 114 l2 flags 0 ttl 64-64 end 4 vxlan 5002 192.0.2.1>192.0.2.2:4789/17
`
	if diff := cmp.Diff(want, text(got)); diff != "" {
		t.Error(diff)
	}
}

// TestSuperFrames counts frames that segmentation offload has not cut yet. The figures are computed by hand: a TCP
// header of 32 bytes, 20 or 40 of IP, 14 of Ethernet.
func TestSuperFrames(t *testing.T) {
	tcp4 := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, flags: 24, payload: 10000}
	tcp6 := packet{src: "fd00::1", dst: "fd00::2", proto: 6, flags: 24, payload: 10000}
	udp := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, payload: 3000}
	inside := tcp4
	inside.vni, inside.vtepSrc, inside.vtepDst = 7, "192.0.2.1", "192.0.2.2"
	f := func(name string, p packet, v frame.VNet, packets, octets, l2 uint64) {
		t.Helper()
		fr := p.at(1)
		fr.VNet = v
		got, _ := run(t, DefaultConfig(), []frame.Frame{fr})
		if len(got) != 1 || got[0].Packets != packets || got[0].Octets != octets || got[0].L2Octets != l2 {
			t.Errorf("%s: want %d packets, %d octets, %d layer-2 octets, got %s", name, packets, octets, l2, text(got))
		}
	}
	v := func(kind uint8, segment uint16) frame.VNet { return frame.VNet{Type: kind, Segment: segment} }
	f("not a super-frame", tcp4, frame.VNet{}, 1, 10052, 10066)
	f("TCP over IPv4", tcp4, v(frame.GSOTCPv4, 1448), 7, 10000+7*52, 10000+7*66)
	f("exact multiple", tcp4, v(frame.GSOTCPv4, 2500), 4, 10000+4*52, 10000+4*66)
	f("with ECN", tcp4, v(frame.GSOTCPv4|frame.GSOECN, 1448), 7, 10000+7*52, 10000+7*66)
	f("TCP over IPv6", tcp6, v(frame.GSOTCPv6, 1428), 8, 10000+8*72, 10000+8*86)
	f("UDP datagrams", udp, v(frame.GSOUDPL4, 1000), 3, 3000+3*28, 3000+3*42)
	f("UDP fragments", udp, v(frame.GSOUDP, 1480), 3, 3008+3*20, 3008+3*34)
	f("TCP inside VXLAN", inside, v(frame.GSOTCPv4, 1398), 8, 10000+8*52, 10000+8*66)
	f("tunnel datagrams that a guest cuts itself", inside, v(frame.GSOUDPL4, 1450), 7, 10052+14+8-7*22, 10066+8-7*8)
	f("a kind that nobody knows", tcp4, v(9, 1448), 1, 10052, 10066)
	f("a kind that does not fit", udp, v(frame.GSOTCPv4, 1448), 1, 3028, 3042)
	f("no segment size", tcp4, v(frame.GSOTCPv4, 0), 1, 10052, 10066)
}

func TestFragments(t *testing.T) {
	piece := func(off int, more bool) packet {
		return packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 4000, dstPort: 53, payload: 64, id: 9, fragOff: off, more: more}
	}
	first, middle, last := piece(0, true), piece(72, true), piece(136, false)
	f := func(name string, frames []frame.Frame, orphans uint64, want string) {
		t.Helper()
		got, m := run(t, DefaultConfig(), frames)
		if diff := cmp.Diff(strings.TrimLeft(want, "\n"), text(got)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if n := m.Stats().FragmentOrphans; n != orphans {
			t.Errorf("%s: %d orphans, want %d", name, n, orphans)
		}
	}
	joined := `
1-3 10.0.0.1:4000>10.0.0.2:53/17 3 p 260 o 302 l2 flags 0 ttl 64-64 end 4 marks 20
`
	f("in order", []frame.Frame{first.at(1), middle.at(2), last.at(3)}, 0, joined)
	f("last one first", []frame.Frame{last.at(1), middle.at(1.2), first.at(1.4)}, 0, strings.Replace(joined, "1-3", "1-1.4", 1))
	other := first
	other.src = "10.0.0.9"
	f("no first one", []frame.Frame{middle.at(1), last.at(1.5), other.at(3)}, 2, `
1-1.5 10.0.0.1:0>10.0.0.2:0/17 2 p 168 o 196 l2 flags 0 ttl 64-64 end 4 marks 20
3-3 10.0.0.9:4000>10.0.0.2:53/17 1 p 92 o 106 l2 flags 0 ttl 64-64 end 4 marks 20
`)
	v6 := func(off int, more bool) packet {
		p := piece(off, more)
		p.src, p.dst = "fd00::1", "fd00::2"
		return p
	}
	f("IPv6", []frame.Frame{v6(0, true).at(1), v6(72, false).at(2)}, 0, `
1-2 fd00::1:4000>fd00::2:53/17 2 p 232 o 260 l2 flags 0 ttl 64-64 end 4 marks 20
`)
}

// TestTunnelFragments counts the tenant's packet once when the tunnel's packet around it is fragmented: its own
// length says it all.
func TestTunnelFragments(t *testing.T) {
	p := packet{
		src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 4000, dstPort: 53, payload: 1400,
		vni: 5001, vtepSrc: "192.0.2.1", vtepDst: "192.0.2.2",
	}
	whole := p.at(1)
	udp := whole.Data[34:]
	piece := func(off, n int, more bool) frame.Frame {
		b := appendIP([]byte{2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1}, p.vtepSrc, p.vtepDst, 17, 64, 0, 77, off, more, udp[off:off+n])
		return frame.Frame{Data: b, OrigLen: len(b), TimeNS: second, Link: frame.LinkEthernet, Dir: frame.Unknown}
	}
	got, m := run(t, DefaultConfig(), []frame.Frame{piece(0, 1000, true), piece(1000, len(udp)-1000, false)})
	want := "1-1 10.0.0.1:4000>10.0.0.2:53/17 1 p 1428 o 1442 l2 flags 0 ttl 64-64 end 4 vxlan 5001 192.0.2.1>192.0.2.2:4789/17\n"
	if diff := cmp.Diff(want, text(got)); diff != "" {
		t.Error(diff)
	}
	if d := m.Books()[0].Read().Dropped[DropTunnelFragment]; d.N != 1 {
		t.Errorf("%+v", d)
	}
}

func TestNotMetered(t *testing.T) {
	f := func(name string, link frame.LinkType, data string, cut, want int) {
		t.Helper()
		_, m := run(t, DefaultConfig(), []frame.Frame{{Data: []byte(data), OrigLen: len(data) + cut, Link: link}})
		for i, d := range m.Books()[0].Read().Dropped {
			if (d.N == 1) != (i == want) {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
	macs := "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"
	f("ARP", frame.LinkEthernet, macs+"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"+strings.Repeat("\x00", 20), 0, DropNonIP)
	f("LLDP", frame.LinkEthernet, macs+"\x88\xcc"+strings.Repeat("\x00", 46), 0, DropNonIP)
	f("half an IP header", frame.LinkEthernet, macs+"\x08\x00\x45\x00\x00", 50, DropTruncated)
	f("not IPv4 at all", frame.LinkEthernet, macs+"\x08\x00"+strings.Repeat("\xff", 40), 0, DropMalformed)
	f("a link type without a reader", 195, strings.Repeat("\xff", 40), 0, DropUnsupported)
}

// TestFullCache sends more flows than there is room for.
func TestFullCache(t *testing.T) {
	c := DefaultConfig()
	c.MaxFlows = 100
	var frames []frame.Frame
	keep := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 1, dstPort: 1}
	for i := range 5000 {
		p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: uint16(i), dstPort: 53}
		frames = append(frames, p.at(1+float64(i)/1000), keep.at(1+float64(i)/1000))
	}
	got, m := run(t, c, frames)
	var packets, evicted uint64
	for _, r := range got {
		packets += r.Packets
		if r.EndReason == flow.EndResource {
			evicted++
		}
	}
	if st := m.Stats(); packets != 10000 || evicted != st.Evicted || evicted < 4800 {
		t.Errorf("%d packets in %d records, %d of them ended early, %+v", packets, len(got), evicted, st)
	}
	for _, r := range got {
		if r.DstPort == 1 && r.Packets < 1000 {
			t.Errorf("the busy flow was ended early: %s", text([]flow.Record{r}))
		}
	}
}

// TestLive ends flows by the clock, with no further frame.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := DefaultConfig()
		c.Live = true
		m, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		in, out := make(chan frame.Batch), make(chan []flow.Record, 8)
		done := make(chan error, 1)
		go func() { done <- m.Run(t.Context(), in, out) }()
		p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 1, dstPort: 53}
		send := func() { in <- frame.Batch{Frames: []frame.Frame{p.at(5)}} }
		send()
		time.Sleep(10 * time.Second)
		send()
		time.Sleep(14 * time.Second)
		if len(out) != 0 {
			t.Error("a record before the idle timeout")
		}
		time.Sleep(2 * time.Second)
		if got := <-out; text(got) != "5-5 10.0.0.1:1>10.0.0.2:53/17 2 p 56 o 84 l2 flags 0 ttl 64-64 end 1\n" {
			t.Error(text(got))
		}
		for range 7 {
			send()
			time.Sleep(9 * time.Second)
		}
		if got := <-out; text(got) != "5-5 10.0.0.1:1>10.0.0.2:53/17 7 p 196 o 294 l2 flags 0 ttl 64-64 end 2\n" {
			t.Error(text(got))
		}
		close(in)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestStopped ends Run while nobody takes the records.
func TestStopped(t *testing.T) {
	c := DefaultConfig()
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	in := make(chan frame.Batch, 1)
	in <- frame.Batch{Frames: []frame.Frame{packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17}.at(1)}}
	close(in)
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, in, make(chan []flow.Record)) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAllocations counts what metering allocates once its flows are there.
func TestAllocations(t *testing.T) {
	var frames []frame.Frame
	for i := range 500 {
		p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, srcPort: uint16(i % 50), dstPort: 80, flags: 16}
		if i%2 == 0 {
			p.vni, p.vtepSrc, p.vtepDst = 5001, "192.0.2.1", "192.0.2.2"
		}
		frames = append(frames, p.at(1))
	}
	m, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var used atomic.Int64
	s := &single{shard: m.newShard(0, &used), front: m.newFront()}
	defer s.cache.release()
	s.batch(frames)
	if n := testkit.Allocs(100, func() { s.batch(frames) }); n != 0 {
		t.Errorf("%v allocations for %d frames", n, len(frames))
	}
}

func TestValidate(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		if _, err := New(c); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f(func(c *Config) { c.IdleTimeout = 0 }, "meter: idle timeout 0s: must be 10ms to 24h0m0s")
	f(func(c *Config) { c.ActiveTimeout = 25 * time.Hour }, "meter: active timeout 25h0m0s: must be 10ms to 24h0m0s")
	f(func(c *Config) { c.CloseLinger = -1 }, "meter: close linger -1ns: must be 0s to 24h0m0s")
	f(func(c *Config) { c.MaxFlows = 0 }, "meter: 0 flows at most: must be 1 to 268435456")
	f(func(c *Config) { c.Key = 3 }, "meter: key 3: must be inner, outer or both")
	f(func(c *Config) { c.Workers = 65 }, "meter: 65 workers: must be 0 (one for each processor) to 64")
	f(func(c *Config) { c.Dissector = nil }, "meter: no dissector")
}
