package netflow5

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// boot is 2026-03-01T00:00:00Z.
var boot = time.UnixMilli(1772323200000)

// after returns the time ms milliseconds after boot.
func after(ms int64) time.Time { return boot.Add(time.Duration(ms) * time.Millisecond) }

// tcpFlow is a flow that began and ended so many milliseconds after boot.
func tcpFlow(first, last int64) flow.Record {
	return flow.Record{
		StartNS: after(first).UnixNano() + 999_999, EndNS: after(last).UnixNano() + 1, // cut to the millisecond
		Src: addr("10.0.0.1"), Dst: addr("192.168.2.3"), SrcPort: 40000, DstPort: 443, Proto: 6, TCPFlags: 0x11b, ToS: 0x28,
		InIf: 13, OutIf: 0x060d, Packets: 7, Octets: 3000, L2Octets: 3098,
	}
}

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

// collect returns an emit function and what it was given.
func collect() (func([]byte, int) error, *[][]byte) {
	var got [][]byte
	return func(b []byte, _ int) error { got = append(got, bytes.Clone(b)); return nil }, &got
}

// encode returns the datagrams of records that are all taken, finished ms milliseconds after boot.
func encode(t *testing.T, c EncoderConfig, ms int64, records ...flow.Record) [][]byte {
	t.Helper()
	e := NewEncoder(c)
	emit, got := collect()
	for i := range records {
		if why, err := e.Add(&records[i], after(ms), emit); why != Taken || err != nil {
			t.Fatalf("record %d: %v, %v", i, why, err)
		}
	}
	if err := e.Flush(after(ms), emit); err != nil {
		t.Fatal(err)
	}
	return *got
}

// The bytes by hand, field by field.
func TestEncodeBytes(t *testing.T) {
	r := tcpFlow(1000, 2500)
	ping := flow.Record{
		StartNS: after(10).UnixNano(), EndNS: after(10).UnixNano(), Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"),
		Proto: 1, ICMPTypeCode: 0x0301, SrcPort: 9, DstPort: 9, Packets: 1, Octets: 84,
	}
	want := strings.Join([]string{
		"0005 0002",            // version, count
		"00000fa0",             // uptime 4000
		"69a38184", "00000000", // 2026-03-01T00:00:04Z
		"00000000", "07", "09", "0000", // sequence, engine, no sampling
		"0a000001", "c0a80203", "00000000", "000d", "060d", "00000007", "00000bb8", "000003e8", "000009c4", "9c40", "01bb",
		"00", "1b", "06", "28", "0000", "0000", "00", "00", "0000",
		"0a000001", "0a000002", "00000000", "0000", "0000", "00000001", "00000054", "0000000a", "0000000a", "0000", "0301",
		"00", "00", "01", "00", "0000", "0000", "00", "00", "0000",
	}, "")
	got := encode(t, EncoderConfig{Boot: boot, EngineType: 7, EngineID: 9}, 4000, r, ping)
	if len(got) != 1 {
		t.Fatalf("%d datagrams", len(got))
	}
	if diff := cmp.Diff(strings.ReplaceAll(want, " ", ""), hex.EncodeToString(got[0])); diff != "" {
		t.Error(diff)
	}
}

// 31 records are two datagrams; the sequence counts the records before each.
func TestEncodeThirty(t *testing.T) {
	f := func(maxLen, records int, counts ...int) {
		t.Helper()
		var all []flow.Record
		for i := range records {
			all = append(all, tcpFlow(int64(i), int64(i)))
		}
		got := encode(t, EncoderConfig{Boot: boot, MaxLen: maxLen}, 100, all...)
		if len(got) != len(counts) {
			t.Fatalf("%d datagrams, want %d", len(got), len(counts))
		}
		seq := 0
		for i, b := range got {
			h := Header(b)
			if !h.Valid() || h.Count() != counts[i] || len(b) != 24+48*counts[i] || h.Sequence() != uint32(seq) {
				t.Errorf("datagram %d: count %d, %d bytes, sequence %d", i, h.Count(), len(b), h.Sequence())
			}
			seq += counts[i]
		}
	}
	f(0, 31, 30, 1)
	f(0, 30, 30)
	f(1472, 60, 30, 30)
	f(532, 21, 10, 10, 1) // the path that every IPv4 host takes: 576 less 44
	f(1, 2, 1, 1)
}

