package kernel

import (
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// ring is the reader's side of a BPF ring buffer (Documentation/bpf/ringbuf.rst): a page with the reader's position, which it
// writes, a page with the programs' position, and the data, mapped twice in a row so that no entry is broken.
type ring struct {
	m      *ebpf.Map
	reader []byte
	data   []byte // with the programs' page in front
	page   int
	mask   uint64
	next   uint64 // position of the next entry to read

	mu    sync.Mutex
	loans []*ringLoan // oldest first
	idle  []*ringLoan
}

// ringLoan is a part of the ring that somebody reads, and the frames in it.
type ringLoan struct {
	ring   *ring
	end    uint64 // position behind it
	back   bool
	frames []frame.Frame
	free   func() // bound once, so that releasing does not allocate
}

// Bits of an entry's length.
const (
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringHeader  = 8
)

// newRing makes a ring of at least size bytes: a power of two, and whole pages.
func newRing(size int) (*ring, error) {
	page := os.Getpagesize()
	n := max(1<<bits.Len(uint(size-1)), page)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_ring", Type: ebpf.RingBuf, MaxEntries: uint32(n)})
	if err != nil {
		return nil, fmt.Errorf("ring of %d bytes: %w", n, permission(err))
	}
	r := &ring{m: m, page: page, mask: uint64(n - 1)}
	r.reader, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		r.data, err = unix.Mmap(m.FD(), int64(page), page+2*n, unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("ring of %d bytes: map: %w", n, err)
	}
	return r, nil
}

// close unmaps the ring. Nobody may read from it any more.
func (r *ring) close() {
	for _, b := range [][]byte{r.reader, r.data} {
		if b != nil {
			_ = unix.Munmap(b)
		}
	}
	_ = r.m.Close()
}

func (r *ring) position(page []byte) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&page[0]))
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
	end := r.position(r.data).Load()
	start := r.next
	if start >= end {
		return 0, nil
	}
	l = r.loan()
	for n < most && r.next < end {
		at := r.page + int(r.next&r.mask)
		length := (*atomic.Uint32)(unsafe.Pointer(&r.data[at])).Load()
		if length&ringBusy != 0 {
			break
		}
		size := int(length &^ (ringBusy | ringDiscard))
		if length&ringDiscard == 0 {
			to.take(l, r.data[at+ringHeader:at+ringHeader+size:at+ringHeader+size])
			n++
		}
		r.next += uint64(ringHeader+size+7) &^ 7
	}
	l.end, l.back = r.next, false
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == start {
		r.idle = append(r.idle, l)
		return 0, nil
	}
	r.loans = append(r.loans, l)
	return n, l
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
		r.position(r.reader).Store(x.end)
		x.frames = x.frames[:0]
		r.idle = append(r.idle, x)
		done++
	}
	r.loans = append(r.loans[:0], r.loans[done:]...)
}

// waiting returns how much of the ring is in use, in parts of 256.
func (r *ring) waiting() uint64 {
	used := r.position(r.data).Load() - r.position(r.reader).Load()
	return used << 8 / (r.mask + 1)
}

// out returns whether loans are out.
func (r *ring) out() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.loans) > 0
}
