package groom

import (
	"math/bits"
	"sync/atomic"
)

// Field is a set of header fields that may differ between duplicates.
type Field uint16

// The fields.
const (
	FieldTTL      Field = 1 << iota // time to live, hop limit
	FieldChecksum                   // of IPv4, TCP and UDP
	FieldVLAN                       // 802.1Q/ad tags
	FieldMAC                        // Ethernet addresses
	FieldToS                        // type of service, traffic class
	FieldID                         // identification of IPv4
	FieldSeq                        // TCP sequence number

	// DefaultIgnore is what differs between copies of one packet in places with routers and switches between them.
	DefaultIgnore = FieldTTL | FieldChecksum | FieldVLAN | FieldMAC
)

// fieldNames are the words for fields, in the order of the constants.
var fieldNames = []string{"ttl", "checksum", "vlan", "mac", "tos", "id", "seq"}

// dedup finds copies of one packet. Every frame that passes is remembered for a window, by a hash of 64 bits of what makes it the
// same packet elsewhere, with the set of points that it was seen at. A frame is a duplicate when a remembered one
// with the same hash was not yet seen at its point; it then counts as seen there. So the n-th copy at one point answers to the n-th
// at another: a packet that was sent twice, bit for bit, at one point passes twice, and the copies of both from
// another point are both found.
//
// Two different packets are taken for one when their hashes agree: with n frames remembered that happens to a frame with
// probability n/2^64 at most, 1.4e-14 with the default table full. A frame that is forgotten early, because its set of
// the table is full of younger ones, costs a duplicate that is not found, never a packet; such frames are counted.
type dedup struct {
	acc     account
	spec    Dedup
	window  int64
	tags    []tagSet
	entries []remembered // setSize for each set
	age     []uint32     // number of the frame of each entry, when the window has a number of frames
	mask    uint64
	shift   uint   // of the clock
	fresh   uint16 // a frame in the window is not older by the clock
	most    int    // sets that the table may grow to
	number  uint32
	key     keyer
	points  *pointSet
}

// tagSet is what is looked at first of a set of entries: eight bits of each hash, and roughly when each was written. The tags of
// a table fit in a processor's own cache where its entries do not, and waiting for those would take most of the step's time; an
// entry is read for one of 32 frames that are new, and for every duplicate.
type tagSet struct {
	tags uint64          // that of entry k in bits 8k to 8k+7
	when [setSize]uint16 // as dedup.clock has it
}

const setSize = 8

// oneEach is a tag of 1 for every entry.
const oneEach = 0x0101010101010101

// alike returns a word with the highest bit of each byte set whose tag is that of the hash, and perhaps of a byte above such a one.
func (s *tagSet) alike(h uint64) uint64 {
	x := s.tags ^ tagOf(h)*oneEach
	return (x - oneEach) &^ x & (oneEach << 7)
}

func (s *tagSet) set(k int, tag uint64) {
	s.tags = s.tags&^(0xff<<(8*k)) | tag<<(8*k)
}

// remembered is a frame that passed. A hash of 0 is a free entry.
type remembered struct {
	hash uint64
	at   int64  // time, nanoseconds
	seen uint64 // bit set of points
}

func newDedup(s Dedup, points *pointSet) *dedup {
	d := &dedup{acc: dedupAccount(), spec: s, window: int64(s.Window), most: powerOfTwo(s.Entries/setSize/2 + 1), key: newKeyer(s), points: points}
	span := uint64(s.Window)
	if s.Packets > 0 {
		span = uint64(s.Packets)
	}
	d.shift = uint(max(bits.Len64(span)-8, 0))
	d.fresh = uint16(span>>d.shift) + 1
	d.resize(min(firstSets, d.most), 0)
	return d
}

func dedupAccount() account {
	return newAccount("dedup", []string{"duplicate"}, "duplicates passed on", "frames forgotten early (table full)")
}

// clock returns the low bits of what a window is measured in, so coarse that it takes 128 windows until they are the same again.
func (d *dedup) clock(now int64) uint16 {
	if d.spec.Packets > 0 {
		return uint16(d.number >> d.shift)
	}
	return uint16(now >> d.shift)
}

// firstSets is the size of a fresh table: 14 KiB. It doubles as the traffic needs it, as a small one is faster.
const firstSets = 1 << 6

// resize empties the table and gives it a number of sets.
func (d *dedup) resize(sets int, now int64) {
	d.tags, d.entries, d.mask = make([]tagSet, sets), make([]remembered, sets*setSize), uint64(sets-1)
	if d.spec.Packets > 0 {
		d.age = make([]uint32, sets*setSize)
	}
	for i := range d.tags {
		for k := range d.tags[i].when {
			d.tags[i].when[k] = d.clock(now) - 2*d.fresh
		}
	}
}