// Uptime has 32 bits: it is 0 again after 49.7 days. 4294967296 ms is one turn.
func TestEncodeUptimeWraps(t *testing.T) {
	f := func(first, last, made int64, wantFirst, wantLast, wantUptime uint32) {
		t.Helper()
		b := encode(t, EncoderConfig{Boot: boot}, made, tcpFlow(first, last))[0]
		h, r := Header(b), Record(b[HeaderLen:])
		if r.FirstMS() != wantFirst || r.LastMS() != wantLast || h.UptimeMS() != wantUptime {
			t.Errorf("first %d, last %d, uptime %d", r.FirstMS(), r.LastMS(), h.UptimeMS())
		}
		// What a reader makes of it (RFC-less arithmetic of every collector): the clock less the age.
		clock := int64(h.UnixSecs())*1000 + int64(h.UnixNsecs())/1e6
		start, end := clock-int64(h.UptimeMS()-r.FirstMS()), clock-int64(h.UptimeMS()-r.LastMS())
		if start != after(first).UnixMilli() || end != after(last).UnixMilli() {
			t.Errorf("read back: %d to %d after boot", start-boot.UnixMilli(), end-boot.UnixMilli())
		}
	}
	const turn = 1 << 32
	f(turn-2000, turn-1000, turn-1, 4294965296, 4294966296, 4294967295)
	f(turn-2000, turn-1000, turn+500, 4294965296, 4294966296, 500)
	f(turn-2000, turn+1, turn+500, 4294965296, 1, 500)
	f(turn+7, turn+9, turn+500, 7, 9, 500)
	f(3*turn+123, 3*turn+456, 3*turn+789, 123, 456, 789)
	f(-5, 10, 20, 4294967291, 10, 20) // the clock was set back: older than the uptime
	f(0, 30, 20, 0, 30, 30)           // a packet from after now dates the datagram
}

// A flow beyond what the field can tell begins where the field begins.
func TestEncodeClampsAge(t *testing.T) {
	e := NewEncoder(EncoderConfig{Boot: boot})
	emit, got := collect()
	r := tcpFlow(0, 1<<33)
	e.Add(&r, after(1<<33+5), emit)
	e.Flush(after(1<<33+5), emit)
	h, b := Header((*got)[0]), Record((*got)[0][HeaderLen:])
	if h.UptimeMS()-b.FirstMS() != math.MaxUint32 || h.UptimeMS()-b.LastMS() != 5 || e.Stats().Clamped != 1 {
		t.Errorf("age %d, %d, %+v", h.UptimeMS()-b.FirstMS(), h.UptimeMS()-b.LastMS(), e.Stats())
	}
}

// Without a boot time the packets are the clock: a capture of last year keeps its dates.
func TestEncodeCapture(t *testing.T) {
	a, b := tcpFlow(5000, 9000), tcpFlow(0, 8000) // the second began before the first
	got := encode(t, EncoderConfig{}, 1e9, a, b)[0]
	h := Header(got)
	if h.UnixSecs() != uint32(boot.Unix())+9 || h.UptimeMS() != 24*3600*1000+4000 {
		t.Errorf("clock %d, uptime %d", h.UnixSecs()-uint32(boot.Unix()), h.UptimeMS())
	}
	r := Record(got[HeaderLen+RecordLen:])
	if h.UptimeMS()-r.FirstMS() != 9000 || h.UptimeMS()-r.LastMS() != 1000 {
		t.Errorf("the second began %d ms before the datagram, ended %d", h.UptimeMS()-r.FirstMS(), h.UptimeMS()-r.LastMS())
	}
}

func TestEncodeTimesNotKnown(t *testing.T) {
	f := func(start, end int64, wantFirst, wantLast uint32) {
		t.Helper()
		r := tcpFlow(0, 0)
		r.StartNS, r.EndNS = start, end
		b := Record(encode(t, EncoderConfig{Boot: boot}, 700, r)[0][HeaderLen:])
		if b.FirstMS() != wantFirst || b.LastMS() != wantLast {
			t.Errorf("first %d, last %d", b.FirstMS(), b.LastMS())
		}
	}
	f(0, 0, 700, 700)
	f(after(300).UnixNano(), 0, 300, 300)
	f(0, after(300).UnixNano(), 300, 300)
	f(after(400).UnixNano(), after(300).UnixNano(), 300, 300)
	f(-1, -1, 700, 700)
}

