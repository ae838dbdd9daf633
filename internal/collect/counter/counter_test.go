package counter

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
)

const (
	minute = int64(time.Minute)
	second = int64(time.Second)
)

func words(v ...uint32) (b []byte) {
	for _, n := range v {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// opaque is a structure with its format and length before it.
func opaque(format uint32, body ...[]byte) []byte {
	var all []byte
	for _, b := range body {
		all = append(all, b...)
	}
	return append(words(format, uint32(len(all))), all...)
}

// datagram is an sFlow datagram of agent 10.0.0.9 with one counter sample (format 2) of the source.
func datagram(uptimeMS, sequence, source uint32, parts ...[]byte) []byte {
	body := words(sequence, source, uint32(len(parts)))
	for _, p := range parts {
		body = append(body, p...)
	}
	b := words(5, 1, 0x0a000009, 7, sequence, uptimeMS, 1)
	return append(b, opaque(2, body)...)
}

// port is if_counters and port_name of an interface of 10 Gbit/s with ifIndex 3.
func port(in, out uint64, inPackets, outPackets uint32) [][]byte {
	b := binary.BigEndian.AppendUint64(words(3, 6), 10_000_000_000)
	b = binary.BigEndian.AppendUint64(append(b, words(1, 3)...), in)
	b = binary.BigEndian.AppendUint64(append(b, words(inPackets, 1, 0xffffffff, 0, 0, 0)...), out)
	b = append(b, words(outPackets, 0, 0, 0, 0, 0)...)
	return [][]byte{opaque(1, b), opaque(1005, words(5), []byte("vnet7\x00\x00\x00"))}
}

// feed gives datagrams to a table by way of the decoder.
func feed(t *testing.T, tab *Table) func(atNS int64, b []byte) {
	s := flowproto.NewSession(flowproto.Limits{})
	s.OnCounters(tab.Add)
	return func(atNS int64, b []byte) {
		t.Helper()
		if _, _, err := s.Decode(b, atNS, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func dropped(t *testing.T, tab *Table, want map[string]uint64) {
	t.Helper()
	got := map[string]uint64{}
	for _, d := range tab.Book().Dropped {
		if d.N > 0 {
			got[d.Reason] = d.N
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := tab.Book().Balance(); err != nil {
		t.Error(err)
	}
}

func TestDifferences(t *testing.T) {
	tab := New(10)
	in := feed(t, tab)
	start := 1000 * minute
	say := func(afterS int64, uptimeS, sequence uint32, parts [][]byte) {
		t.Helper()
		in(start+afterS*second, datagram(uptimeS*1000, sequence, 3, parts...))
	}
	say(0, 100, 1, port(5000, 7000, 10, 20))
	say(30, 130, 2, port(6000, 7000, 15, 20)) // 1000 in, 5 packets
	say(60, 160, 3, port(6500, 9000, 16, 24)) // 500 in, 2000 out
	say(60, 160, 3, port(6500, 9000, 16, 24)) // again
	say(62, 130, 2, port(6000, 7000, 15, 20)) // overtaken
	say(90, 190, 4, port(math.MaxUint64, 9000, 16, 24))
	say(120, 220, 5, port(8500, 9000, 0xfffffff0, 24)) // 2000 in
	say(150, 5, 1, port(100, 50, 1, 1))                // the agent has started anew
	say(180, 35, 2, port(400, 90, 7, 3))               // 300 in, 40 out
	say(200, 55, 3, port(300, 90, 7, 3))               // somebody has set the counters to zero
	say(230, 85, 4, port(310, 91, 7, 3))
	cell := func(fromS, toS int64, a Amount) Cell { return Cell{start + fromS*second, start + toS*second, a} }
	want := []Row{{Key: Key{Agent: flow.V4([]byte{10, 0, 0, 9}), Domain: 7, Index: 3}, Name: "vnet7", Cells: []Cell{
		cell(0, 60, Amount{1500, 2000, 6, 4}), // of one minute
		cell(60, 120, Amount{2000, 0, 0xfffffff0 - 16, 0}),
		cell(150, 180, Amount{300, 40, 6, 2}),
		cell(200, 230, Amount{10, 1, 0, 0}),
	}}}
	if n := tab.Waiting(); n != 4 {
		t.Errorf("%d cells wait", n)
	}
	if d := cmp.Diff(want, tab.Take(99)); d != "" {
		t.Error(d)
	}
	if rows := tab.Take(99); len(rows) > 0 || tab.Waiting() != 0 {
		t.Errorf("taken twice: %+v", rows)
	}
	dropped(t, tab, map[string]uint64{"restart": 3, "late": 2, "unknown": 1})
}

// Packets are counted in 32 bits and wrap.
func TestPacketsWrap(t *testing.T) {
	tab := New(10)
	in := feed(t, tab)
	in(minute, datagram(1000, 1, 3, port(0, 0, 0xfffffff0, 5)...))
	in(minute+second, datagram(2000, 2, 3, port(9, 9, 0x10, 6)...))
	if rows := tab.Take(9); len(rows) != 1 || len(rows[0].Cells) != 1 || rows[0].Cells[0].InPackets != 32 || rows[0].Cells[0].OutPackets != 1 {
		t.Errorf("%+v", rows)
	}
}

// A virtual machine has its name and identifier from its host.
func TestMachine(t *testing.T) {
	tab := New(10)
	in := feed(t, tab)
	say := func(at int64, sequence uint32, rx, tx uint32) {
		t.Helper()
		id := []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10")
		in(at, datagram(uint32(at/1e6), sequence, Machine<<24|40, opaque(2000, words(5), []byte("web-1\x00\x00\x00"), id, words(3, 2, 0)),
			opaque(2104, words(0, rx, 4, 0, 0, 0, tx, 8, 0, 0))))
	}
	say(minute, 1, 100, 200)
	say(minute+20*second, 2, 150, 900)
	in(minute, datagram(1000, 1, 9, opaque(1001, words(1, 2, 3, 0, 9, 0, 4)))) // a processor is no interface
	rows := tab.Take(9)
	if len(rows) != 1 || len(rows[0].Cells) != 1 || rows[0].Class != Machine || rows[0].Index != 40 || rows[0].Name != "web-1" || rows[0].UUID != "01020304-0506-0708-090a-0b0c0d0e0f10" ||
		rows[0].Cells[0].InOctets != 50 || rows[0].Cells[0].OutOctets != 700 {
		t.Errorf("%+v", rows)
	}
	dropped(t, tab, map[string]uint64{"restart": 1, "no-interface": 1})
}

// The sources are bounded. What they have counted is taken in parts, the sources heard of first.
func TestBounds(t *testing.T) {
	tab := New(3)
	in := feed(t, tab)
	for i := range uint32(100) { // a sample every half minute
		in(minute*10+int64(i)*30*second, datagram(i*30000, i, 3, port(uint64(i)*10, 0, 0, 0)...))
		in(minute*10+int64(i)*30*second+1, datagram(i*30000, i, 4, port(uint64(i)*100, 0, 0, 0)...))
	}
	for _, want := range []uint64{990, 9900} {
		rows := tab.Take(1)
		if len(rows) != 1 || len(rows[0].Cells) < 50 {
			t.Fatalf("%+v", rows)
		}
		n := uint64(0)
		for _, c := range rows[0].Cells {
			n += c.InOctets
		}
		if n != want {
			t.Errorf("%d octets, want %d", n, want)
		}
	}
	if rows := tab.Take(1); len(rows) > 0 {
		t.Errorf("%+v", rows)
	}
	late := minute*10 + 100*30*second
	for i := range uint32(5) { // beyond the bound a new source finds no room while the others speak
		in(late, datagram(100*30000, i, 10+i, port(0, 0, 0, 0)...))
	}
	if tab.Sources() != 3 {
		t.Errorf("%d sources", tab.Sources())
	}
	dropped(t, tab, map[string]uint64{"restart": 3, "no-room": 4})
	in(late+2*int64(time.Hour), datagram(1, 1, 99, port(0, 0, 0, 0)...))
	if tab.Sources() != 3 || tab.sources[Key{Agent: flow.V4([]byte{10, 0, 0, 9}), Domain: 7, Index: 99}] == nil {
		t.Errorf("%d sources", tab.Sources())
	}
}

// Whatever comes, the books balance and time does not run backwards.
func FuzzAdd(f *testing.F) {
	f.Add(datagram(1000, 1, 3, port(1, 2, 3, 4)...), datagram(2000, 2, 3, port(5, 6, 7, 8)...), int64(second))
	f.Add(datagram(1000, 1, 3<<24, opaque(2104, words(0, 1, 4, 0, 0, 0, 2, 8, 0, 0))), datagram(0, 2, 3, port(5, 6, 7, 8)...), int64(-1))
	f.Fuzz(func(t *testing.T, a, b []byte, after int64) {
		tab := New(2)
		s := flowproto.NewSession(flowproto.Limits{})
		s.OnCounters(tab.Add)
		_, _, _ = s.Decode(a, minute, nil)
		_, _, _ = s.Decode(b, minute+after%int64(time.Hour), nil)
		_, _, _ = s.Decode(a, minute+2*(after%int64(time.Hour)), nil)
		if err := tab.Book().Balance(); err != nil {
			t.Error(err)
		}
		for _, r := range tab.Take(math.MaxInt) {
			for i, c := range r.Cells {
				if c.ToNS <= c.FromNS || i > 0 && c.FromNS < r.Cells[i-1].ToNS {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}
