package sflow

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/testkit"
)

func words(v ...uint32) (b []byte) {
	for _, w := range v {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// part puts format and length before a structure or a sample.
func part(format uint32, body ...[]byte) []byte {
	b := join(body...)
	return join(words(format, uint32(len(b))), b)
}

// datagram is one of agent 192.0.2.9, sub-agent 3.
func datagram(sequence uint32, samples ...[]byte) []byte {
	return join(words(5, 1, 0xc0000209, 3, sequence, 1000, uint32(len(samples))), join(samples...))
}

// sample is a flow sample of interface 7, one packet in 256, from 7 to 8.
func sample(sequence, drops uint32, records ...[]byte) []byte {
	return part(sampleFlow, words(sequence, 7, 256, 999, drops, 7, 8, uint32(len(records))), join(records...))
}

func raw(frame string, stripped uint32) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(frame, " ", ""))
	if err != nil {
		panic(err)
	}
	n := uint32(len(b))
	return part(recordHeader, words(headerEthernet, n+stripped, stripped, n), b, make([]byte, -len(b)&3))
}

const (
	outerHeaders = "02000000000b 02000000000a 0800" +
		"4500005a 00004000 4011 0000 0a090001 0a090002" + // 10.9.0.1 to 10.9.0.2, UDP, 90 bytes
		"c000 12b5 0046 0000" + // 49152 to 4789
		"08000000 00138900" // VNI 5001
	innerFrame = "020000000002 020000000001 0800" +
		"45000028 00004000 4006 0000 ac100101 ac100102" + // 172.16.1.1 to 172.16.1.2, TCP, 40 bytes
		"1f90 0050 00000001 00000002 5018 0400 0000 0000"
)

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

// tenant is the record of innerFrame in a sample.
func tenant(change func(*flow.Record)) flow.Record {
	r := flow.Record{
		StartNS: 9, EndNS: 9, RecvNS: 9, Domain: 3, Point: 7, InIf: 7, OutIf: 8, Sampling: 256, Marks: flow.MarkSampled,
		Proto: 6, MinTTL: 64, MaxTTL: 64, TCPFlags: 0x18, SrcPort: 8080, DstPort: 80, EtherType: 0x0800,
		Src: addr("172.16.1.1"), Dst: addr("172.16.1.2"), SrcMAC: 0x020000000001, DstMAC: 0x020000000002,
		Packets: 1, Octets: 40, L2Octets: 54, MinLen: 40, MaxLen: 40,
	}
	change(&r)
	return r
}

