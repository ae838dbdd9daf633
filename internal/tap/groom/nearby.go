package groom

import "bytes"

// nearby is dedup for whole frames in a window of a few frames, where it need not hash every byte of each. A frame is looked for by what differs
// in nearly all: its length, its first and its last bytes. Frames of the batch under way that agree in that are compared byte by byte,
// as their bytes are still there. Of those in older batches there is a hash of the whole frame, as in the table of dedup; it is
// computed at a batch's end, and only of the few that the window reaches from the next one. So frames are taken for one no more often
// than there, and none is forgotten early.
type nearby struct {
	acc    account
	spec   Dedup
	window int64
	points *pointSet
	hash   hasher
	number uint32 // of the last frame
	first  uint32 // of the batch under way
	// last has the number of the last frame with these low bits of the glance: most frames are seen to be new by it alone.
	last [1 << 12]uint32
	ring [maxNearby]sighting // by the low bits of a frame's number
}

// sighting is a frame that passed. A glance of 0 is none, or one whose place another frame has taken.
type sighting struct {
	glance uint64
	at     int64  // time, nanoseconds
	seen   uint64 // bit set of points
	full   uint64 // hash, when it is not of the batch under way
	data   []byte // when it is
}

// maxNearby is the longest window: half a batch.
const maxNearby = 128

// short reports whether nearby can do it.
func (d *Dedup) short() bool { return d.Frame && d.Packets > 0 && d.Packets <= maxNearby }

// newNearby returns a step for frames that keep their bytes until the end of their batch, at which finish is called.
func newNearby(s Dedup, points *pointSet) *nearby {
	return &nearby{acc: dedupAccount(), spec: s, window: int64(s.Window), points: points, hash: newHasher(), number: maxNearby, first: maxNearby + 1}
}

func (d *nearby) account() *account { return &d.acc }

func (d *nearby) apply(it *item) bool {
	g := max(d.hash.glance(it.f.Data), 1)
	d.number++
	now, point := it.f.TimeNS, uint64(1)<<d.points.index(it)
	last := &d.last[g%uint64(len(d.last))]
	candidate := d.number-*last <= uint32(d.spec.Packets)
	*last = d.number
	s := &d.ring[d.number%maxNearby]
	if candidate {
		if o := d.find(g, it, point); o != nil {
			return d.repeats(o, s, it, point)
		}
	}
	s.glance, s.at, s.seen, s.data = g, now, point, it.f.Data
	return true
}

// repeats enters a frame that repeats o. In s, the place for it, it is the origin of the next where every copy is, as for editcap.
func (d *nearby) repeats(o, s *sighting, it *item, point uint64) bool {
	o.seen |= point
	g, seen := o.glance, o.seen
	s.glance = 0 // which may be o, if it is the last that the window reached
	if d.spec.SamePoint {
		o.glance = 0
		s.glance, s.at, s.seen, s.data = g, it.f.TimeNS, seen, it.f.Data
	}
	return d.acc.duplicate(d.spec.CountOnly)
}

// find returns the earliest frame that the one under way repeats, nil when there is none.
func (d *nearby) find(g uint64, it *item, point uint64) (found *sighting) {
	data, full := it.f.Data, uint64(0)
	for n := d.number - 1; d.number-n <= uint32(d.spec.Packets); n-- {
		s := &d.ring[n%maxNearby]
		if s.glance != g || !d.spec.SamePoint && s.seen&point != 0 {
			continue
		}
		if age := it.f.TimeNS - s.at; age > d.window || -age > d.window || found != nil && s.at > found.at {
			continue
		}
		if int32(n-d.first) >= 0 {
			if bytes.Equal(s.data, data) {
				found = s
			}
			continue
		}
		if full == 0 {
			full = d.hash.sum(data)
		}
		if s.full == full {
			found = s
		}
	}
	return found
}

// finish is called at the end of a batch, while its frames are still there.
func (d *nearby) finish() {
	next := d.number + 1
	for n := d.number; int32(n-d.first) >= 0 && next-n <= uint32(d.spec.Packets); n-- {
		if s := &d.ring[n%maxNearby]; s.glance != 0 {
			s.full = d.hash.sum(s.data)
		}
	}
	d.first = next
}
