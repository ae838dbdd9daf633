package session

import (
	"encoding/binary"
	"math"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
)

// set16 is a set of an IPFIX message with 16-bit words as its body.
func words(ws ...uint16) (b []byte) {
	for _, w := range ws {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return b
}

func set(id uint16, body []byte) []byte {
	return append(words(id, uint16(4+len(body))), body...)
}

// ipfixMessage is a message of domain 7 with these sets.
func ipfixMessage(seq uint32, sets ...[]byte) []byte {
	b := make([]byte, 16)
	for _, s := range sets {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint16(b, 10)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:], 1_700_000_000)
	binary.BigEndian.PutUint32(b[8:], seq)
	binary.BigEndian.PutUint32(b[12:], 7)
	return b
}

// flowTemplate has addresses, a packet count, interfaces and what else is wanted.
func flowTemplate(id uint16, more ...uint16) []byte {
	fields := append([]uint16{8, 4, 12, 4, 2, 4, 10, 4, 14, 4}, more...)
	return set(2, append(words(id, uint16(len(fields)/2)), words(fields...)...))
}

func flowRecord(id uint16, in, out uint32, more ...byte) []byte {
	b := []byte{10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 5}
	b = binary.BigEndian.AppendUint32(b, in)
	b = binary.BigEndian.AppendUint32(b, out)
	return set(id, append(b, more...))
}

const base = int64(1_700_000_000_000_000_000)

func one(t *testing.T, tab *Table, k Key, msg []byte) flow.Record {
	t.Helper()
	recs := tab.Decode(k, base, msg, nil)
	if len(recs) != 1 {
		t.Fatalf("%d records", len(recs))
	}
	return recs[0]
}

// The rates that option records announce reach the records they are about, however they are put; expected values are those of RFC 5477
// and RFC 3954 worked out by hand.
func TestAnnouncedSampling(t *testing.T) {
	p64 := binary.BigEndian.AppendUint64(nil, math.Float64bits(1.0/128))
	f := func(name string, scope int, fields []uint16, values []byte, extra []uint16, more []byte, want uint32) {
		t.Helper()
		tab := table(t, nil)
		k := key("10.0.0.9:5000")
		tab.Decode(k, base, ipfixMessage(0, set(3, append(words(300, uint16(len(fields)/2), uint16(scope)), words(fields...)...)), set(300, values)), nil)
		r := one(t, tab, k, ipfixMessage(1, flowTemplate(256, extra...), flowRecord(256, 3, 4, more...)))
		if r.Sampling != want || r.Is(flow.MarkSampled) != (want > 1) || r.Is(flow.MarkAssumed) {
			t.Errorf("%s: sampling %d, marks %b, want %d", name, r.Sampling, r.Marks, want)
		}
		if x := tab.Exporters(base)[0]; want > 8 && (x.Sampling.Source != SamplingAnnounced || x.Sampling.Rate != want) {
			t.Errorf("%s: exporter %+v", name, x.Sampling)
		}
	}
	be := func(v ...uint32) (b []byte) {
		for _, x := range v {
			b = binary.BigEndian.AppendUint32(b, x)
		}
		return b
	}
	f("samplingInterval", 1, []uint16{149, 4, 34, 4, 35, 1}, append(be(7, 100), 1), nil, nil, 100)
	f("interval and space", 1, []uint16{144, 4, 305, 4, 306, 4}, be(1, 1, 63), nil, nil, 64)
	f("interval and space of several", 1, []uint16{144, 4, 305, 4, 306, 4}, be(1, 2, 18), nil, nil, 10)
	f("n out of N", 1, []uint16{144, 4, 309, 4, 310, 4}, be(1, 5, 1000), nil, nil, 200)
	f("probability", 1, []uint16{144, 4, 311, 8}, append(be(1), p64...), nil, nil, 128)
	f("flows by probability", 1, []uint16{302, 4, 390, 2, 311, 8}, append(append(be(2), 0, 4), p64...), nil, nil, 128)
	f("named selector", 1, []uint16{302, 4, 305, 4, 306, 4}, be(9, 1, 31), []uint16{302, 4}, be(9), 32)
	f("another selector", 1, []uint16{302, 4, 305, 4, 306, 4}, be(9, 1, 31), []uint16{302, 4}, be(8), 0)
	f("the only selector", 1, []uint16{302, 4, 305, 4, 306, 4}, be(9, 1, 31), nil, nil, 32)
	f("sampler of NetFlow", 1, []uint16{48, 4, 49, 1, 50, 4}, append(be(3), 2, 0, 0, 4, 0), []uint16{48, 1}, []byte{3}, 1024)
	f("of an interface", 1, []uint16{10, 4, 34, 4}, be(3, 77), nil, nil, 77)
	f("of another interface", 1, []uint16{10, 4, 34, 4}, be(4, 77), nil, nil, 0)
	f("a ledger's row is no sampler", 1, []uint16{302, 4, 335, 4, 305, 4}, append(be(16), 'a', 'b', 'c', 'd', 0, 0, 0, 9), nil, nil, 0)
	f("in the record", 1, []uint16{149, 4, 34, 4}, be(7, 100), []uint16{34, 4}, be(8), 8)
}

