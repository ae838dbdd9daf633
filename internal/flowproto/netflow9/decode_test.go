package netflow9

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/ie"
	"crosstap/internal/testkit"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// headers are of uptime 100 s, 2026-11-21 12:00:00, source 7, with that count and sequence number.
func datagram(count, sequence, sets string) string {
	return "0009" + count + "000186a0" + "6a205dc0" + sequence + "00000007" + sets
}

const (
	exportNS = 0x6a205dc0 * int64(1e9)
	// 256: addresses, ports, protocol, octets, packets, last, first; of 256 with ICMP in the port
	tpl256 = "0000 002c 0100 0009 0008 0004 000c 0004 0007 0002 000b 0002 0004 0001 0001 0003 0002 0002 0015 0004 0016 0004"
	row1   = "0a000001 0a000002 1388 01bb 06 0005dc 0003 00018696 00013880"
	row2   = "0a000001 0a000002 0000 0803 01 000054 0001 00018696 00018696"
)

func TestDecode(t *testing.T) {
	s := NewSession(decode.Limits{})
	got, res, err := s.Decode(unhex(t, datagram("0003", "00000001", tpl256+"0100 003a"+row1+row2+"0000")), 1, nil)
	base := flow.Record{RecvNS: 1, Domain: 7, Direction: 255, Src: flow.V4([]byte{10, 0, 0, 1}), Dst: flow.V4([]byte{10, 0, 0, 2}), EndNS: exportNS - 10e6}
	tcp, icmp := base, base
	tcp.SrcPort, tcp.DstPort, tcp.Proto, tcp.Octets, tcp.Packets, tcp.StartNS = 5000, 443, 6, 1500, 3, exportNS-20e9
	icmp.ICMPTypeCode, icmp.Proto, icmp.Octets, icmp.Packets, icmp.StartNS = 0x0803, 1, 84, 1, exportNS-10e6
	if d := cmp.Diff([]flow.Record{tcp, icmp}, got); d != "" || err != nil || res.Records != 2 || res.Templates != 1 {
		t.Errorf("%+v, %v\n%s", res, err, d)
	}
}

// Field types above 32767 are vendors': Cisco's, ntop's and Palo Alto Networks'.
func TestElement(t *testing.T) {
	f := func(typ uint16, pen uint32, id uint16, name string) {
		t.Helper()
		p, i := Element(typ)
		e, ok := ie.Lookup(p, i)
		if p != pen || i != id || !ok || e.Name != name {
			t.Errorf("%d: %d/%d %+v", typ, p, i, e)
		}
	}
	f(8, 0, 8, "sourceIPv4Address")
	f(233, 0, 233, "firewallEvent")
	f(33000, ie.Cisco, 232, "asaIngressAclId")
	f(33002, ie.Cisco, 234, "asaFirewallExtendedEvent")
	f(40000, ie.Cisco, 7232, "asaUserName")
	f(40005, ie.Cisco, 7237, "asaFirewallEvent")
	f(45004, ie.Cisco, 12236, "clientIPv4Address")
	f(57590, ie.Ntop, 118, "l7Proto")
	f(56701, ie.PaloAlto, 56701, "panAppId")
}

// NSEL events of a Cisco ASA: both directions, translated addresses, what happened.
func TestNSEL(t *testing.T) {
	dir := testkit.Corpus(t, "collect/logstash-codec-netflow")
	s := NewSession(decode.Limits{})
	var recs []flow.Record
	for _, name := range []string{"netflow9_test_cisco_asa_2_tpl_26x.dat", "netflow9_test_cisco_asa_2_tpl_27x.dat", "netflow9_test_cisco_asa_2_data.dat"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if recs, _, err = s.Decode(b, 1, recs); err != nil {
			t.Fatal(err)
		}
	}
	// the event that logstash lists: 69 octets there, 14178 back, deleted (2), extended event 2030
	halves := 0
	for i, r := range recs {
		if r.Octets == 69 && strings.Contains(r.Extra, "0.148=2c46897f") && strings.Contains(r.Extra, "0.233=02") && !r.Is(flow.MarkReverse) {
			o := recs[i+1]
			if o.Octets != 14178 || !o.Is(flow.MarkReverse) || o.Src != r.Dst || o.SrcPort != r.DstPort {
				t.Errorf("the halves do not fit: %+v\n%+v", r, o)
			}
			for _, want := range []string{"0.225=", "0.226=", "0.227=", "0.228=", "9.234=07ee"} {
				if !strings.Contains(r.Extra, want) {
					t.Errorf("%s is not in %s", want, r.Extra)
				}
			}
			halves++
		}
	}
	if halves != 1 {
		t.Errorf("%d of %d records are the listed event", halves, len(recs))
	}
}

