package netflow9

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/testkit"
)

// v9Records are flows of every shape that the format can tell whole.
func v9Records(at time.Time) []flow.Record {
	base := flow.Record{
		StartNS: at.Add(-1250 * time.Millisecond).UnixNano(), EndNS: at.UnixNano(), Domain: 7, InIf: 3, OutIf: 4, Direction: 1,
		EndReason: flow.EndIdle, EtherType: 0x0800, VLAN: 10, SrcMAC: 0x020000000001, DstMAC: 0x020000000002, Proto: 6, ToS: 8,
		MinLen: 40, MaxLen: 1500, MinTTL: 63, MaxTTL: 64, Src: flow.V4([]byte{10, 0, 0, 1}), Dst: flow.V4([]byte{10, 0, 0, 2}),
		SrcPort: 40000, DstPort: 443, TCPFlags: 0x1b, Packets: 1 << 33, Octets: 1 << 40, L2Octets: 1<<40 + 14,
	}
	v6 := base
	v6.EtherType, v6.Src, v6.Dst = 0x86dd, flow.Addr{0x20, 1, 15: 1}, flow.Addr{0x20, 1, 15: 2}
	ping := base
	ping.Proto, ping.SrcPort, ping.DstPort, ping.TCPFlags, ping.ICMPTypeCode = 1, 0, 0, 0, 0x0800
	udp := base
	udp.Proto, udp.TCPFlags, udp.Segment, udp.InnerVLAN, udp.MPLS = 17, 0, flow.NewSegment(flow.KindVXLAN, 5001), 20, 0xabcde
	sampled := base
	sampled.Sampling, sampled.Marks, sampled.AppHow = 64, flow.MarkSampled, flow.AppTLS
	arp := base
	arp.Proto, arp.ToS, arp.MinLen, arp.MaxLen, arp.MinTTL, arp.MaxTTL, arp.SrcPort, arp.DstPort, arp.TCPFlags = 0, 0, 0, 0, 0, 0, 0, 0, 0
	arp.Src, arp.Dst, arp.EtherType, arp.Octets = flow.Addr{}, flow.Addr{}, 0x0806, 0
	return []flow.Record{base, v6, ping, udp, sampled, arp}
}

// roundTrip encodes and decodes.
func roundTrip(t *testing.T, recs []flow.Record, now time.Time, maxLen int) (out []flow.Record, datagrams int) {
	t.Helper()
	e, s := NewEncoder(7, maxLen), NewSession(decode.Limits{})
	emit := func(msg []byte, _ int) error {
		datagrams++
		if len(msg) > maxLen || len(msg)%4 != 0 {
			t.Errorf("datagram of %d bytes, at most %d allowed", len(msg), maxLen)
		}
		var res decode.Result
		var err error
		if out, res, err = s.Decode(msg, 0, out); err != nil || res.Lost != 0 || res.MissingSets != 0 {
			t.Errorf("%v %+v", err, res)
		}
		return nil
	}
	for i := range recs {
		if err := e.Add(&recs[i], now, emit); err != nil {
			t.Fatal(err)
		}
	}
	_ = e.Flush(now, emit)
	return out, datagrams
}

func TestEncodeRoundTrip(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 5, 123456789, time.UTC)
	for _, n := range []int{512, 1472, 65507} {
		want := v9Records(now.Add(-time.Second).Truncate(time.Millisecond))
		got, _ := roundTrip(t, want, now, n)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", n, diff)
		}
	}
}

// The uptime has 32 bits of milliseconds: 49.7 days. On either side of that, and of the moments at which its zero moves on, every time is
// told to the millisecond, by one encoder that runs all the while.
func TestUptimeNeverWraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := NewEncoder(7, 1472), NewSession(decode.Limits{})
		var got []flow.Record
		emit := func(msg []byte, _ int) error {
			var res decode.Result
			var err error
			if got, res, err = s.Decode(msg, 0, got); err != nil || res.Lost != 0 {
				t.Errorf("%v %+v", err, res)
			}
			return nil
		}
		check := func(after time.Duration, lasts time.Duration) {
			t.Helper()
			time.Sleep(after)
			now := time.Now()
			recs := v9Records(now.Truncate(time.Millisecond))
			recs[1].StartNS = recs[1].EndNS - lasts.Nanoseconds()
			got = got[:0]
			for i := range recs {
				_ = e.Add(&recs[i], now, emit)
			}
			_ = e.Flush(now, emit)
			if diff := cmp.Diff(recs, got); diff != "" {
				t.Errorf("at %v (-want +got):\n%s", now, diff)
			}
		}
		const wrap = (1 << 32) * time.Millisecond
		check(time.Millisecond, time.Second)
		check(wrap/2-24*time.Hour-3*time.Second, time.Hour)
		for range 20 {
			check(500*time.Millisecond, time.Hour)
		}
		check(wrap/4, 300*time.Second)
		check(wrap/4, 20*24*time.Hour)
		for range 100 {
			check(17*time.Hour+123*time.Millisecond, 31*time.Minute)
		}
	})
}