func TestSamples(t *testing.T) {
	f := func(name string, b []byte, want ...flow.Record) {
		t.Helper()
		got, res, err := NewSession(decode.Limits{}).Decode(b, 9, nil)
		if err != nil || res.Records != len(want) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	vtep := flow.Tunnel{Src: addr("10.9.0.1"), Dst: addr("10.9.0.2"), SrcPort: 49152, DstPort: 4789, Proto: 17, Type: 1}
	vni := flow.NewSegment(flow.KindVXLAN, 5001)
	plain := tenant(func(*flow.Record) {})
	f("header", datagram(1, sample(1, 0, raw(innerFrame, 4))), plain)
	f("header without check sequence", datagram(1, sample(1, 0, raw(innerFrame, 0))), plain)
	f("two samples", datagram(1, sample(1, 0, raw(innerFrame, 4)), sample(2, 0, raw(innerFrame, 4))), plain, plain)
	f("VXLAN in the sample", datagram(1, sample(1, 0, raw(outerHeaders+innerFrame, 4))), tenant(func(r *flow.Record) {
		r.Tunnel, r.Segment, r.L2Octets = vtep, vni, 104
	}))
	v4 := words(90, 17, 0x0a090001, 0x0a090002, 49152, 4789, 0, 0)
	f("VXLAN taken off: structures 1024 and 1030", datagram(1, sample(1, 0, raw(innerFrame, 4), part(1024, v4), part(1030, words(5001)))),
		tenant(func(r *flow.Record) { r.Tunnel, r.Segment = vtep, vni }))
	f("put on: structures 1023 and 1029", datagram(1, sample(1, 0, part(1029, words(5001)), part(1023, v4), raw(innerFrame, 4))),
		tenant(func(r *flow.Record) { r.Tunnel, r.Segment = vtep, vni }))
	f("Geneve over IPv6", datagram(1, sample(1, 0, raw(innerFrame, 4), part(1030, words(77)), part(1026, words(90, 17),
		words(0x20010db8, 0, 0, 1), words(0x20010db8, 0, 0, 2), words(1, 6081, 0, 0)))), tenant(func(r *flow.Record) {
		r.Tunnel = flow.Tunnel{Src: addr("2001:db8::1"), Dst: addr("2001:db8::2"), SrcPort: 1, DstPort: 6081, Proto: 17, Type: 7}
		r.Segment = flow.NewSegment(flow.KindGeneve, 77)
	}))
	f("the ports of Open vSwitch: bytes swapped", datagram(1, sample(1, 0, raw(innerFrame, 4), part(1024, words(90, 17, 0x0a090001, 0x0a090002, 0x00c0, 0xb512, 0, 0)), part(1030, words(5001)))),
		tenant(func(r *flow.Record) { r.Tunnel, r.Segment = vtep, vni }))
	f("GRE", datagram(1, sample(1, 0, raw(innerFrame, 4), part(1030, words(5003)), part(1024, words(90, 47, 0x0a090001, 0x0a090002, 0, 0, 0, 0)))),
		tenant(func(r *flow.Record) {
			r.Tunnel = flow.Tunnel{Src: addr("10.9.0.1"), Dst: addr("10.9.0.2"), Proto: 47, Type: 2}
			r.Segment = flow.NewSegment(flow.KindGRE, 5003)
		}))
	unknownPort := strings.Replace(outerHeaders, "12b5", "1234", 1)
	f("decapsulation by offset: a port that is nobody's", datagram(1, sample(1, 0, raw(unknownPort+innerFrame, 4), part(1028, words(50)), part(1030, words(5001)))),
		tenant(func(r *flow.Record) {
			r.Tunnel, r.Segment, r.L2Octets = vtep, vni, 104
			r.Tunnel.DstPort = 0x1234
		}))
	f("VLAN of the switch, 802.1Q taken off", datagram(1, sample(1, 0, part(1001, words(100, 0, 100, 0)), raw(innerFrame, 8))),
		tenant(func(r *flow.Record) { r.VLAN, r.L2Octets = 100, 58 }))
	f("VLAN stack", datagram(1, sample(1, 0, raw(innerFrame, 4), part(1001, words(100, 0, 100, 0)), part(1012, words(1, 0x88a80000|200)))),
		tenant(func(r *flow.Record) { r.VLAN, r.InnerVLAN = 200, 100 }))
	f("an agent's time", datagram(1, sample(1, 0, raw(innerFrame, 4), part(1043, words(0, 77)))),
		tenant(func(r *flow.Record) { r.StartNS, r.EndNS = 77, 77 }))
	f("sampled Ethernet and IPv4 without a header", datagram(1, sample(1, 0,
		part(2, words(54), []byte{2, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0}, words(0x0800)),
		part(3, words(40, 6, 0xac100101, 0xac100102, 8080, 80, 0x18, 0)))), tenant(func(r *flow.Record) { r.MinTTL, r.MaxTTL = 0, 0 }))
	f("expanded, from an unknown port to several", datagram(1, part(sampleFlowExpanded,
		words(1, 2, 1000, 1, 0, 0, 0, 0, 2, 3, 1), raw(innerFrame, 4))), tenant(func(r *flow.Record) {
		r.Point, r.InIf, r.OutIf, r.Sampling, r.Marks, r.Direction = 2<<24|1000, 0, 0, 1, 0, 255
	}))
	f("thrown away: output format 1, reason 5", datagram(1, part(sampleFlow, words(1, 7, 256, 9, 0, 7, 1<<30|5, 1), raw(innerFrame, 4))),
		tenant(func(r *flow.Record) { r.OutIf, r.Extra = 0, "0.89=80 14706.5=0005" }))
	f("discarded packet", datagram(1, part(sampleDiscarded, words(1, 0, 7, 0, 7, 8, 258, 1), raw(innerFrame, 4))),
		tenant(func(r *flow.Record) {
			r.Packets, r.Octets, r.L2Octets, r.Sampling, r.Marks, r.Extra = 0, 0, 0, 0, 0, "0.89=80 14706.5=0102"
		}))
}

func TestAccounting(t *testing.T) {
	s := NewSession(decode.Limits{})
	f := func(b []byte, lost, samples, drops uint64) {
		t.Helper()
		_, res, err := s.Decode(b, 9, nil)
		if err != nil || res.Lost != lost || res.LostSamples != samples || res.AgentDrops != drops || res.Unit != decode.Datagrams || res.Domain != 3 || res.Agent != addr("192.0.2.9") {
			t.Errorf("%+v, %v", res, err)
		}
	}
	f(datagram(10, sample(100, 5, raw(innerFrame, 4))), 0, 0, 0)
	f(datagram(11, sample(101, 5, raw(innerFrame, 4))), 0, 0, 0)
	f(datagram(14, sample(104, 12, raw(innerFrame, 4))), 2, 2, 7)
	f(datagram(12, sample(102, 5, raw(innerFrame, 4))), 0, 0, 0)
}

func TestCounters(t *testing.T) {
	s := NewSession(decode.Limits{})
	var got []string
	s.OnCounters(func(c *decode.Counters) {
		for _, v := range c.Values {
			got = append(got, v.Name()+" "+v.Text())
		}
		if n, ok := c.Uint("vlan_counters", "vlan_counters.octets"); !ok || n != 1<<32|5 || c.SourceID != 9 || c.UptimeMS != 1000 {
			t.Errorf("%d, %v, %+v", n, ok, c)
		}
	})
	_, res, err := s.Decode(datagram(1, part(sampleCounters, words(1, 9, 3), part(5, words(100, 1, 5, 2, 3, 4, 6)), part(1005, words(4), []byte("eth0")),
		part(9<<12|1, words(0xabcd)))), 9, nil)
	want := []string{
		"vlan_counters.vlan_id 100", "vlan_counters.octets 4294967301", "vlan_counters.ucastPkts 2", "vlan_counters.multicastPkts 3",
		"vlan_counters.broadcastPkts 4", "vlan_counters.discards 6", "port_name.name eth0", "9/1 0x0000abcd",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil || res.CounterSamples != 1 || res.Records != 0 {
		t.Errorf("%+v, %v\n%s", res, err, d)
	}
}

// What is wrong is counted, and what was decoded before it stands.
func TestWrong(t *testing.T) {
	f := func(b []byte, records int, want string) {
		t.Helper()
		got, res, err := NewSession(decode.Limits{}).Decode(b, 9, nil)
		if err == nil || err.Error() != want || len(got) != records {
			t.Errorf("%d records, %v, %+v", len(got), err, res)
		}
	}
	good := sample(1, 0, raw(innerFrame, 4))
	f(words(4, 1), 0, "sflow: message: version is 4, want 5")
	f(words(5, 1, 2), 0, "sflow: message: needs 16 bytes, 12 there")
	f(join(words(5, 1, 0xc0000209, 3, 1, 1000, 2), good), 1, "sflow: message: its count needs 156 bytes, 148 there")
	f(datagram(1, good, join(words(sampleFlow, 400), make([]byte, 8))), 1, "sflow: sample at offset 148: needs 400 bytes, 8 left")
	f(datagram(1, part(77, words(1))), 0, "sflow: set at offset 36: identifier 77 is reserved")
	f(datagram(1, sample(1, 0, part(recordHeader, words(1, 60, 4, 500), make([]byte, 8)))), 1, "sflow: set 1 at offset 76: record needs 516 bytes, 24 left")
}

func TestDoesNotAllocate(t *testing.T) {
	b := datagram(1, sample(1, 0, raw(outerHeaders+innerFrame, 4), part(1001, words(1, 0, 1, 0))))
	s, recs := NewSession(decode.Limits{}), make([]flow.Record, 0, 8)
	run := func() { recs, _, _ = s.Decode(b, 9, recs[:0]) }
	run()
	if n := testkit.Allocs(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(datagram(1, sample(1, 0, raw(outerHeaders+innerFrame, 4), part(1024, make([]byte, 32)), part(1028, words(50)), part(1030, words(5001)))))
	f.Add(datagram(1, part(sampleDiscarded, words(1, 0, 7, 0, 7, 8, 258, 1), raw(innerFrame, 4))))
	f.Add(datagram(1, part(sampleCounters, words(1, 9, 2), part(5, words(100, 1, 5, 2, 3, 4, 6)), part(1005, words(4), []byte("eth0")))))
	f.Add(datagram(1, part(sampleFlowExpanded, words(1, 2, 1000, 1, 0, 0, 0, 0, 2, 3, 1), part(1003, words(1, 1, 2, 3, 4, 1, 2, 2, 7, 8, 1, 9, 100)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewSession(decode.Limits{})
		s.OnCounters(func(c *decode.Counters) {
			for _, v := range c.Values {
				v.Text()
			}
		})
		for range 2 {
			recs, res, err := s.Decode(b, 1, nil)
			if len(recs) > len(b)/8 || len(recs) != res.Records {
				t.Fatalf("%d records from %d bytes", len(recs), len(b))
			}
			problems := 0
			for _, n := range res.Problems {
				problems += n
			}
			if (err != nil) != (problems > res.Problems[decode.DomainLimit]) {
				t.Fatalf("%v, but problems %v", err, res.Problems)
			}
		}
		_, _ = s.Walk(b, 1, func(it *decode.Item) {
			for v := range it.Fields() {
				if v.Text(); v.Offset+len(v.Bytes) > len(b) {
					t.Fatalf("%s at offset %d of %d bytes", v.Name(), v.Offset, len(b))
				}
			}
		})
	})
}