// Options: scopes of the format's own, and what they say.
func TestOptions(t *testing.T) {
	s := NewSession(decode.Limits{})
	var got []string
	s.OnOption(func(o decode.Option) {
		for v := range o.Scope() {
			got = append(got, "scope "+v.Name()+" "+v.Text())
		}
		n, _ := o.Uint(0, 34)
		got = append(got, o.Text(0, 82))
		if n != 100 || o.Domain != 7 || o.Protocol != decode.NetFlow9 {
			t.Errorf("%d, %+v", n, o.Item)
		}
	})
	_, res, err := s.Decode(unhex(t, datagram("0002", "00000001",
		"0001 0018 0200 0004 0008 0002 0004 0022 0004 0052 0006 0000"+"0200 0014 00000009 00000064 657468300000 0000")), 1, nil)
	if d := cmp.Diff([]string{"scope scopeInterface 9", "eth0"}, got); d != "" || err != nil || res.OptionRecords != 1 {
		t.Errorf("%+v, %v\n%s", res, err, d)
	}
}

func TestSequence(t *testing.T) {
	f := func(name string, numbers []uint32, unit decode.Unit, lost ...uint64) {
		t.Helper()
		s := NewSession(decode.Limits{})
		for i, q := range numbers {
			b := unhex(t, datagram("0003", "00000000", tpl256+"0100 003a"+row1+row2+"0000"))
			b[12], b[13], b[14], b[15] = byte(q>>24), byte(q>>16), byte(q>>8), byte(q)
			_, res, _ := s.Decode(b, 1, nil)
			if res.Lost != lost[i] || res.Lost > 0 && res.Unit != unit {
				t.Errorf("%s, datagram %d: %d %s lost, want %d", name, i, res.Lost, res.Unit, lost[i])
			}
		}
	}
	f("datagrams", []uint32{1, 2, 3, 7, 8}, decode.Datagrams, 0, 0, 0, 3, 0)
	f("flow records", []uint32{0, 2, 4, 6, 8, 20}, decode.Flows, 0, 0, 0, 0, 0, 10)
}

func TestWrong(t *testing.T) {
	f := func(b string, records int, want string) {
		t.Helper()
		got, res, err := NewSession(decode.Limits{}).Decode(unhex(t, b), 1, nil)
		if err == nil || err.Error() != want || len(got) != records {
			t.Errorf("%d records, %v, %+v", len(got), err, res)
		}
	}
	f("0009 0001", 0, "netflow9: message: needs 20 bytes, 4 there")
	f("0008"+datagram("0001", "00000000", "")[4:], 0, "netflow9: message: version is 8, want 9")
	f(datagram("0002", "00000001", tpl256+"0100 0fff"+row1), 0, "netflow9: set 256 at offset 64: length is 4095, 30 bytes left")
	f(datagram("0002", "00000001", "0007 0008 00000000"+"0100 0008 01020304"), 0, "netflow9: set at offset 20: identifier 7 is reserved")
	f(datagram("0001", "00000001", tpl256+"0100 001e"+row1), 0, "netflow9: set 256 at offset 64: the header's count ends before it")
	f(datagram("0001", "00000001", "0000 000c 0100 0009 0008 0004"), 0, "netflow9: template 256 at offset 24: needs 40 bytes, 8 left")
	f(datagram("0001", "00000001", "0001 0010 0200 0003 0008 0002 0004 0022"), 0, "netflow9: template 512 at offset 24: needs 17 bytes, 12 left")
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	b := unhex(t, datagram("0003", "00000001", tpl256+"0100 003a"+row1+row2+"0000"))
	s, recs := NewSession(decode.Limits{}), make([]flow.Record, 0, 8)
	run := func() { recs, _, _ = s.Decode(b, 1, recs[:0]) }
	run()
	if n := testkit.Allocs(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, datagram("0003", "00000001", tpl256+"0100 003a"+row1+row2+"0000")))
	f.Add(unhex(f, datagram("0002", "00000001", "0001 0018 0200 0004 0008 0002 0004 0022 0004 0052 0006 0000"+"0200 0014 00000009 00000064 657468300000 0000")))
	f.Add(unhex(f, datagram("0009", "00000001", "0000 0014 0100 0003 e080 0002 8001 ffff 0068 0040"+"0100 0048"+strings.Repeat("00", 68))))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewSession(decode.Limits{Templates: 8, Domains: 4, Names: 4, PendingBytes: 1 << 12, PendingSets: 8})
		for range 2 {
			recs, res, err := s.Decode(b, 1, nil)
			if len(recs) > 2*len(b) || s.Templates() > 8 || s.Names() > 4 || s.Domains() > 4 {
				t.Fatalf("%d records, %d templates", len(recs), s.Templates())
			}
			if sets, n := s.Pending(); sets > 8 || n > 1<<12 {
				t.Fatalf("%d sets with %d bytes wait", sets, n)
			}
			problems := 0
			for _, n := range res.Problems {
				problems += n
			}
			if err == nil && problems > res.Problems[decode.DomainLimit] {
				t.Fatalf("no error, but problems %v", res.Problems)
			}
		}
		saved := s.AppendTemplates(nil)
		again := NewSession(decode.Limits{Templates: 8})
		for len(saved) > 0 {
			n := SavedLen(saved)
			if _, _, err := again.Decode(saved[:n], 1, nil); err != nil {
				t.Fatal(err)
			}
			saved = saved[n:]
		}
		if again.Templates() != s.Templates() {
			t.Fatalf("%d templates of %d came back", again.Templates(), s.Templates())
		}
	})
}