// What is told in domain 0 is of the whole exporting process: it holds in domains that tell nothing.
func TestDomainZeroSpeaksForAll(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	all := ipfixMessage(0, set(3, append(words(300, 2, 1), words(144, 4, 34, 4)...)), set(300, []byte{0, 0, 0, 1, 0, 0, 0, 50}))
	binary.BigEndian.PutUint32(all[12:], 0)
	tab.Decode(k, base, all, nil)
	if r := one(t, tab, k, ipfixMessage(0, flowTemplate(256), flowRecord(256, 3, 4))); r.Sampling != 50 {
		t.Errorf("sampling %d", r.Sampling)
	}
}

// Names that option records tell are joined into records, and all of it survives a restart.
func TestNames(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	ifs := set(3, append(words(300, 2, 1), words(10, 4, 82, 6)...))
	vrf := set(3, append(words(301, 2, 1), words(234, 4, 236, 4)...))
	app := set(3, append(words(302, 2, 1), words(95, 4, 96, 4)...))
	tab.Decode(k, base, ipfixMessage(0, ifs, set(300, []byte("\x00\x00\x00\x03eth0\x00\x00")), vrf, set(301, []byte("\x00\x00\x00\x09blue")),
		app, set(302, []byte("\x03\x00\x00\x50http"))), nil)
	msg := ipfixMessage(3, flowTemplate(256, 234, 4, 95, 4), flowRecord(256, 3, 4, 0, 0, 0, 9, 3, 0, 0, 80))
	check := func(tab *Table) {
		t.Helper()
		r := one(t, tab, k, msg)
		if r.InIfName != "eth0" || r.OutIfName != "" || r.VRF != "blue" || r.Observer != "eth0" {
			t.Errorf("record %+v", r)
		}
	}
	check(tab)
	path := filepath.Join(t.TempDir(), "templates.json")
	if err := tab.Save(path); err != nil {
		t.Fatal(err)
	}
	again := table(t, nil)
	if n, err := again.Restore(path, base); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	check(again)
}

// What exporters do not tell comes from the platform before the rules, never twice, and a guess is marked.
func TestRulesAndPlatform(t *testing.T) {
	f := func(name string, rule Rule, plat Sampled, sampling uint32, marks flow.Mark, source SamplingSource) {
		t.Helper()
		tab := table(t, func(c *Config) {
			if len(rule.Exporters) > 0 {
				c.Rules = []Rule{{Exporters: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Sampling: 5}, rule}
			}
			c.Platform = func(flow.Addr, uint32) (Sampled, bool) { return plat, plat.Rate > 0 }
		})
		r := one(t, tab, key("10.0.0.9:5000"), ipfixMessage(0, flowTemplate(256), flowRecord(256, 3, 4)))
		x := tab.Exporters(base)[0].Sampling
		if r.Sampling != sampling || r.Marks != marks || x.Source != source {
			t.Errorf("%s: sampling %d, marks %b, %+v", name, r.Sampling, r.Marks, x)
		}
	}
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f("nothing", Rule{}, Sampled{}, 0, 0, SamplingNone)
	f("rule", Rule{Exporters: nets, Sampling: 64}, Sampled{}, 64, flow.MarkSampled, SamplingConfig)
	f("guess", Rule{Exporters: nets, Assume: 4096}, Sampled{}, 4096, flow.MarkSampled|flow.MarkAssumed, SamplingAssumed)
	f("already multiplied", Rule{Exporters: nets, Sampling: 64, Scaled: true}, Sampled{}, 0, flow.MarkSampled, SamplingScaled)
	f("platform", Rule{Exporters: nets, Sampling: 64}, Sampled{Rate: 8}, 8, flow.MarkSampled, SamplingPlatform)
	f("platform, multiplied", Rule{}, Sampled{8, true}, 0, flow.MarkSampled, SamplingScaled)
}

// VMware's distributed switch samples and does not tell: its figures are marked, and not multiplied by a guess of ours.
func TestDistributedSwitchIsMarked(t *testing.T) {
	tab := table(t, nil)
	role := append(words(8, 4, 12, 4, 2, 4, 10, 4, 14, 4), 0x83, 0x79, 0, 1, 0, 0, 0x1a, 0xdc) // 889 of enterprise 6876
	r := one(t, tab, key("10.0.0.9:5000"), ipfixMessage(0, set(2, append(words(256, 6), role...)), flowRecord(256, 3, 4, 1)))
	x := tab.Exporters(base)[0]
	if r.Sampling > 1 || !r.Is(flow.MarkAssumed) || x.Sampling.Source != SamplingUnknown {
		t.Errorf("record %+v, exporter %+v", r, x.Sampling)
	}
}

