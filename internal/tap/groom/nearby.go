package groom

import (
	"bytes"
	"slices"

	"crosstap/internal/frame"
)

// nearby is dedup for whole frames in a window of not too many frames: it knows the last so many of them in their order, and nothing has to be
// searched for a free place.
//
// In a short window it need not hash every byte of each frame either. A frame is then looked for by what differs in nearly
// all: its length, and bytes where headers are. Frames of the batch under way that agree in that are compared byte by byte, as their
// bytes are still there. Of those in older batches there is the hash of the whole frame; it is computed at a batch's end, and only of the
// few that the window reaches from the next one. So frames are taken for one no more often than in the table of dedup, and none is forgotten early.
type nearby struct {
	acc    account
	spec   Dedup
	window int64
	points *pointSet
	hash   hasher
	look   look
	number uint32     // of the last frame
	first  uint32     // of the batch under way
	last   []uint32   // the number of the last frame with these low bits of the key: most frames are seen to be new by it alone
	ring   []sighting // by the low bits of a frame's number
	full   []uint64   // hashes of those in older batches; nil when each key is one

	// The bytes of the batch under way: all its frames, of which the first has the number first, or, when these are not all looked at, a ring
	// of the bytes of those that are.
	batch []frame.Frame
	keys  []uint64
	bytes [][]byte
}

// sighting is a frame that passed.
type sighting struct {
	key  uint64 // 0 for none, or one whose place another frame has taken
	at   int64  // time, nanoseconds
	seen uint64 // bit set of points
	prev uint32 // number of the frame before with these low bits of the key
}

// look is how much of a frame its key is made of.
type look uint8

const (
	whole  look = iota // all of it
	glance             // its length and two blinks
	blink              // its length and a few bytes
)

const (
	maxNearby  = 1 << 12 // frames of the longest window
	maxGlances = 1 << 7  // of the longest for which glances pay
	maxBlinks  = 1 << 3  // of the longest in which few enough can agree by chance to compare them all
)

// near reports whether nearby can do it.
func (d *Dedup) near() bool {
	return d.Frame && d.Packets > 0 && d.Packets <= min(maxNearby, d.Entries)
}

// newNearby returns a step for frames that keep their bytes until the end of their batch, at which finish is called.
func newNearby(s Dedup, points *pointSet) *nearby {
	n := powerOfTwo(max(s.Packets, maxGlances))
	d := &nearby{
		acc: dedupAccount(), spec: s, window: int64(s.Window), points: points, hash: newHasher(),
		number: uint32(n), first: uint32(n) + 1, last: make([]uint32, max(8*n, 32*maxGlances)), ring: make([]sighting, n),
	}
	switch {
	case s.Packets <= maxBlinks:
		d.look = blink
	case s.Packets <= maxGlances:
		d.look = glance
	}
	if d.look != whole {
		d.full, d.bytes = make([]uint64, n), make([][]byte, n)
	}
	return d
}

func (d *nearby) account() *account { return &d.acc }

// keysOf fills in what frames are looked for by.
func (d *nearby) keysOf(frames []frame.Frame, keys []uint64) {
	keys = keys[:len(frames)]
	for i := range frames {
		data := frames[i].Data
		if d.look == whole || len(data) < blinkLen {
			keys[i] = max(d.hash.sum(data), 1)
			continue
		}
		key := d.hash.blink((*[blinkLen]byte)(data), len(data))
		if d.look == glance {
			key += d.hash.blink(further(data), len(data))
		}
		keys[i] = max(key, 1)
	}
}

// key is keysOf for one.
func (d *nearby) key(data []byte) uint64 {
	var one [1]uint64
	d.keysOf([]frame.Frame{{Data: data}}, one[:])
	return one[0]
}

// begin announces a batch of which every frame is looked at, by pass. Their keys are computed together, so that the processor waits for the bytes of many at a time.
func (d *nearby) begin(frames []frame.Frame) {
	d.batch, d.keys = frames, slices.Grow(d.keys[:0], len(frames))[:len(frames)]
	d.keysOf(frames, d.keys)
}