// grow doubles the table; what is remembered moves.
func (d *dedup) grow(now int64) {
	old := *d
	d.resize(2*len(d.tags), now)
	for i, e := range old.entries {
		if e.hash == 0 || !old.recent(i, now) {
			continue
		}
		j, _ := d.room(e.hash, now)
		d.entries[j] = e
		d.tags[j/setSize].set(j%setSize, tagOf(e.hash))
		d.tags[j/setSize].when[j%setSize] = old.tags[i/setSize].when[i%setSize]
		if d.age != nil {
			d.age[j] = old.age[i]
		}
	}
}

// room returns the entry for a hash: the first of its set that is out of the window, which keeps the entries in use close
// together. It reports false when all are needed; then it is the oldest.
func (d *dedup) room(h uint64, now int64) (int, bool) {
	set := h & d.mask
	clock := d.clock(now)
	for k, when := range d.tags[set].when { // certainly out of it: this is the usual case, and no entry is read
		if age := clock - when; age > d.fresh && -age > d.fresh {
			return int(set)*setSize + k, true
		}
	}
	oldest := int(set) * setSize
	for i := oldest; i < (int(set)+1)*setSize; i++ {
		if d.entries[i].hash == 0 || !d.recent(i, now) {
			return i, true
		}
		if d.entries[i].at < d.entries[oldest].at {
			oldest = i
		}
	}
	return oldest, false
}

func (d *dedup) account() *account { return &d.acc }

func (d *dedup) apply(it *item) bool {
	h := max(d.key.of(it), 1)
	d.number++
	point := d.points.bit(it.origin)
	i := d.find(h, it.f.TimeNS, point)
	if i < 0 {
		d.remember(h, it.f.TimeNS, point)
		return true
	}
	d.entries[i].seen |= point
	if d.spec.SamePoint { // every copy is the origin of the next, as for editcap
		d.stamp(i, it.f.TimeNS)
	}
	return d.acc.duplicate(d.spec.CountOnly)
}

// duplicate enters a duplicate and reports whether it goes on.
func (a *account) duplicate(goesOn bool) bool {
	if !goesOn {
		return a.drop(0)
	}
	a.note(0)
	return true
}

// tagOf takes bits of a hash that do not choose the set.
func tagOf(h uint64) uint64 { return h >> 56 }

// find returns the entry of the earliest frame that one repeats, -1 when there is none.
func (d *dedup) find(h uint64, now int64, point uint64) int {
	set := h & d.mask
	found := -1
	for m := d.tags[set].alike(h); m != 0; m &= m - 1 {
		i := int(set)*setSize + bits.TrailingZeros64(m)/8
		e := &d.entries[i]
		if e.hash != h || !d.recent(i, now) || !d.spec.SamePoint && e.seen&point != 0 {
			continue
		}
		if found < 0 || e.at < d.entries[found].at {
			found = i
		}
	}
	return found
}

// recent reports whether an entry is within the window. Points may be read a little out of order, so it goes
// both ways.
func (d *dedup) recent(i int, now int64) bool {
	age := now - d.entries[i].at
	if age > d.window || -age > d.window {
		return false
	}
	return d.age == nil || d.number-d.age[i] <= uint32(d.spec.Packets)
}

// remember takes a frame into the table. When that overwrites one that is still needed, the table grows first.
func (d *dedup) remember(h uint64, now int64, point uint64) {
	i, ok := d.room(h, now)
	if !ok {
		if len(d.tags) < d.most {
			d.grow(now)
			d.remember(h, now, point)
			return
		}
		d.acc.note(1)
	}
	d.entries[i].hash, d.entries[i].seen = h, point
	d.tags[i/setSize].set(i%setSize, tagOf(h))
	d.stamp(i, now)
}

func (d *dedup) stamp(i int, now int64) {
	d.entries[i].at = now
	d.tags[i/setSize].when[i%setSize] = d.clock(now)
	if d.age != nil {
		d.age[i] = d.number
	}
}

// pointSet numbers the points that copies come from. A point is one of the source's, or what sent the copy to it in a
// tunnel that was stripped.
type pointSet struct {
	known map[uint64]uint8
	last  uint64
	one   uint64       // the bit of that; 0 for none yet
	count atomic.Int32 // of the points so far, for other goroutines
}

// maxPoints is the number of points that are told apart; beyond it some share a number, and duplicates between those are not found.
const maxPoints = 64

// bit returns the bit of a point that frames come from.
func (s *pointSet) bit(o uint64) uint64 {
	if o == s.last && s.one != 0 {
		return s.one
	}
	return s.look(o)
}

func (s *pointSet) look(o uint64) uint64 {
	if s.known == nil {
		s.known = make(map[uint64]uint8, maxPoints)
	}
	i, ok := s.known[o]
	if !ok {
		i = uint8(mix(o) % maxPoints)
		if n := len(s.known); n < maxPoints {
			i = uint8(n)
			s.known[o] = i
			s.count.Store(int32(n + 1))
		}
	}
	s.last, s.one = o, 1<<(i&63)
	return s.one
}