// A capture is told with its own clock, however old, also when its flows are far apart.
func TestOldCapture(t *testing.T) {
	old := time.Date(2014, 7, 1, 8, 0, 0, 7e6, time.UTC)
	want := append(v9Records(old), v9Records(old.Add(200*24*time.Hour))...)
	got, datagrams := roundTrip(t, want, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 1472)
	if diff := cmp.Diff(want, got); diff != "" || datagrams < 2 {
		t.Errorf("%d datagrams (-want +got):\n%s", datagrams, diff)
	}
}

// The layout by hand: RFC 3954, sections 5.1 to 5.3.
func TestLayout(t *testing.T) {
	e := NewEncoder(0x01020304, 1472)
	now := time.Unix(1_700_000_000, 0)
	r := v9Records(now)[0]
	var msg []byte
	emit := func(b []byte, n int) error { msg = append([]byte(nil), b...); return nil }
	_ = e.Add(&r, now, emit)
	_ = e.Flush(now, emit)
	u16, u32 := binary.BigEndian.Uint16, binary.BigEndian.Uint32
	if u16(msg) != 9 || u16(msg[2:]) != 2 || u32(msg[8:]) != 1_700_000_000 || u32(msg[12:]) != 0 || u32(msg[16:]) != 0x01020304 {
		t.Errorf("header % x", msg[:20])
	}
	if u16(msg[20:]) != 0 || u16(msg[24:]) < 256 {
		t.Errorf("template % x", msg[20:30])
	}
	set := 20 + int(u16(msg[22:]))
	if u16(msg[set:]) != u16(msg[24:]) || set+int(u16(msg[set+2:])) != len(msg) {
		t.Errorf("data % x", msg[set:])
	}
	up := u32(msg[4:])
	if first, last := u32(msg[set+4:]), u32(msg[set+8:]); last != up || up-first != 1250 {
		t.Errorf("uptime %d, from %d to %d", up, first, last)
	}
	_ = e.Add(&r, now, emit)
	_ = e.Flush(now, emit)
	if u32(msg[12:]) != 1 || u16(msg[20:]) < 256 {
		t.Errorf("second datagram: sequence %d, set %d", u32(msg[12:]), u16(msg[20:]))
	}
}

func TestAbout(t *testing.T) {
	e, s := NewEncoder(7, 512), NewSession(decode.Limits{})
	options := 0
	emit := func(msg []byte, _ int) error {
		_, res, err := s.Decode(msg, 0, nil)
		if err != nil || res.MissingSets != 0 || res.Lost != 0 || len(msg) > 512 {
			t.Errorf("%v %+v %d bytes", err, res, len(msg))
		}
		options += res.OptionRecords
		return nil
	}
	x := about.Exporter{Flows: 10, Interfaces: []about.Interface{{Index: 3, Name: "vnet3"}}, VRFs: []about.VRF{{ID: 10, Name: "blue"}}}
	if err := e.About(&x, time.Now(), emit); err != nil || options != 1+1+2+5+1 {
		t.Errorf("%v, %d option records", err, options)
	}
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	now := time.Now()
	e, recs := NewEncoder(7, 1472), v9Records(now)
	emit := func([]byte, int) error { return nil }
	run := func() {
		for i := range recs {
			_ = e.Add(&recs[i], now, emit)
		}
	}
	for range 10 {
		run()
	}
	if n := testkit.Allocs(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	now := time.Now()
	e, recs := NewEncoder(7, 1472), v9Records(now)
	emit := func([]byte, int) error { return nil }
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_ = e.Add(&recs[i%len(recs)], now, emit)
	}
}
