package groom_test

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// alike makes frames of a few lengths whose first and last bytes are nearly always the same: only some byte in between tells them apart.
func alike(r *rand.Rand, n int) (all []frame.Frame) {
	for i := range n {
		b := make([]byte, []int{1, 15, 16, 40, 63, 64, 65, 100, 200, 1500}[r.Intn(10)])
		if len(b) > 90 {
			b[70+r.Intn(3)] = byte(r.Intn(3))
		}
		b[r.Intn(2)*(len(b)-1)] = byte(r.Intn(2))
		all = append(all, frame.Frame{Data: b, OrigLen: len(b), TimeNS: 1e9 + int64(i)*ms - r.Int63n(3*ms), Point: uint32(r.Intn(3)), Link: frame.LinkEthernet})
	}
	return all
}

// obvious drops duplicates of whole frames by looking at everything that passed.
func obvious(frames []frame.Frame, window int64, packets int, samePoint bool) (passed []int) {
	type original struct {
		data   string
		at     int64
		number int
		points map[uint32]bool
	}
	var list []*original
	for i, f := range frames {
		var first *original
		for _, o := range list {
			age := f.TimeNS - o.at
			if o.data != string(f.Data) || age > window || -age > window || i-o.number > packets || !samePoint && o.points[f.Point] {
				continue
			}
			if first == nil || o.at < first.at {
				first = o
			}
		}
		switch {
		case first == nil:
			passed = append(passed, i)
			list = append(list, &original{string(f.Data), f.TimeNS, i, map[uint32]bool{f.Point: true}})
		case samePoint:
			first.at, first.number = f.TimeNS, i
		default:
			first.points[f.Point] = true
		}
	}
	return passed
}

// TestDedupOfWholeFrames compares windows of a few frames and of more with the obvious way, however the frames are divided into batches.
func TestDedupOfWholeFrames(t *testing.T) {
	for seed := range int64(3) {
		r := rand.New(rand.NewSource(seed))
		frames := alike(r, 1500)
		for _, packets := range []int{1, 4, 60, 127, 128, 129, 400, 1024, 4097} {
			for _, same := range []bool{false, true} {
				flags := fmt.Sprintf("dedup=100ms/frame/packets=%d", packets)
				if same {
					flags += "/same-point"
				}
				p := pipeline(t, flags)
				var got []frame.Frame
				for rest := frames; len(rest) > 0; {
					n := min(len(rest), 1+r.Intn([]int{1, 30, 700}[r.Intn(3)]))
					got = append(got, apply(t, p, slices.Clone(rest[:n]))[0]...)
					rest = rest[n:]
				}
				var want []frame.Frame
				for _, i := range obvious(frames, 100*ms, packets, same) {
					want = append(want, frames[i])
				}
				if diff := cmp.Diff(times(want), times(got)); diff != "" {
					t.Fatalf("seed %d: %s: (-obvious, +ours passed)\n%s", seed, flags, diff)
				}
			}
		}
	}
}

// times tells frames apart well enough.
func times(frames []frame.Frame) (all []string) {
	for _, f := range frames {
		all = append(all, fmt.Sprint(f.TimeNS, f.Point, len(f.Data)))
	}
	return all
}

// TestDedupForgetsBytes reuses the memory of a batch for the next: what a batch held is not looked at after its end.
func TestDedupForgetsBytes(t *testing.T) {
	p := pipeline(t, "dedup=1h/same-point/frame/packets=4")
	b := make([]byte, 200)
	one := func(middle byte) int {
		b[100] = middle
		return len(apply(t, p, []frame.Frame{{Data: b, OrigLen: len(b), Link: frame.LinkEthernet}})[0])
	}
	for i, want := range []struct {
		middle byte
		passes int
	}{{1, 1}, {2, 1}, {2, 0}, {1, 0}, {3, 1}} {
		if got := one(want.middle); got != want.passes {
			t.Errorf("frame %d: %d passed, want %d", i, got, want.passes)
		}
	}
}

// TestDedupDoesNotAllocate passes a batch of new frames, one of duplicates, and one of both.
func TestDedupDoesNotAllocate(t *testing.T) {
	all := imix(256)
	for _, flags := range []string{"dedup/same-point/frame/packets=4", "dedup/same-point/frame/packets=128", "dedup/same-point/frame", "dedup/same-point", "dedup"} {
		p := pipeline(t, flags)
		emit := func(_ int, b frame.Batch) bool { b.Release(); return true }
		n := int64(0)
		if allocs := testkit.Allocs(50, func() {
			if n++; n%3 == 0 {
				for i := range all[:100] {
					all[i].TimeNS += 3600e9
				}
			}
			p.Apply(frame.Batch{Frames: all[:200]}, emit)
			p.Apply(frame.Batch{Frames: all[100:]}, emit)
		}); allocs != 0 {
			t.Errorf("%s: %v allocations", flags, allocs)
		}
	}
}
