package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
)

const second = int64(1e9)

// Parts of a cell add up to it, in whatever places it is cut.
func TestCutCounts(t *testing.T) {
	c := CountCell{FromNS: 10 * second, ToNS: 40 * second, InOctets: 1<<64 - 1, OutOctets: 7, InPackets: 30, OutPackets: 0}
	f := func(from, to int64, want CountCell, ok bool) {
		t.Helper()
		got, in := c.Cut(from*second, to*second)
		if d := cmp.Diff(want, got); d != "" || in != ok {
			t.Errorf("%d to %d: %v %s", from, to, in, d)
		}
	}
	f(0, 10, CountCell{}, false)
	f(40, 50, CountCell{}, false)
	f(0, 99, c, true)
	f(10, 25, CountCell{10 * second, 25 * second, 1<<63 - 1, 3, 15, 0}, true)
	f(25, 40, CountCell{25 * second, 40 * second, 1 << 63, 4, 15, 0}, true)
	f(11, 12, CountCell{11 * second, 12 * second, 1<<64/30 + 1, 0, 1, 0}, true)
}

// Of a long cell the last hours are told, and minutes of the last two.
func TestSlots(t *testing.T) {
	count := func(c CountCell) (hours, minutes int, octets uint64) {
		c.Slots(func(width, slot int64, part CountCell) {
			if slot%width != 0 || part.FromNS < slot || part.ToNS > slot+width {
				t.Errorf("%+v in slot %d of %d", part, slot, width)
			}
			if width == CountHour {
				hours++
				octets += part.InOctets
			} else {
				minutes++
			}
		})
		return hours, minutes, octets
	}
	f := func(fromMin, toMin int64, hours, minutes int, octets uint64) {
		t.Helper()
		h, m, o := count(CountCell{FromNS: fromMin * CountMinute, ToNS: toMin * CountMinute, InOctets: 1000})
		if h != hours || m != minutes || o != octets {
			t.Errorf("%d to %d: %d hours, %d minutes, %d octets; want %d, %d, %d", fromMin, toMin, h, m, o, hours, minutes, octets)
		}
	}
	f(600, 601, 1, 1, 1000)
	f(659, 661, 2, 2, 1000)
	f(600, 660, 1, 60, 1000)
	f(600, 900, 5, 120, 1000)
	f(0, 60*1000, CountHours, 120, 192)
}

// TestCountsWire: bytes written by hand are read, and what is written is read again.
func TestCountsWire(t *testing.T) {
	hand := []byte{
		0x12, 2, 'a', 'b', 0x18, 7, // feed, seq
		0x22, 18 + 2 + 6 + 10, // a count
		0x0a, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9, // agent
		0x20, 3, // index
		0x2a, 4, 'e', 't', 'h', '0', // name
		0x72, 8, 0x08, 1, 0x10, 2, 0x18, 5, 0x30, 6, // a cell: from, to, octets in, packets out
	}
	want := Counts{Feed: "ab", Seq: 7, List: []Count{{CountKey: CountKey{Agent: flow.V4([]byte{10, 0, 0, 9}), Index: 3}, Name: "eth0", Cells: []CountCell{{FromNS: 1, ToNS: 2, InOctets: 5, OutPackets: 6}}}}}
	got, err := ParseCounts(hand)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	want.List[0].Owner = Owner{Fabric: "f", Host: "h", VM: "v", VMID: "i", Reason: "r", FromNS: 1, ToNS: 1 << 61}
	want.List[0].UUID, want.List[0].Domain, want.List[0].Class = "u", 1<<32-1, 3
	if got, err = ParseCounts(want.Append(nil)); err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v %s", err, cmp.Diff(want, got))
	}
	for _, bad := range []string{"\x12", "\x22\x02\x0a\x05", "\x22\x03\x0a\x01\x00", "\x22\x04\x72\x02\x08\x01", "\x07"} {
		if c, err := ParseCounts([]byte(bad)); err == nil {
			t.Errorf("%x: %+v", bad, c)
		}
	}
}

// Whatever comes, what is read can be written and read again, and cut into slots.
func FuzzParseCounts(f *testing.F) {
	c := Counts{Feed: "f", Seq: 1, List: []Count{{Name: "vnet0", Owner: Owner{VM: "web"}, Cells: []CountCell{{FromNS: 1, ToNS: 1e18, InOctets: 9}}}}}
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCounts(b)
		if err != nil {
			return
		}
		again, err := ParseCounts(c.Append(nil))
		if err != nil || !cmp.Equal(c, again) {
			t.Fatalf("%v %s", err, cmp.Diff(c, again))
		}
		for _, x := range c.List {
			for _, cell := range x.Cells {
				n := 0
				cell.Slots(func(_, _ int64, _ CountCell) { n++ })
				if n > CountHours+120 {
					t.Fatalf("%+v in %d slots", cell, n)
				}
			}
		}
	})
}
