package netflow5

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/testkit"
)

// exported is the clock in the headers made here.
var exported = time.Date(2026, 11, 21, 12, 0, 0, 250_000_000, time.UTC)

// header makes a header of version 1, 5, 6 or 7.
func header(version, count uint16, uptimeMS, sequence uint32) []byte {
	h := make(Header, HeaderLen)
	h.SetUptimeMS(uptimeMS)
	h.SetUnix(uint32(exported.Unix()), uint32(exported.Nanosecond()))
	h.SetSequence(sequence)
	h[0], h[1], h[2], h[3] = byte(version>>8), byte(version), byte(count>>8), byte(count)
	if version == 1 {
		return h[:16]
	}
	return h
}

// row is a record of 48 or 52 bytes: 192.0.2.1:5000 to 198.51.100.2:443, TCP, 3 packets with 1500 bytes.
func row(version uint16, firstMS, lastMS uint32) []byte {
	b := []byte{192, 0, 2, 1, 198, 51, 100, 2, 10, 0, 0, 9, 0, 3, 0, 4, 0, 0, 0, 3, 0, 0, 5, 220}
	for _, v := range []uint32{firstMS, lastMS} {
		b = append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	b = append(b, 0x13, 0x88, 1, 0xbb)
	if version == 1 {
		return append(append(b, 0, 0, 6, 0x28, 0x1b), make([]byte, 11)...)
	}
	b = append(b, 0, 0x1b, 6, 0x28, 0xfd, 0xe8, 0xfd, 0xe9, 24, 16, 0, 0)
	if version == 5 {
		return b
	}
	return append(b, 0, 0, 0, 0)
}

func want(change func(*flow.Record)) flow.Record {
	at := exported.UnixNano()
	r := flow.Record{
		StartNS: at - 10e9, EndNS: at - 4e9, RecvNS: 1, Direction: 255, InIf: 3, OutIf: 4, Proto: 6, ToS: 0x28, TCPFlags: 0x1b, SrcPort: 5000, DstPort: 443,
		Src: flow.V4([]byte{192, 0, 2, 1}), Dst: flow.V4([]byte{198, 51, 100, 2}), Packets: 3, Octets: 1500,
	}
	change(&r)
	return r
}

func TestVersions(t *testing.T) {
	f := func(version uint16, change func(b []byte), wanted func(*flow.Record)) {
		t.Helper()
		b := append(header(version, 1, 60_000, 7), row(version, 50_000, 56_000)...)
		change(b)
		got, res, err := NewSession(decode.Limits{}).Decode(b, 1, nil)
		if err != nil || res.Records != 1 || res.Protocol.String() != "netflow"+string(rune('0'+version)) {
			t.Errorf("version %d: %+v, %v", version, res, err)
		}
		if d := cmp.Diff([]flow.Record{want(wanted)}, got); d != "" {
			t.Errorf("version %d (-want +got):\n%s", version, d)
		}
	}
	same, plain := func([]byte) {}, func(*flow.Record) {}
	f(1, same, plain)
	f(5, same, plain)
	f(6, same, plain)
	f(7, same, plain)
	f(5, func(b []byte) { Header(b).SetEngine(2, 9) }, func(r *flow.Record) { r.Domain = 0x209 })
	f(5, func(b []byte) { Header(b).SetSampling(SamplingRandom, 1000) }, func(r *flow.Record) { r.Sampling, r.Marks = 1000, flow.MarkSampled })
	f(5, func(b []byte) {
		b[HeaderLen+38], b[HeaderLen+32], b[HeaderLen+33], b[HeaderLen+34], b[HeaderLen+35] = 1, 0, 0, 8, 3
	}, func(r *flow.Record) {
		r.Proto, r.SrcPort, r.DstPort, r.ICMPTypeCode = 1, 0, 0, 0x0803
	})
}

// Uptimes wrap after 49.7 days: between the flow and the datagram, and within a flow that is older than half of that.
func TestUptimeWraps(t *testing.T) {
	at := exported.UnixNano()
	f := func(uptime, first, last uint32, start, end int64) {
		t.Helper()
		got, _, err := NewSession(decode.Limits{}).Decode(append(header(5, 1, uptime, 0), row(5, first, last)...), 1, nil)
		if err != nil || len(got) != 1 || got[0].StartNS != start || got[0].EndNS != end {
			t.Errorf("uptime %d, first %d, last %d: %v, %d records %d %d", uptime, first, last, err, len(got), got[0].StartNS-at, got[0].EndNS-at)
		}
	}
	f(60_000, 50_000, 56_000, at-10e9, at-4e9)
	f(2_000, 1<<32-3_000, 1_000, at-5e9, at-1e9)
	f(2_000, 1<<32-3_000, 1<<32-1_000, at-5e9, at-3e9)
	f(5_000, 5_000, 5_010, at, at+10e6) // the clock went on while the datagram was made
	f(2_000, 2_001, 1_000, at-(1<<32-1)*1e6, at-1e9)
	f(60_000, 0, 0, at, at) // not told
}

func TestLengths(t *testing.T) {
	one := append(header(5, 1, 60_000, 0), row(5, 1, 2)...)
	f := func(b []byte, records int, problem string) {
		t.Helper()
		got, res, err := NewSession(decode.Limits{}).Decode(b, 1, nil)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if len(got) != records || text != problem || res.Records != records {
			t.Errorf("%d records, %q, %+v", len(got), text, res)
		}
	}
	f(one, 1, "")
	f(append(one[:len(one):len(one)], one...), 2, "")
	f(append(one[:len(one):len(one)], make([]byte, 40)...), 1, "")
	f(append(one[:len(one):len(one)], 1), 0, "netflow5: message: its count needs 72 bytes, 73 there")
	f(one[:71], 0, "netflow5: message: its count needs 72 bytes, 71 there")
	f(one[:20], 0, "netflow5: message: needs 24 bytes, 20 there")
	f(header(5, 0, 1, 0), 0, "")
	f(append(header(5, 55582, 1, 0), make([]byte, 1440)...), 0, "netflow5: message: its count needs 2667960 bytes, 1464 there")
}

func TestSequence(t *testing.T) {
	f := func(numbers []uint32, counts []int, lost ...uint64) {
		t.Helper()
		s := NewSession(decode.Limits{})
		for i, q := range numbers {
			b := header(5, uint16(counts[i]), 60_000, q)
			for range counts[i] {
				b = append(b, row(5, 1, 2)...)
			}
			_, res, _ := s.Decode(b, 1, nil)
			if res.Lost != lost[i] || res.Unit != decode.Flows {
				t.Errorf("datagram %d: %d %s lost, want %d", i, res.Lost, res.Unit, lost[i])
			}
		}
	}
	f([]uint32{0, 2, 5, 16, 17}, []int{2, 3, 1, 1, 1}, 0, 0, 0, 10, 0)
	// Open vSwitch sends the number of the last record
	f([]uint32{3, 5, 6, 9, 10, 20}, []int{4, 2, 1, 3, 1, 1}, 0, 0, 0, 0, 0, 9)
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	b := header(5, 30, 60_000, 0)
	for range 30 {
		b = append(b, row(5, 1, 2)...)
	}
	s, recs := NewSession(decode.Limits{}), make([]flow.Record, 0, 64)
	run := func() { recs, _, _ = s.Decode(b, 1, recs[:0]) }
	run()
	if n := testkit.Allocs(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range []uint16{1, 5, 6, 7} {
		f.Add(append(header(v, 1, 60_000, 0), row(v, 50_000, 56_000)...))
	}
	f.Add(append(header(5, 55582, 1, 0), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewSession(decode.Limits{})
		for range 2 {
			recs, res, err := s.Decode(b, 1, nil)
			if len(recs) > len(b)/RecordLen || len(recs) != res.Records || err != nil && len(recs) > 0 {
				t.Fatalf("%d records from %d bytes, %v", len(recs), len(b), err)
			}
		}
	})
}
