package kernel

import (
	"fmt"
	"math/bits"
	"sync"

	"github.com/cilium/ebpf"

	"crosstap/internal/frame"
)

// ring is what programs hand frames to user space through: entries of one size, in memory that both have. A program takes the next place by adding
// to the programs' position, fills the entry, and writes its number last; it calls nothing of the kernel for that. The reader takes entries in the order of
// their places, as far as they have their number, and gives places back by its own position.
type ring struct {
	entries *ebpf.Map
	places  *ebpf.Map // the two positions
	bell    *ebpf.Map // a ring buffer of the kernel, by which the reader is woken
	mem     mapped
	place   mapped
	size    int    // of an entry
	mask    uint64 // of the number of entries, a power of two
	spare   uint64 // entries that stay free, for programs that take places at the same moment
	next    uint64 // place of the next entry to read

	mu    sync.Mutex
	loans []*ringLoan // oldest first
	idle  []*ringLoan
}

// ringLoan is a part of the ring that somebody reads, and the frames in it.
type ringLoan struct {
	ring   *ring
	end    uint64 // place behind it
	back   bool
	frames []frame.Frame
	free   func() // bound once, so that releasing does not allocate
}

// Places of the positions, each on a cache line of its own.
const (
	placeNext = 0  // u64, of programs
	placeRead = 64 // u64, of the reader
	placeLen  = 128
)

// bellBytes is the size of the kernel's ring buffer that wakes the reader: a page of the largest that there are.
const bellBytes = 1 << 16

// newRing makes a ring of about size bytes for entries of which each has up to keep bytes of a frame.
func newRing(size, keep int) (r *ring, err error) {
	cpus, err := statLines()
	if err != nil {
		return nil, err
	}
	r = &ring{size: (entryHead + keep + 7) &^ 7, spare: uint64(cpus)}
	n := max(nearestPower(size/r.size), 4*cpus)
	r.mask = uint64(n - 1)
	defer func() {
		if err != nil {
			r.close()
			r, err = nil, fmt.Errorf("ring of %d bytes: %w", size, permission(err))
		}
	}()
	if r.bell, err = ebpf.NewMap(&ebpf.MapSpec{Name: "xt_bell", Type: ebpf.RingBuf, MaxEntries: bellBytes}); err != nil {
		return r, err
	}
	if r.places, r.place, err = newMapped("xt_places", placeLen, 1); err != nil {
		return r, err
	}
	r.entries, r.mem, err = newMapped("xt_ring", r.size, n)
	return r, err
}

// nearestPower returns the power of two that is nearest to n.
func nearestPower(n int) int {
	p := 1 << (bits.Len(uint(max(n, 1))) - 1)
	if n-p > p/2 {
		p *= 2
	}
	return p
}

// close unmaps the ring. Nobody may read from it any more.
func (r *ring) close() {
	closeMapped([]*ebpf.Map{r.entries, r.places, r.bell}, r.mem, r.place)
}

// loan returns a loan that nobody has.
func (r *ring) loan() *ringLoan {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.idle); n > 0 {
		l := r.idle[n-1]
		r.idle = r.idle[:n-1]
		return l
	}
	l := &ringLoan{ring: r}
	l.free = l.release
	return l
}

// reader takes the entries of a ring, whose memory belongs to the loan.
type reader interface {
	take(l *ringLoan, entry []byte)
}

// read gives to up to most entries that are complete and returns how many, with a loan of their memory: give it back once.
func (r *ring) read(most int, to reader) (n int, l *ringLoan) {
	start := r.next
	if !r.complete(start) {
		return 0, nil
	}
	l = r.loan()
	for n < most && r.complete(r.next) {
		at := int(r.next&r.mask) * r.size
		r.next++
		if e := r.mem[at : at+r.size : at+r.size]; !givenUp(e) {
			to.take(l, e)
			n++
		}
	}
	l.end, l.back = r.next, false
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loans = append(r.loans, l)
	return n, l
}

// complete reports whether the entry of a place is there. Entries are numbered from 1 on, so that fresh memory has none.
func (r *ring) complete(place uint64) bool {
	return r.mem.u32(int(place&r.mask)*r.size+entryNumber).Load() == uint32(place+1)
}

// release gives a loan back. The programs may write again up to the oldest one that is still out.
func (l *ringLoan) release() {
	r := l.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	l.back = true
	done := 0
	for done < len(r.loans) && r.loans[done].back {
		x := r.loans[done]
		r.place.u64(placeRead).Store(x.end)
		x.frames = x.frames[:0]
		r.idle = append(r.idle, x)
		done++
	}
	r.loans = append(r.loans[:0], r.loans[done:]...)
}

// waiting returns how much of the ring is in use, in parts of 256.
func (r *ring) waiting() uint64 {
	used := r.place.u64(placeNext).Load() - r.place.u64(placeRead).Load()
	return used << 8 / (r.mask + 1)
}

// out returns whether loans are out.
func (r *ring) out() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.loans) > 0
}