// A counter has 32 bits. What is more becomes several records of one datagram, which add up.
func TestEncodeSplits(t *testing.T) {
	f := func(packets, octets uint64, wantPackets, wantOctets []uint32) {
		t.Helper()
		r := tcpFlow(1, 2)
		r.Packets, r.Octets = packets, octets
		b := encode(t, EncoderConfig{Boot: boot}, 10, r)[0]
		var p, o []uint32
		for at := HeaderLen; at < len(b); at += RecordLen {
			p, o = append(p, Record(b[at:]).Packets()), append(o, Record(b[at:]).Octets())
		}
		if diff := cmp.Diff([][]uint32{wantPackets, wantOctets}, [][]uint32{p, o}); diff != "" {
			t.Error(diff)
		}
	}
	f(4_000_000, 4294967295, []uint32{4_000_000}, []uint32{4294967295})
	f(4_000_001, 4294967296, []uint32{2_000_001, 2_000_000}, []uint32{2147483648, 2147483648})
	f(10, 9_000_000_002, []uint32{4, 3, 3}, []uint32{3_000_000_001, 3_000_000_001, 3_000_000_000})
	f(5_000_000_000, 1, []uint32{2_500_000_000, 2_500_000_000}, []uint32{1, 0})
}

// The parts of a flow stay together; the flow counts once for the sender and as its records for the sequence.
func TestEncodeSplitStaysTogether(t *testing.T) {
	e := NewEncoder(EncoderConfig{Boot: boot})
	var counts [][2]int
	emit := func(b []byte, n int) error { counts = append(counts, [2]int{Header(b).Count(), n}); return nil }
	small, large := tcpFlow(1, 2), tcpFlow(1, 2)
	large.Octets = 3 * math.MaxUint32
	for range 28 {
		e.Add(&small, boot, emit)
	}
	e.Add(&large, boot, emit)
	e.Flush(boot, emit)
	if diff := cmp.Diff([][2]int{{28, 28}, {3, 1}}, counts); diff != "" || e.Sequence() != 31 {
		t.Errorf("%s, sequence %d", diff, e.Sequence())
	}
	monster := small
	monster.Octets = math.MaxUint64
	counts = nil
	e.Add(&monster, boot, emit)
	if diff := cmp.Diff([][2]int{{30, 1}}, counts); diff != "" || e.Stats().Saturated != 1 || e.Stats().Split != 2 {
		t.Errorf("%s, %+v", diff, e.Stats())
	}
	for at := HeaderLen; at < MaxLen; at += RecordLen {
		if Record(e.buf[at:]).Octets() != math.MaxUint32 {
			t.Fatalf("the record at %d is not full", at)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	e := NewEncoder(EncoderConfig{Boot: boot})
	f := func(change func(*flow.Record), want Reason) {
		t.Helper()
		r := tcpFlow(1, 2)
		change(&r)
		if why, err := e.Add(&r, boot, nil); why != want || err != nil {
			t.Errorf("%v, %v", why, err)
		}
	}
	f(func(r *flow.Record) { r.Src, r.Dst = addr("2001:db8::1"), addr("2001:db8::2") }, NotIPv4)
	f(func(r *flow.Record) { r.Dst = addr("2001:db8::2") }, NotIPv4)
	f(func(r *flow.Record) { r.Src, r.Dst = flow.Addr{}, flow.Addr{} }, NotIPv4)
	f(func(r *flow.Record) { r.Sampling = 16384 }, TooSparse)
	f(func(r *flow.Record) { r.Src = addr("0.0.0.0") }, Taken) // DHCP
	if s := e.Stats(); s.Refused != [reasonsCount]uint64{0, 3, 1} || e.Records() != 1 {
		t.Errorf("%+v", s)
	}
}

// Interfaces beyond 16 bits are not known; the tunnel is left out; both are counted.
func TestEncodeOmits(t *testing.T) {
	e := NewEncoder(EncoderConfig{Boot: boot})
	r := tcpFlow(1, 2)
	r.InIf, r.OutIf, r.Segment = 65536, 65535, flow.NewSegment(flow.KindVXLAN, 5001)
	e.Add(&r, boot, nil)
	b := Record(e.buf[HeaderLen:])
	if s := e.Stats(); b.Input() != 0 || b.Output() != 65535 || s.Interfaces != 1 || s.Omitted != 1 {
		t.Errorf("input %d, output %d, %+v", b.Input(), b.Output(), s)
	}
}

// The header tells the sampling of its records: those of another interval go into another datagram.
func TestEncodeSampling(t *testing.T) {
	f := func(mode uint8, want ...uint16) {
		t.Helper()
		var all []flow.Record
		for _, n := range []uint32{0, 1, 100, 100, 16383} {
			r := tcpFlow(1, 2)
			r.Sampling = n
			all = append(all, r)
		}
		var fields []uint16
		for _, b := range encode(t, EncoderConfig{Boot: boot, SamplingMode: mode}, 5, all...) {
			fields = append(fields, uint16(b[22])<<8|uint16(b[23]))
			if h := Header(b); uint16(h.SamplingMode())<<14|h.SamplingInterval() != fields[len(fields)-1] {
				t.Errorf("mode %d, interval %d", h.SamplingMode(), h.SamplingInterval())
			}
		}
		if diff := cmp.Diff(want, fields); diff != "" {
			t.Error(diff)
		}
	}
	f(SamplingNone, 0, 0x4064, 0x7fff)
	f(SamplingDeterministic, 0, 0x4064, 0x7fff)
	f(SamplingRandom, 0, 0x8064, 0xbfff)
	if err := (EncoderConfig{SamplingMode: 3}).Validate(); err == nil {
		t.Error("mode 3 is accepted")
	}
}

// A datagram that did not leave gives its sequence numbers back; one that was lost on the way does not.
func TestEncodeRetract(t *testing.T) {
	e := NewEncoder(EncoderConfig{Boot: boot})
	lost := errors.New("lost")
	r := tcpFlow(1, 2)
	e.Add(&r, boot, nil)
	if err := e.Flush(boot, func([]byte, int) error { return lost }); !errors.Is(err, lost) || e.Sequence() != 1 {
		t.Errorf("%v, sequence %d", err, e.Sequence())
	}
	for range 3 {
		e.Add(&r, boot, nil)
	}
	e.Flush(boot, func([]byte, int) error { return lost })
	e.Add(&r, boot, nil)
	e.Retract(3)
	if e.Sequence() != 1 || e.Records() != 0 {
		t.Errorf("sequence %d, %d records", e.Sequence(), e.Records())
	}
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	e := NewEncoder(EncoderConfig{Boot: boot})
	r, big := tcpFlow(1, 2), tcpFlow(3, 4)
	big.Octets = 10 * math.MaxUint32
	emit := func([]byte, int) error { return nil }
	if n := testkit.Allocs(100, func() {
		for range 40 {
			e.Add(&r, boot, emit)
		}
		e.Add(&big, boot, emit)
		e.Flush(boot, emit)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever a record holds, the datagrams are whole and count what went in.
func FuzzEncode(f *testing.F) {
	f.Add(int64(1), int64(2), uint64(3), uint64(4), uint32(5), uint32(6), int64(7))
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), uint64(math.MaxUint64), uint64(1), uint32(0), uint32(math.MaxUint32), int64(-1))
	f.Fuzz(func(t *testing.T, start, end int64, packets, octets uint64, sampling, port uint32, now int64) {
		for _, c := range []EncoderConfig{{Boot: boot}, {}} {
			e := NewEncoder(c)
			r := tcpFlow(0, 0)
			r.StartNS, r.EndNS, r.Packets, r.Octets, r.Sampling, r.InIf = start, end, packets, octets, sampling, port
			records := 0
			emit := func(b []byte, n int) error {
				h := Header(b)
				if !h.Valid() || h.Count() < 1 || h.Count() > MaxRecords || len(b) != HeaderLen+h.Count()*RecordLen || h.UnixNsecs() >= 1e9 {
					t.Fatalf("%x", b)
				}
				records += n
				return nil
			}
			why, _ := e.Add(&r, time.Unix(0, now), emit)
			e.Flush(time.Unix(0, now), emit)
			if (why == Taken) != (records == 1) || records > 1 {
				t.Fatalf("%v, %d records", why, records)
			}
		}
	})
}
