package kernel

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// ringed returns a feed whose ring a program fills, and the program: each run puts a frame in.
func ringed(t testing.TB, keep, size int) (*feed, func(data []byte)) {
	testkit.Root(t)
	h, err := NewHeaders(HeadersConfig{Config: Config{Interfaces: []string{"none"}}, Keep: keep, RingBytes: size})
	if err != nil {
		t.Fatal(err)
	}
	if h.ring, err = newRing(size, keep); err != nil {
		t.Fatal(err)
	}
	h.feed.ring, h.feed.line = h.ring, &h.line
	k := &hook{link: frame.LinkEthernet, dir: frame.Egress}
	if k.stats, err = newStats(); err != nil {
		t.Fatal(err)
	}
	ins, err := h.program(k)
	if err == nil {
		k.prog, err = load("xt_test", ins)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.close(); h.ring.close() })
	return &h.feed, func(data []byte) {
		t.Helper()
		if _, _, err := k.prog.Benchmark(data, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Frames come out of the ring as they went in, cut to what is kept; memory that is lent out of order is given back in order.
func TestRing(t *testing.T) {
	for _, keep := range []int{MinKeep, 96, 111, inPlace, inPlace + 1} {
		t.Run(strconv.Itoa(keep), func(t *testing.T) { ringKeeps(t, keep) })
	}
}

func ringKeeps(t *testing.T, keep int) {
	f, put := ringed(t, keep, 1<<16)
	number := func(n int) []byte {
		return binary.BigEndian.AppendUint32(bytes.Repeat([]byte{byte(n)}, 56+n%260), uint32(n))
	}
	var lent []frame.Batch
	n, read := 0, 0
	for round := range 200 { // several times around
		for range 3 + round%5 {
			put(number(n))
			n++
		}
		b, got := f.batch()
		for i, x := range b.Frames {
			want := number(read + i)
			if diff := cmp.Diff(want[:min(len(want), keep)], x.Data); diff != "" || x.OrigLen != len(want) || x.Dir != frame.Egress || x.TimeNS == 0 {
				t.Fatalf("frame %d: %+v\n%s", read+i, x, diff)
			}
		}
		read += got
		if lent = append(lent, b); len(lent) == 4 {
			for _, i := range []int{2, 0, 3, 1} {
				lent[i].Release()
			}
			lent = nil
		}
	}
	for i := range lent {
		lent[i].Release()
	}
	if read != n || f.ring.out() || f.ring.waiting() != 0 {
		t.Errorf("%d frames of %d; lent %t, waiting %d", read, n, f.ring.out(), f.ring.waiting())
	}
}

// Frames of several processors come in the order of their times. One that is still being written has the younger ones wait.
func TestLanes(t *testing.T) {
	f, put := ringed(t, MinKeep, 1<<18)
	cpus, move := onEach(t)
	if cpus < 2 {
		t.Skip("one processor")
	}
	number := func(n int) []byte { return binary.BigEndian.AppendUint32(make([]byte, 60), uint32(n)) }
	n := 0
	for round := range 50 {
		move(round % cpus)
		for range 1 + round%3 {
			put(number(n))
			n++
		}
	}
	got, last := 0, int64(0)
	for b, k := f.batch(); k > 0; b, k = f.batch() {
		for _, x := range b.Frames {
			if diff := cmp.Diff(number(got), x.Data); diff != "" || x.TimeNS < last {
				t.Fatalf("frame %d, %d ns after the one before (-want +got)\n%s", got, x.TimeNS-last, diff)
			}
			got, last = got+1, x.TimeNS
		}
		b.Release()
	}
	if got != n {
		t.Fatalf("%d frames of %d", got, n)
	}
	lane, place := f.claim(func() { move(0); put(number(0)) })
	b, _ := f.batch()
	b.Release()
	move(1)
	put(number(1))
	if _, k := f.batch(); k != 0 {
		t.Fatal("a frame came before one that was taken a place for earlier")
	}
	e, _ := f.ring.entry(lane, place)
	binary.NativeEndian.PutUint64(e[entryTime:], 1)
	binary.NativeEndian.PutUint32(e[entryLen:], 60)
	binary.NativeEndian.PutUint32(e[entryKept:], 60)
	binary.NativeEndian.PutUint32(e[entryNumber:], uint32(place+1))
	b, k := f.batch()
	if k != 2 || b.Frames[0].OrigLen != 60 || b.Frames[1].OrigLen != 64 {
		t.Errorf("%d frames: %+v", k, b.Frames)
	}
	b.Release()
}

// claim takes a place in the lane that put writes to, and does not fill it.
func (f *feed) claim(put func()) (lane int, place uint64) {
	var before []uint64
	for i := range f.ring.lanes {
		before = append(before, f.ring.next(i).Load())
	}
	put()
	for f.ring.next(lane).Load() == before[lane] {
		lane++
	}
	return lane, f.ring.next(lane).Add(1) - 1
}

// A full ring loses frames, and takes new ones when there is room.
func TestRingFull(t *testing.T) {
	f, put := ringed(t, 512, 1<<16)
	onOne(t)
	lanes := len(f.ring.lanes)
	for range 500 {
		put(make([]byte, 600))
	}
	n := 0
	for b, got := f.batch(); got > 0; b, got = f.batch() {
		n += got
		b.Release()
	}
	if n < 64/lanes || n > 128/lanes {
		t.Errorf("%d entries of 544 bytes came out of one of %d lanes of a ring of 65536 or so", n, lanes)
	}
	put(make([]byte, 600))
	if _, got := f.batch(); got != 1 {
		t.Errorf("%d frames after it was emptied", got)
	}
}

// The reader of a ring is woken when it is half full, and not before.
func TestBell(t *testing.T) {
	c := newCounting(t, nearLeast, 1)
	b, err := newBell(c.f.ring)
	fail(t, err)
	t.Cleanup(b.close)
	half := c.f.ring.mask/2 + 1
	other := make([]byte, 300) // not IP
	onOne(t)
	for range half - 1 {
		c.send(other)
	}
	select {
	case <-b.rung:
		t.Fatal("woken too early")
	default:
	}
	for range 64 { // one in 32 looks
		c.send(other)
	}
	select {
	case <-b.rung:
	case <-time.After(time.Minute):
		t.Fatal("not woken")
	}
	for _, n := c.f.feed.batch(); n > 0; _, n = c.f.feed.batch() {
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	f, put := ringed(t, 96, 1<<20)
	for range 5000 {
		put(make([]byte, 200))
	}
	read := func() {
		_, loan := f.ring.read(16, f)
		loan.release()
	}
	read()
	if n := testkit.Allocs(50, read); n != 0 {
		t.Errorf("%v allocations for 16 frames", n)
	}
}

// FuzzFilter has the kernel's verifier look at the program of any expression: what compiles must load.
func FuzzFilter(f *testing.F) {
	testkit.Root(f)
	for _, s := range []string{"tcp port 80", "vlan 5 and ip6", "ether[ip[0]*4] = 3", "ip[0] / ip[1] > 2", "len << ip[2] = 7", "not (udp or vxlan 5)", "geneve and host ::1", "portrange 1-9 or mpls"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		if len(expr) > 200 {
			return
		}
		prog, err := compile(expr, frame.LinkEthernet, filter.Options{})
		if err != nil || prog == nil || len(prog) > 2000 {
			return
		}
		p, err := decide(prog)
		if err != nil {
			t.Fatalf("%q: %v", expr, err)
		}
		p.Close()
	})
}
