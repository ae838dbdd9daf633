package meter

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/capture"
	"crosstap/internal/testkit"
)

// ways makes arrivals of a frame the short way and the long way, and reports whether the short one took it. They must be the same.
func ways(t *testing.T, f *frame.Frame, k Key) bool {
	t.Helper()
	c := DefaultConfig()
	c.Key = k
	return sameWays(t, &front{cfg: &c, frames: ledger.New("meter", ledger.Frames, "a", "b", "c", "d", "e"), hasher: &hasher{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}}, f)
}

func sameWays(t *testing.T, w *front, f *frame.Frame) bool {
	t.Helper()
	var short, long arrival
	var pc piece
	taken := w.plain(&short, f)
	var q brief
	switch way := w.brief(&q, f); {
	case way == wayDissected && taken:
		t.Errorf("plain takes it: %+v", f)
	case way == wayBrief && !taken:
		t.Errorf("in brief, though plain does not take it: %+v", f)
	case way == wayBrief:
		sameBrief(t, f, &q, &short)
	}
	if !taken {
		return false
	}
	if !w.dissected(&long, &pc, f) {
		t.Errorf("counted, though it is not to be: %+v", f)
		return true
	}
	if !reflect.DeepEqual(short, long) {
		t.Errorf("%+v\nshort %+v\nlong  %+v", f, short, long)
	}
	return true
}

// sameBrief compares what is counted of a frame in brief with its arrival.
func sameBrief(t *testing.T, f *frame.Frame, q *brief, a *arrival) {
	t.Helper()
	var e entry
	e.setKey(&a.key)
	one := size{packets: 1, octets: uint64(q.octets), l2Octets: uint64(q.l2Octets), minLen: q.octets, maxLen: q.octets}
	if e.brief != q.key || !e.brief.whole() || q.hash != a.hash || q.timeNS != a.timeNS || one != a.size || q.ttl != a.ttl || q.states&sLook != 0 != (len(a.payload) > 0) {
		t.Errorf("%+v\nin brief %+v\narrival  %+v", f, q, a)
	}
	if a.sequenced && (q.seq != a.seq || q.seqLen != a.seqLen || q.tcpFlags != a.tcpFlags || a.zeroWindow || a.tcpFlags&(tcpSYN|tcpFIN|tcpRST) != 0) {
		t.Errorf("%+v\nin brief %+v\narrival  %+v", f, q, a)
	}
}

// TestPlainIsTheSame finds the same arrivals by the short way, where there is one, as by the dissector: of all frames of the corpus, and of them cut,
// changed and with virtio headers.
func TestPlainIsTheSame(t *testing.T) {
	all, taken, random := 0, 0, rand.New(rand.NewPCG(1, 2))
	c := DefaultConfig()
	h := newHasher()
	w := &front{cfg: &c, frames: ledger.New("meter", ledger.Frames, "a", "b", "c", "d", "e"), hasher: &h}
	check := func(f frame.Frame) {
		c.Key = Key(random.IntN(3))
		all++
		if sameWays(t, w, &f) {
			taken++
		}
	}
	err := filepath.WalkDir(testkit.Corpus(t, "."), func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".pcap" && ext != ".pcapng" && ext != ".trace" {
			return err
		}
		src, err := capture.NewFile(capture.FileConfig{Path: path})
		if err != nil {
			return err
		}
		_ = src.Each(context.Background(), func(b frame.Batch) bool { // what is there of a damaged one
			for _, f := range b.Frames {
				check(f)
				if len(f.Data) == 0 {
					continue
				}
				g := f
				for range 20 {
					g.Data = append(g.Data[:0:0], f.Data...)
					g.Data[random.IntN(min(len(g.Data), 80))] ^= byte(1 << random.IntN(8))
					check(g)
					g.Data[random.IntN(min(len(g.Data), 80))] = byte(random.Uint32())
					g.Data = g.Data[:random.IntN(len(g.Data))+1]
					check(g)
				}
				f.VNet.Type, f.VNet.Segment, f.Dir, f.Point = uint8(random.IntN(6)), uint16(random.IntN(2)*100), frame.Direction(random.IntN(3)), random.Uint32()
				check(f)
			}
			b.Release()
			return !t.Failed()
		})
		return nil
	})
	if err != nil || taken < 100000 {
		t.Errorf("%d frames, %d of them plain: %v", all, taken, err)
	}
	t.Logf("%d frames, %d of them plain", all, taken)
}

// FuzzPlain compares both ways on any bytes.
func FuzzPlain(f *testing.F) {
	f.Add(packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, payload: 50, flags: 2}.bytes(), uint16(100), uint8(0))
	f.Add(packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, payload: 50, vlan: 7}.bytes(), uint16(0), uint8(1))
	f.Add(packet{src: "fd00::1", dst: "fd00::2", proto: 6, payload: 5, flags: 1}.bytes(), uint16(200), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, n uint16, k uint8) {
		ways(t, &frame.Frame{Data: b, OrigLen: int(n), TimeNS: 7, Link: frame.LinkEthernet, Point: uint32(n), Dir: frame.Direction(k / 3 % 3)}, Key(k%3))
	})
}

// TestSameKey sees every bit of a key.
func TestSameKey(t *testing.T) {
	var a key
	for i := range a {
		a[i] = uint64(i) * 12345
	}
	sees(t, &a)
	a = key{5<<16 | 7, 6 << 16, 1<<48 | 2<<32 | 17<<24 | 1<<placeShift, 9 << 32, 0, v4Prefix | 3<<32, 0, v4Prefix | 4<<32}
	if !a.brief() {
		t.Error("no brief")
	}
	sees(t, &a)
}

// sees checks that a flow has its own key and none that differs from it by a bit.
func sees(t *testing.T, a *key) {
	t.Helper()
	var e entry
	e.setKey(a)
	if got := e.key(); got != *a {
		t.Errorf("key %x: %x", *a, got)
	}
	if !e.same(a) {
		t.Error("the same")
	}
	for bit := range 64 * len(a) {
		if bit/64 == 2 && bit%64 >= placeShift+3 && bit%64 < placeShift+8 { // no key has these
			continue
		}
		b := *a
		if b[bit/64] ^= 1 << (bit % 64); e.same(&b) {
			t.Errorf("bit %d", bit)
		}
	}
}

// TestPlainDoesNotAllocate meters plain frames.
func TestPlainDoesNotAllocate(t *testing.T) {
	m, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	l := m.Begin(nil)
	defer func() { l.s.cache.release() }()
	var frames []frame.Frame
	for i := range 64 {
		b := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: uint16(i), dstPort: 9, payload: 18}.bytes()
		frames = append(frames, frame.Frame{Data: b, OrigLen: len(b), TimeNS: 1, Link: frame.LinkEthernet})
	}
	if n := testkit.Allocs(100, func() { l.Look(); l.Take(frame.Batch{Frames: frames}) }); n != 0 {
		t.Errorf("%v allocations for %d frames", n, len(frames))
	}
}

// BenchmarkArrive makes arrivals of frames by both ways.
func BenchmarkArrive(b *testing.B) {
	c := DefaultConfig()
	h := newHasher()
	w := &front{cfg: &c, hasher: &h}
	data := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 5, dstPort: 9, payload: 18}.bytes()
	f := frame.Frame{Data: data, OrigLen: len(data), TimeNS: 1, Link: frame.LinkEthernet}
	var a arrival
	var pc piece
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			w.plain(&a, &f)
		}
	})
	b.Run("dissected", func(b *testing.B) {
		for b.Loop() {
			w.dissected(&a, &pc, &f)
		}
	})
}