// ESX's "-p" and Open vSwitch put the switch into the upper seven bits of an interface number: 1549 is port 13 of switch 3.
func TestPortIDs(t *testing.T) {
	rule := Rule{PortIDs: true, Switches: map[uint32]Switch{3: {Name: "vSwitch1", Ports: map[uint32]string{13: "web-1"}}}}
	f := func(r Rule, engine, number uint32, want string) {
		t.Helper()
		if got := r.port(flowproto.NetFlow5, engine, number); got != want {
			t.Errorf("interface %d of engine %d: %q, want %q", number, engine, got, want)
		}
	}
	f(rule, 3, 1549, "vSwitch1 web-1")
	f(rule, 3, 1538, "vSwitch1 port 2")
	f(rule, 5, 5<<9|511, "switch 5 port 511")
	f(rule, 3, 65535, "")
	rule.PortIDs = false
	f(rule, 3, 13, "vSwitch1 web-1")
	f(rule, 4, 13, "")
	rule.Interfaces = map[uint32]string{13: "uplink"}
	f(rule, 3, 13, "uplink")
}

// A session without templates borrows those of the same exporter and domain, while all its other sessions agree.
func TestBorrowFromSiblings(t *testing.T) {
	tab := table(t, nil)
	old, moved, other := key("10.0.0.9:5000"), key("10.0.0.9:5001"), key("10.0.0.8:5000")
	tab.Decode(old, base, ipfixMessage(0, flowTemplate(256)), nil)
	if r := one(t, tab, moved, ipfixMessage(0, flowRecord(256, 3, 4))); !r.Is(flow.MarkBorrowed) || r.Packets != 5 {
		t.Errorf("record %+v", r)
	}
	if recs := tab.Decode(other, base, ipfixMessage(0, flowRecord(256, 3, 4)), nil); len(recs) != 0 {
		t.Errorf("another exporter's template was used: %+v", recs)
	}
	third := key("10.0.0.9:5002")
	tab.Decode(third, base, ipfixMessage(0, set(2, append(words(256, 5), words(12, 4, 8, 4, 2, 4, 10, 4, 14, 4)...))), nil)
	if recs := tab.Decode(moved, base, ipfixMessage(1, flowRecord(256, 3, 4)), nil); len(recs) != 0 {
		t.Errorf("borrowed though two differ: %+v", recs)
	}
	x := tab.Exporters(base)[1]
	if x.Conflicts != 1 || x.Borrowed != 1 || x.PendingSets != 1 {
		t.Errorf("%+v", x)
	}
	tab.Close(third)
	tab.Close(old)
	if n := len(tab.offers.byPlace); n != 0 {
		t.Errorf("%d templates offered by nobody", n)
	}
}

// A connection that ends takes its templates with it; the next one from the same port begins anew.
func TestConnectionsEnd(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	k.Conn = 1
	tab.Decode(k, base, ipfixMessage(0, flowTemplate(256)), nil)
	tab.Close(k)
	k.Conn = 2
	if recs := tab.Decode(k, base, ipfixMessage(0, flowRecord(256, 3, 4)), nil); len(recs) != 0 || tab.Stats().Sessions != 1 {
		t.Errorf("%d records, %+v", len(recs), tab.Stats())
	}
	path := filepath.Join(t.TempDir(), "t.json")
	if err := tab.Save(path); err != nil {
		t.Fatal(err)
	}
	if n, err := table(t, nil).Restore(path, base); n != 0 || err != nil {
		t.Errorf("%d connections restored, %v", n, err)
	}
}

func TestExtra(t *testing.T) {
	f := func(text, key string, want uint64, ok bool) {
		t.Helper()
		if v, got := extra(text, key); v != want || got != ok {
			t.Errorf("%q in %q: %d, %v", key, text, v, got)
		}
	}
	f("0.48=03", "0.48=", 3, true)
	f("0.5=01 0.48=0102 6876.888=03", "0.48=", 0x102, true)
	f("0.248=01", "0.48=", 0, false)
	f("10.48=01", "0.48=", 0, false)
	f("0.48=", "0.48=", 0, false)
	f("", "0.48=", 0, false)
}

func TestLossShare(t *testing.T) {
	x := Exporter{Records: 90, Datagrams: 5, Lost: 10}
	if d := cmp.Diff(0.1, x.LossShare()); d != "" {
		t.Error(d)
	}
	x.Unit, x.Lost = 1, 15
	if d := cmp.Diff(0.75, x.LossShare()); d != "" {
		t.Error(d)
	}
}
