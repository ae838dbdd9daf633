package deliver

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
)

// passing reads a capture and writes it again, after change had its way with each batch; with stored bytes, or without. What it returns
// ends in front of the statistics, which tell the time.
func passing(tb testing.TB, in []byte, c FileConfig, stored bool, change func(*frame.Batch)) []byte {
	tb.Helper()
	src, err := capture.NewFile(capture.FileConfig{Reader: bytes.NewReader(in), Path: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	c.Path, c.Stdout, c.Unit = "-", &out, src.Unit
	sink, err := NewFile(c)
	if err == nil {
		err = sink.Begin()
	}
	if err != nil {
		tb.Fatal(err)
	}
	_ = src.Each(context.Background(), func(b frame.Batch) bool { // what is there of a damaged one
		if !stored {
			b.Records, b.Intact = nil, 0
		}
		change(&b)
		sink.Take(b)
		return true
	})
	_ = sink.End(nil) // several link types
	if s := sink.Book().Read(); s.Balance() != nil || s.Held != 0 {
		tb.Errorf("%+v", s)
	}
	all := out.Bytes()
	for n := 0; c.Format == Pcapng && n < len(all); n += int(binary.LittleEndian.Uint32(all[n+4:])) {
		if binary.LittleEndian.Uint32(all[n:]) == blockStatistics {
			return all[:n]
		}
	}
	return all
}

// sameEitherWay passes a capture on in both formats, with and without its stored bytes, after each change.
func sameEitherWay(tb testing.TB, in []byte, seed int64) {
	tb.Helper()
	for way := range 2 * len(changes) {
		sameOneWay(tb, in, seed, way)
	}
}

// sameOneWay does that for one format and one change, by their number.
func sameOneWay(tb testing.TB, in []byte, seed int64, way int) {
	tb.Helper()
	name := slices.Sorted(maps.Keys(changes))[way/2%len(changes)]
	c := FileConfig{Format: Format(way % 2), Label: func(uint16) string { return "label" }}
	pass := func(stored bool) []byte {
		r := rand.New(rand.NewSource(seed))
		return passing(tb, in, c, stored, func(b *frame.Batch) { changes[name](r, b) })
	}
	if a, b := pass(true), pass(false); !bytes.Equal(a, b) {
		tb.Errorf("%v, %s: %d bytes with stored ones, %d without, or not the same", c.Format, name, len(a), len(b))
	}
}

// changes are what stages may do. Those that change frames in their place say so.
var changes = map[string]func(*rand.Rand, *frame.Batch){
	"nothing": func(*rand.Rand, *frame.Batch) {},
	"dropped": func(r *rand.Rand, b *frame.Batch) {
		n := 0
		for _, f := range b.Frames {
			if r.Intn(20) > 0 {
				b.Frames[n] = f
				n++
			}
		}
		b.Frames = b.Frames[:n]
	},
	"cut": func(r *rand.Rand, b *frame.Batch) {
		b.Intact = 0
		for i := range b.Frames {
			if f := &b.Frames[i]; r.Intn(20) == 0 {
				f.Data = f.Data[:len(f.Data)/2]
			}
		}
	},
	"copied": func(r *rand.Rand, b *frame.Batch) {
		b.Intact = 0
		for i := range b.Frames {
			if f := &b.Frames[i]; r.Intn(20) == 0 {
				f.Data = bytes.Repeat([]byte{7}, len(f.Data))
			}
		}
	},
	"told otherwise": func(r *rand.Rand, b *frame.Batch) {
		b.Intact = 0
		for i := range b.Frames {
			switch f := &b.Frames[i]; r.Intn(60) {
			case 0:
				f.TimeNS++
			case 1:
				f.OrigLen++
			case 2:
				f.Dir = frame.Egress
			case 3:
				f.Tag = 1
			case 4:
				f.Point++
			case 5:
				f.Data = f.Data[len(f.Data)/2:]
			}
		}
	},
	"in another order": func(r *rand.Rand, b *frame.Batch) {
		b.Intact = 0
		r.Shuffle(len(b.Frames), func(i, j int) { b.Frames[i], b.Frames[j] = b.Frames[j], b.Frames[i] })
	},
	"doubled": func(_ *rand.Rand, b *frame.Batch) {
		b.Frames = append(b.Frames[:len(b.Frames):len(b.Frames)], b.Frames...)
	},
}

// someCapture makes a capture of n frames.
func someCapture(tb testing.TB, c FileConfig, unit time.Duration, n int) []byte {
	tb.Helper()
	var out bytes.Buffer
	c.Path, c.Stdout, c.Unit = "-", &out, func() time.Duration { return unit }
	f, err := NewFile(c)
	if err == nil {
		err = f.Begin()
	}
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewSource(int64(n)))
	for i := range n {
		data := make([]byte, []int{0, 1, 2, 3, 60, 61, 62, 200, 1500, 9000}[r.Intn(10)])
		r.Read(data)
		x := frame.Frame{Data: data, OrigLen: len(data) + r.Intn(2), TimeNS: 1_700_000_000_000_000_000 + int64(i)*1_234_567, Link: frame.LinkEthernet, Dir: frame.Unknown}
		if c.Format == Pcapng {
			x.Point, x.Dir = uint32(r.Intn(40)/39), []frame.Direction{frame.Ingress, frame.Egress, frame.Unknown}[r.Intn(3)]
		}
		f.Take(frame.Batch{Frames: []frame.Frame{x}})
	}
	if err := f.End(nil); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// TestStored writes what was read, whatever happened to it in between, as if there were no stored bytes.
func TestStored(t *testing.T) {
	for _, n := range []int{1, 3, 900} {
		sameEitherWay(t, someCapture(t, FileConfig{Format: Pcap}, time.Microsecond, n), 1)
		sameEitherWay(t, someCapture(t, FileConfig{Format: Pcap}, time.Nanosecond, n), 2)
		sameEitherWay(t, someCapture(t, FileConfig{Format: Pcapng}, 0, n), 3)
	}
}

// TestPassedOn sees that a file that nothing changes is the same file again, in its unit, and that its bytes are not copied.
func TestPassedOn(t *testing.T) {
	f := func(format Format, unit time.Duration) {
		t.Helper()
		in := someCapture(t, FileConfig{Format: format}, unit, 900)
		largest, batches := 0, 0
		out := passing(t, in, FileConfig{Format: format}, true, func(b *frame.Batch) {
			largest, batches = max(largest, len(b.Records)), batches+1
		})
		if format == Pcapng {
			in = in[:len(out)]
		}
		if !bytes.Equal(in, out) {
			t.Errorf("%v, %v: %d bytes became %d, or others", format, unit, len(in), len(out))
		}
		if largest < 2*directBytes || batches < 2 {
			t.Errorf("%v: %d batches of at most %d bytes", format, batches, largest)
		}
	}
	f(Pcap, time.Microsecond)
	f(Pcap, time.Nanosecond)
	f(Pcapng, 0)
}

// FuzzStored passes on what may be a capture, one way each time: the seed chooses it.
func FuzzStored(f *testing.F) {
	f.Add(someCapture(f, FileConfig{Format: Pcap}, time.Microsecond, 5), int64(1))
	f.Add(someCapture(f, FileConfig{Format: Pcap}, time.Nanosecond, 5), int64(2))
	f.Add(someCapture(f, FileConfig{Format: Pcapng}, 0, 5), int64(3))
	f.Fuzz(func(t *testing.T, in []byte, seed int64) {
		sameOneWay(t, in, seed, int(uint64(seed)%uint64(2*len(changes))))
	})
}
