package kernel

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"crosstap/internal/frame"
)

// ring is what programs hand frames to user space through: entries of one size, in memory that both have. It has lanes, so that processors do not wait for
// each other's memory. A program takes the next place of its processor's lane by adding to the lane's position, fills the entry, and writes its number
// last; it calls nothing of the kernel for that. The reader takes entries in the order of their times, of each lane as far as they have their number, and gives
// places back by its own positions.
type ring struct {
	entries *ebpf.Map
	places  *ebpf.Map // the two positions of each lane
	bell    *ebpf.Map // a ring buffer of the kernel, by which the reader is woken
	mem     mapped
	place   mapped
	size    int    // of an entry
	bits    int    // 2^bits entries in a lane
	mask    uint64 // of their number
	spare   uint64 // entries of a lane that stay free, for programs that take places at the same moment
	lanes   []lane

	mu    sync.Mutex
	loans []*ringLoan // oldest first
	idle  []*ringLoan
}

// lane is how far the reader is in a lane.
type lane struct {
	next  uint64 // place of the next entry to read
	taken uint64 // place behind those that programs had taken when the reader looked
}

// ringLoan is a part of the ring that somebody reads, and the frames in it.
type ringLoan struct {
	ring   *ring
	ends   []uint64 // of each lane, the place behind it
	back   bool
	frames []frame.Frame
	free   func() // bound once, so that releasing does not allocate
}

// Places of the positions of a lane, each on a cache line of its own.
const (
	placeNext = 0  // u64, of programs
	placeRead = 64 // u64, of the reader
	placeBits = 7
	placeLen  = 1 << placeBits
)

// manyLanes bounds the lanes: where there are more processors, some share one. Each lane has its part of the memory, and frames of one processor have
// no other.
const manyLanes = 4

// bellBytes is the size of the kernel's ring buffer that wakes the reader: a page of the largest that there are.
const bellBytes = 1 << 16

// newRing makes a ring of about size bytes for entries of which each has up to keep bytes of a frame.
func newRing(size, keep int) (r *ring, err error) {
	cpus, err := statLines()
	if err != nil {
		return nil, err
	}
	r = &ring{size: (entryHead + keep + 7) &^ 7, spare: uint64(cpus), lanes: make([]lane, min(cpus, manyLanes))}
	n := max(nearestPower(size/r.size/len(r.lanes)), 4*cpus)
	r.bits, r.mask = bits.Len(uint(n))-1, uint64(n-1)
	defer func() {
		if err != nil {
			r.close()
			r, err = nil, fmt.Errorf("ring of %d bytes: %w", size, permission(err))
		}
	}()
	if r.bell, err = ebpf.NewMap(&ebpf.MapSpec{Name: "xt_bell", Type: ebpf.RingBuf, MaxEntries: bellBytes}); err != nil {
		return r, err
	}
	if r.places, r.place, err = newMapped("xt_places", len(r.lanes)*placeLen, 1); err != nil {
		return r, err
	}
	r.entries, r.mem, err = newMapped("xt_ring", r.size, len(r.lanes)*n)
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
	l := &ringLoan{ring: r, ends: make([]uint64, len(r.lanes))}
	l.free = l.release
	return l
}

// reader takes the entries of a ring, whose memory belongs to the loan.
type reader interface {
	take(l *ringLoan, entry []byte)
}

// read gives to up to most entries that are complete and returns how many, with a loan of their memory: give it back once. What is younger than the look
// waits for the next one, and so does what is younger than an entry that is still being written: an answer never comes before its question.
func (r *ring) read(most int, to reader) (n int, l *ringLoan) {
	look := monotonic()
	for i := range r.lanes {
		r.lanes[i].taken = r.next(i).Load()
	}
	for n < most {
		i, until := r.earliest(look)
		if i < 0 {
			break
		}
		if l == nil {
			l = r.loan()
		}
		n += r.run(i, until, most-n, l, to)
	}
	if l == nil {
		return 0, nil
	}
	for i := range r.lanes {
		l.ends[i] = r.lanes[i].next
	}
	l.back = false
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loans = append(r.loans, l)
	return n, l
}

// earliest returns the lane with the earliest of all entries, and up to when there is none in the others; -1 when none may be read.
func (r *ring) earliest(look uint64) (best int, until uint64) {
	best, until = -1, look
	first := look
	for i := range r.lanes {
		x := &r.lanes[i]
		if x.next == x.taken {
			continue
		}
		e, ok := r.entry(i, x.next)
		if !ok {
			return -1, 0
		}
		switch t := entryTimeOf(e); {
		case t <= first:
			if best >= 0 {
				until = first
			}
			best, first = i, t
		case t < until:
			until = t
		}
	}
	return best, until
}

// run takes entries of a lane up to a time.
func (r *ring) run(i int, until uint64, most int, l *ringLoan, to reader) (n int) {
	for x := &r.lanes[i]; n < most && x.next != x.taken; {
		e, ok := r.entry(i, x.next)
		if !ok || entryTimeOf(e) > until {
			break
		}
		x.next++
		if !givenUp(e) {
			to.take(l, e)
			n++
		}
	}
	return n
}

// entry returns the entry of a place, and whether it is complete. Entries are numbered from 1 on, so that fresh memory has none.
func (r *ring) entry(lane int, place uint64) ([]byte, bool) {
	at := (lane<<r.bits | int(place&r.mask)) * r.size
	return r.mem[at : at+r.size : at+r.size], r.mem.u32(at+entryNumber).Load() == uint32(place+1)
}

// next and done are the positions of a lane, of programs and of the reader.
func (r *ring) next(lane int) *atomic.Uint64 { return r.place.u64(lane<<placeBits + placeNext) }
func (r *ring) done(lane int) *atomic.Uint64 { return r.place.u64(lane<<placeBits + placeRead) }

// release gives a loan back. The programs may write again up to the oldest one that is still out.
func (l *ringLoan) release() {
	r := l.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	l.back = true
	done := 0
	for done < len(r.loans) && r.loans[done].back {
		x := r.loans[done]
		for i, end := range x.ends {
			if at := r.done(i); at.Load() != end { // programs have the line at hand
				at.Store(end)
			}
		}
		x.frames = x.frames[:0]
		r.idle = append(r.idle, x)
		done++
	}
	r.loans = append(r.loans[:0], r.loans[done:]...)
}

// waiting returns how much of the fullest lane is in use, in parts of 256.
func (r *ring) waiting() (most uint64) {
	for i := range r.lanes {
		most = max(most, (r.next(i).Load()-r.done(i).Load())<<8/(r.mask+1))
	}
	return most
}

// out returns whether loans are out.
func (r *ring) out() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.loans) > 0
}
