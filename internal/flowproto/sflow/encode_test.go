package sflow

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/testkit"
)

// header is a frame of UDP from 10.0.0.1:1000 to 10.0.0.2:53, IP length 60.
var header = []byte{
	2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
	0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
	1000 >> 8, 1000 & 255, 0, 53, 0, 40, 0, 0, 1,
}

func TestEncodeRoundTrip(t *testing.T) {
	f := func(agent string, index uint32) {
		t.Helper()
		a := flow.FromNetip(netip.MustParseAddr(agent))
		e, s := NewEncoder(a, 3, time.Now(), 600), NewSession(decode.Limits{})
		var recs []flow.Record
		counters := 0
		s.OnCounters(func(c *decode.Counters) {
			counters++
			name := c.Values[len(c.Values)-1]
			if octets, _ := c.Uint("if_counters", "if_counters.ifInOctets"); octets != 1<<40 || name.Element.Name != "port_name.name" || string(name.Bytes) != "vnet7" {
				t.Errorf("%d octets at %s %q", octets, name.Element.Name, name.Bytes)
			}
		})
		emit := func(msg []byte, packets int) error {
			if len(msg) > 600 || len(msg)%4 != 0 {
				t.Errorf("datagram of %d bytes", len(msg))
			}
			n := len(recs)
			var res decode.Result
			var err error
			recs, res, err = s.Decode(msg, 1, recs)
			if err != nil || res.Lost != 0 || res.LostSamples != 0 || len(recs)-n != packets {
				t.Errorf("%v %+v, %d records, want %d", err, res, len(recs)-n, packets)
			}
			return nil
		}
		for i := range 20 {
			_ = e.AddFlow(&FlowSample{
				Source: index, Rate: 10, Pool: uint32(10 * i), In: index, Out: Unknown, Protocol: HeaderEthernet, FrameLen: 78, Stripped: 4, Header: header,
			}, time.Now(), emit)
			if i%7 == 0 {
				_ = e.AddCounters(&CounterSample{Name: "vnet7", Index: index, Type: 6, InOctets: 1 << 40}, time.Now(), emit)
			}
		}
		_ = e.Flush(time.Now(), emit)
		if len(recs) != 20 || counters != 3 {
			t.Fatalf("%d records, %d counters", len(recs), counters)
		}
		r := recs[19]
		want := flow.Record{
			Sampling: 10, InIf: index, Direction: 0, Proto: 17, SrcPort: 1000, DstPort: 53, Packets: 1, Octets: 60, L2Octets: 74,
			Src: flow.V4([]byte{10, 0, 0, 1}), Dst: flow.V4([]byte{10, 0, 0, 2}),
		}
		got := flow.Record{
			Sampling: r.Sampling, InIf: r.InIf, Direction: r.Direction, Proto: r.Proto, SrcPort: r.SrcPort, DstPort: r.DstPort,
			Packets: r.Packets, Octets: r.Octets, L2Octets: r.L2Octets, Src: r.Src, Dst: r.Dst,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, %d (-want +got):\n%s", agent, index, diff)
		}
	}
	f("192.0.2.7", 9)
	f("2001:db8::7", 9)
	f("192.0.2.7", 1<<24+9) // the expanded forms
}

// The layout by hand, from the structures of "sFlow Version 5".
func TestEncodeLayout(t *testing.T) {
	e := NewEncoder(flow.FromNetip(netip.MustParseAddr("192.0.2.7")), 3, time.Now().Add(-5*time.Second), 1400)
	var msg []byte
	_ = e.AddFlow(&FlowSample{Source: 9, Rate: 10, Pool: 20, Drops: 1, In: 9, Out: Unknown, Protocol: 1, FrameLen: 78, Stripped: 4, Header: header}, time.Now(),
		func([]byte, int) error { return nil })
	_ = e.Flush(time.Now(), func(b []byte, _ int) error { msg = b; return nil })
	var got []uint32
	for i := 0; i < 100; i += 4 {
		got = append(got, binary.BigEndian.Uint32(msg[i:]))
	}
	want := []uint32{
		5, 1, 0xc0000207, 3, 1, got[5], 1, // header: version, address, sub-agent, sequence, uptime, samples
		1, 100, 1, 9, 10, 20, 1, 9, 0x3fffffff, 1, // flow sample: sequence, source, rate, pool, drops, input, output, records
		1, 60, 1, 78, 4, 43, // raw header: length, protocol, frame length, stripped, bytes
		0x02000000, 0x00020200,
	}
	if diff := cmp.Diff(want, got); diff != "" || len(msg) != 28+8+100 || got[5] < 5000 {
		t.Errorf("%d bytes (-want +got):\n%s", len(msg), diff)
	}
}

// TestEncodeNames: a name stands behind the counters as XDR writes text, cut to what fits into the smallest datagram.
func TestEncodeNames(t *testing.T) {
	f := func(name string, want ...uint32) {
		t.Helper()
		e := NewEncoder(flow.FromNetip(netip.MustParseAddr("2001:db8::7")), 0, time.Now(), 0)
		var msg []byte
		_ = e.AddCounters(&CounterSample{Name: name, Index: 1 << 24}, time.Now(), func([]byte, int) error { t.Error("an unfinished datagram is sent"); return nil })
		_ = e.Flush(time.Now(), func(b []byte, _ int) error { msg = b; return nil })
		var got []uint32
		for i := 40 + 8 + 16 + 8 + 88; i < len(msg) && len(got) < len(want); i += 4 {
			got = append(got, binary.BigEndian.Uint32(msg[i:]))
		}
		if records := binary.BigEndian.Uint32(msg[60:]); !slices.Equal(got, want) || records != uint32(1+min(len(want), 1)) || len(msg) > MinDatagram {
			t.Errorf("%q: %#x, want %#x, in %d records, %d bytes", name, got, want, records, len(msg))
		}
	}
	f("")
	f("eth0", 1005, 8, 4, 0x65746830)
	f("vnet7", 1005, 12, 5, 0x766e6574, 0x37000000)
	f(strings.Repeat("x", 300), 1005, 4+128, 128, 0x78787878)
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	now := time.Now()
	e := NewEncoder(flow.Addr{}, 0, now, 1400)
	s := FlowSample{Source: 9, Rate: 10, In: 9, Protocol: 1, FrameLen: 78, Stripped: 4, Header: header}
	emit := func([]byte, int) error { return nil }
	run := func() { _ = e.AddFlow(&s, now, emit) }
	for range 100 {
		run()
	}
	if n := testkit.Allocs(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