// pass looks at frames of the batch, from the next one on, until one is to be dropped, and returns how many pass.
func (d *nearby) pass() int {
	from := int(d.number + 1 - d.first)
	rest := d.batch[from:]
	last, ring, packets := d.last, d.ring, uint32(d.spec.Packets)
	for i, key := range d.keys[from:] {
		f := &rest[i]
		point := d.points.bit(uint64(f.Point))
		d.number++
		at := &last[key&uint64(len(last)-1)]
		prev := *at
		*at = d.number
		if d.number-prev <= packets {
			if !d.suspect(f, key, point, prev) {
				return i
			}
			continue
		}
		ring[d.number&uint32(len(ring)-1)] = sighting{key, f.TimeNS, point, prev}
	}
	return len(rest)
}

// apply looks at a frame of a batch that was not announced.
func (d *nearby) apply(it *item) bool {
	if d.look != whole {
		d.bytes[(d.number+1)&uint32(len(d.ring)-1)] = it.f.Data
	}
	key, point := d.key(it.f.Data), d.points.bit(it.origin)
	d.number++
	last := &d.last[key&uint64(len(d.last)-1)]
	prev := *last
	*last = d.number
	return d.suspect(&it.f, key, point, prev)
}

// suspect enters a frame and reports whether it passes; prev is the last with the same low bits of its key.
func (d *nearby) suspect(f *frame.Frame, key, point uint64, prev uint32) bool {
	s := &d.ring[d.number&uint32(len(d.ring)-1)]
	if d.number-prev <= uint32(d.spec.Packets) {
		if o := d.find(key, prev, f, point); o != nil {
			d.repeats(o, s, f, point)
			s.prev = prev
			return d.acc.duplicate(d.spec.CountOnly)
		}
	}
	*s = sighting{key, f.TimeNS, point, prev}
	return true
}

// repeats enters a frame that repeats o. In s, the place for it, it is the origin of the next where every copy is, as for editcap.
func (d *nearby) repeats(o, s *sighting, f *frame.Frame, point uint64) {
	o.seen |= point
	key, seen := o.key, o.seen
	s.key = 0 // s may be o, if that is the last that the window reached
	if d.spec.SamePoint {
		o.key = 0
		s.key, s.at, s.seen = key, f.TimeNS, seen
	}
}

// find returns the earliest frame that the one under way repeats, nil when there is none; n is the last with the same low bits of its key.
func (d *nearby) find(key uint64, n uint32, f *frame.Frame, point uint64) (found *sighting) {
	full := uint64(0)
	for age := uint32(0); d.number-n > age && d.number-n <= uint32(d.spec.Packets); {
		age = d.number - n
		s := &d.ring[n&uint32(len(d.ring)-1)]
		if s.key == key && (d.spec.SamePoint || s.seen&point == 0) && (found == nil || s.at <= found.at) && d.recent(s, f) && d.same(n, f.Data, &full) {
			found = s
		}
		n = s.prev
	}
	return found
}

func (d *nearby) recent(s *sighting, f *frame.Frame) bool {
	age := f.TimeNS - s.at
	return age <= d.window && -age <= d.window
}

// same reports whether a frame has the bytes of that with number n, as both have the same key. full is the frame's hash, 0 when that is not
// known yet.
func (d *nearby) same(n uint32, data []byte, full *uint64) bool {
	switch {
	case d.look == whole:
		return true
	case int32(n-d.first) >= 0:
		return bytes.Equal(d.data(n), data)
	case *full == 0:
		*full = d.hash.sum(data)
	}
	return d.full[n&uint32(len(d.ring)-1)] == *full
}

// data returns the bytes of a frame of the batch under way.
func (d *nearby) data(n uint32) []byte {
	if d.batch != nil {
		return d.batch[n-d.first].Data
	}
	return d.bytes[n&uint32(len(d.ring)-1)]
}

// finish is called at the end of a batch, while its frames are still there.
func (d *nearby) finish() {
	next := d.number + 1
	for n := d.number; d.look != whole && int32(n-d.first) >= 0 && next-n <= uint32(d.spec.Packets); n-- {
		if i := n & uint32(len(d.ring)-1); d.ring[i].key != 0 {
			d.full[i] = d.hash.sum(d.data(n))
		}
	}
	d.first, d.batch = next, nil
}
