package capture

import (
	"fmt"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// origin is one place that copies come from: a sender, and of it a session.
type origin struct {
	encap      Encap
	hasSession bool
	session    uint32
	from       netip.Addr
}

// String names an origin as capture files do: "erspan 10.0.0.1 session 5".
func (o origin) String() string {
	if !o.hasSession {
		return fmt.Sprintf("%s %s", o.encap, o.from)
	}
	return fmt.Sprintf("%s %s %s %d", o.encap, o.from, encaps[o.encap].session, o.session)
}

// maxOrigins bounds the points of a source. Copies of origins beyond share the last point.
const maxOrigins = 1024

// point is an observation point of a source whose points show up as it runs.
type point struct {
	index uint32
	name  string
	link  atomic.Uint32 // of its first frame + 1
	lost  atomic.Uint64 // frames that are known to have existed and never came

	// What follows belongs to the goroutine of the socket that the point is known on.
	seq  window
	time clock
}

// points are the points of a source.
type points struct {
	mu  sync.Mutex
	all []*point
}

// add returns a point of that name. Beyond the most it is the last one, which sequence numbers say nothing about.
func (p *points) add(name string) (pt *point, shared bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.all)
	if n >= maxOrigins {
		return p.all[n-1], true
	}
	if n == maxOrigins-1 {
		name, shared = "others", true
	}
	pt = &point{index: uint32(n), name: name}
	p.all = append(p.all, pt)
	return pt, shared
}

func (p *points) at(index uint32) *point {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(index) >= len(p.all) {
		return nil
	}
	return p.all[index]
}

// Interface returns the name of a point; it has no interface index. It is safe for concurrent use.
func (p *points) Interface(index uint32) (name string, ifindex uint32) {
	if pt := p.at(index); pt != nil {
		return pt.name, 0
	}
	return "", 0
}

// Link returns the link type of a point's first frame, false before it has come. It is safe for concurrent use.
func (p *points) Link(index uint32) (frame.LinkType, bool) {
	pt := p.at(index)
	if pt == nil {
		return 0, false
	}
	n := pt.link.Load()
	return frame.LinkType(n - 1), n != 0
}

// Points returns the number of points. It is safe for concurrent use.
func (p *points) Points() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// Lost returns the number of frames of a point that are known to have existed and never came. It is safe for concurrent use.
func (p *points) Lost(index uint32) uint64 {
	if pt := p.at(index); pt != nil {
		return pt.lost.Load()
	}
	return 0
}

// Missed is 0: what the remote end's interface drops it does not tell.
func (p *points) Missed(uint32) uint64 { return 0 }

// window counts sequence numbers that never come. A number may be late by 63: what is out of order is not lost.
type window struct {
	started bool
	top     uint32 // highest number seen
	seen    uint64 // bit n: top-n was seen
}

// restart is how far a number may jump ahead and still be the sequence's.
const restart = 1 << 20

// next takes a number and returns how many have left the window unseen.
func (w *window) next(seq uint32) (lost int) {
	const size = 64
	ahead := int32(seq - w.top)
	switch {
	case !w.started || ahead > restart || ahead <= -size: // the sender begins, or begins anew
		lost = w.rest()
		*w = window{started: true, top: seq, seen: 1<<size - 1} // nothing is owed from before
		return lost
	case ahead <= 0:
		w.seen |= 1 << uint(-ahead)
		return 0
	case ahead >= size:
		lost = bits.OnesCount64(^w.seen) + int(ahead) - size
		w.seen = 1
	default:
		lost = bits.OnesCount64(^w.seen >> uint(size-ahead))
		w.seen = w.seen<<uint(ahead) | 1
	}
	w.top = seq
	return lost
}

// rest returns the numbers inside the window that were not seen, and forgets them.
func (w *window) rest() int {
	if !w.started {
		return 0
	}
	n := bits.OnesCount64(^w.seen)
	w.seen = 1<<64 - 1
	return n
}

// clock turns a sender's time stamps into times since 1970: of one that wraps the first is the time of its receipt.
type clock struct {
	started bool
	last    int64 // stamp
	now     int64
}

func (c *clock) time(s stamp, received int64) int64 {
	if s.wrap == 0 {
		return s.ns
	}
	if !c.started {
		*c = clock{started: true, last: s.ns, now: received}
		return received
	}
	step := (s.ns - c.last) % s.wrap
	switch { // the shorter way around
	case step > s.wrap/2:
		step -= s.wrap
	case step < -s.wrap/2:
		step += s.wrap
	}
	c.last, c.now = s.ns, c.now+step
	return c.now
}

// gaps divides what is missing of sequences on a socket between the kernel's drops, which are in the book already, and the way.
type gaps struct {
	book   *ledger.Book
	kernel uint64 // drops that no gap has been found for
}

func (g *gaps) drop(n uint64) {
	g.book.In(int(n))
	g.book.Drop(DropMirrorKernel, int(n))
	g.kernel += n
}

func (g *gaps) missing(p *point, n int) {
	if n == 0 {
		return
	}
	p.lost.Add(uint64(n))
	known := min(uint64(n), g.kernel)
	g.kernel -= known
	way := n - int(known)
	g.book.In(way)
	g.book.Drop(DropMirrorLost, way)
}
