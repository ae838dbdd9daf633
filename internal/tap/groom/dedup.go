package groom

import "math/rand/v2"

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
	buckets []bucket
	mask    uint64
	age     [][ways]uint32 // number of the frame of each entry, when the window has a number of frames
	number  uint32
	seed    uint64
	key     keyer
	points  pointSet
}

// bucket is a set of the table: three cache lines, the first of which says whether to look at the others. A hash of 0
// is a free entry.
type bucket struct {
	hash [ways]uint64
	at   [ways]int64
	seen [ways]uint64
}

func newDedup(s Dedup) *dedup {
	sets := powerOfTwo((s.Entries + ways - 1) / ways)
	d := &dedup{
		acc:  newAccount("dedup", []string{"duplicate"}, "duplicates passed on", "frames forgotten early (table full)"),
		spec: s, window: int64(s.Window), buckets: make([]bucket, sets), mask: uint64(sets - 1), key: keyer{spec: s, seed: rand.Uint64()},
	}
	if s.Packets > 0 {
		d.age = make([][ways]uint32, sets)
	}
	return d
}

func (d *dedup) account() *account { return &d.acc }

func (d *dedup) apply(it *item) bool {
	h := max(d.key.of(it), 1)
	d.number++
	set := h & d.mask
	point := uint64(1) << d.points.index(it)
	if i := d.find(set, h, it.f.TimeNS, point); i >= 0 {
		b := &d.buckets[set]
		b.seen[i] |= point
		if d.spec.SamePoint { // every copy is the origin of the next, as for editcap
			b.at[i] = it.f.TimeNS
			if d.age != nil {
				d.age[set][i] = d.number
			}
		}
		if !d.spec.CountOnly {
			return d.acc.drop(0)
		}
		d.acc.note(0)
		return true
	}
	d.remember(set, h, it.f.TimeNS, point)
	return true
}

// find returns the entry of the earliest frame that a frame repeats, -1 when there is none.
func (d *dedup) find(set, h uint64, now int64, point uint64) int {
	b := &d.buckets[set]
	found := -1
	for i, x := range b.hash {
		if x != h || !d.recent(set, i, now) || !d.spec.SamePoint && b.seen[i]&point != 0 {
			continue
		}
		if found < 0 || b.at[i] < b.at[found] {
			found = i
		}
	}
	return found
}

// recent reports whether an entry is within the window. Points may be read a little out of order, so it goes
// both ways.
func (d *dedup) recent(set uint64, i int, now int64) bool {
	age := now - d.buckets[set].at[i]
	if age > d.window || -age > d.window {
		return false
	}
	return d.age == nil || d.number-d.age[set][i] <= uint32(d.spec.Packets)
}

// remember takes a free entry, or that of the oldest frame.
func (d *dedup) remember(set, h uint64, now int64, point uint64) {
	b := &d.buckets[set]
	oldest := 0
	for i, x := range b.hash {
		if x == 0 {
			oldest = i
			break
		}
		if b.at[i] < b.at[oldest] {
			oldest = i
		}
	}
	if b.hash[oldest] != 0 && d.recent(set, oldest, now) {
		d.acc.note(1)
	}
	b.hash[oldest], b.at[oldest], b.seen[oldest] = h, now, point
	if d.age != nil {
		d.age[set][oldest] = d.number
	}
}

// pointSet numbers the points that copies come from. A point is one of the source's, or what sent the copy to it in a
// tunnel that was stripped.
type pointSet struct {
	known  map[uint64]uint8
	last   uint64
	number uint8
}

// maxPoints is the number of points that are told apart; beyond it some share a number, and duplicates between those are not found.
const maxPoints = 64

// index returns the number of the point that a frame comes from.
func (s *pointSet) index(it *item) uint8 {
	o := it.origin
	if s.known != nil && o == s.last {
		return s.number
	}
	if s.known == nil {
		s.known = make(map[uint64]uint8, maxPoints)
	}
	i, ok := s.known[o]
	if !ok {
		i = uint8(mix(o) % maxPoints)
		if n := len(s.known); n < maxPoints {
			i = uint8(n)
			s.known[o] = i
		}
	}
	s.last, s.number = o, i
	return i
}
