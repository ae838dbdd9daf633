package segment

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"crosstap/internal/flow"
)

// Rows lie in a file by segment, source, destination and end: what is asked for together lies together, and halves the
// bytes. Behind that, flow and observer keep the observers of one flow together.

// placeOfRow is where a row is in that order, placeOfRollup a row of a roll-up.
func placeOfRow(p *place, r *row) {
	p.of(r.Segment, &r.Src, &r.Dst, r.TEnd)
	p.flow, p.observer = r.flowID(), r.ObserverID
}

func placeOfRollup(p *place, r *rollup) { p.of(r.Segment, &r.Src, &r.Dst, r.Bucket) }

func (p *place) of(segment uint64, src, dst *[16]byte, at int64) {
	p.segment, p.at = segment, at
	p.srcHigh, p.srcLow = binary.BigEndian.Uint64(src[:8]), binary.BigEndian.Uint64(src[8:])
	p.dstHigh, p.dstLow = binary.BigEndian.Uint64(dst[:8]), binary.BigEndian.Uint64(dst[8:])
}

// compareRows is that order for stored rows.
func compareRows(a, b *row) int {
	var p, q place
	placeOfRow(&p, a)
	placeOfRow(&q, b)
	return p.compare(&q)
}

// compareSameEnds is the rest of the order for records with equal segment and addresses.
func compareSameEnds(a, b *flow.Record) int {
	return cmp.Or(cmp.Compare(floorMS(a.EndNS), floorMS(b.EndNS)), cmp.Compare(a.FlowID, b.FlowID), cmp.Compare(a.ObserverID, b.ObserverID))
}

// sorter puts records into the order of a file. It is used for one batch after the other and keeps its memory.
type sorter struct {
	src, dst    ranker
	ends        []int64 // t_end of each record, milliseconds
	first, last int64   // of ends
	keys, spare []sortKey
	order       []int32
}

// sortOrder is for one batch alone.
func sortOrder(recs []flow.Record) []int32 { return new(sorter).sort(recs) }

// sort returns the records' indexes in the order of a file, valid until the next call. Addresses are ranked first, so that most
// comparisons are of one number.
func (s *sorter) sort(recs []flow.Record) []int32 {
	s.read(recs)
	src, dst := s.src.ranks(), s.dst.ranks()
	// ranks need rankBits each; what is left of 64 bits is for the time, cut where it does not suffice
	rankBits := bits.Len(uint(len(recs)))
	cut := max(bits.Len64(uint64(s.last)-uint64(s.first))-(64-2*rankBits), 0)
	s.keys, s.spare = slices.Grow(s.keys[:0], len(recs))[:len(recs)], slices.Grow(s.spare[:0], len(recs))[:len(recs)]
	for i := range s.keys {
		at := (uint64(s.ends[i]) - uint64(s.first)) >> cut
		s.keys[i] = sortKey{uint64(src[i])<<(64-rankBits) | uint64(dst[i])<<(64-2*rankBits) | at, int32(i)}
	}
	keys := sortKeys(s.keys, s.spare)
	s.order = s.order[:0]
	for i := range keys {
		s.order = append(s.order, keys[i].index)
	}
	for i := 0; i < len(keys); { // what the keys do not tell apart
		n := i + 1
		for n < len(keys) && keys[n].n == keys[i].n {
			n++
		}
		if n > i+1 {
			slices.SortFunc(s.order[i:n], func(a, b int32) int { return cmp.Or(compareSameEnds(&recs[a], &recs[b]), cmp.Compare(a, b)) })
		}
		i = n
	}
	return s.order
}

// read takes what decides from the records, which lie far apart, in one pass.
func (s *sorter) read(recs []flow.Record) {
	s.src.reset()
	s.dst.reset()
	s.ends, s.first, s.last = s.ends[:0], 1<<63-1, -1<<63
	for i := range recs {
		r := &recs[i]
		at := floorMS(r.EndNS)
		s.ends, s.first, s.last = append(s.ends, at), min(s.first, at), max(s.last, at)
		s.src.add(end{uint64(r.Segment), binary.BigEndian.Uint64(r.Src[:8]), binary.BigEndian.Uint64(r.Src[8:])})
		s.dst.add(end{0, binary.BigEndian.Uint64(r.Dst[:8]), binary.BigEndian.Uint64(r.Dst[8:])})
	}
}

// sortKey orders a record.
type sortKey struct {
	n     uint64
	index int32
}

// digitBits are sorted by at a time.
const digitBits = 11

// sortKeys sorts by n, the least significant digit first, and returns keys or spare, which is as long.
func sortKeys(keys, spare []sortKey) []sortKey {
	var all, any uint64 = 1<<64 - 1, 0
	for i := range keys {
		all, any = all&keys[i].n, any|keys[i].n
	}
	differ := any &^ all
	for shift := 0; shift < 64; shift += digitBits {
		const mask = 1<<digitBits - 1
		if differ>>shift&mask == 0 {
			continue
		}
		var from [mask + 1]int32
		for i := range keys {
			from[keys[i].n>>shift&mask]++
		}
		var sum int32
		for i, n := range from {
			from[i] = sum
			sum += n
		}
		for i := range keys {
			at := &from[keys[i].n>>shift&mask]
			spare[*at] = keys[i]
			*at++
		}
		keys, spare = spare, keys
	}
	return keys
}

// end is what a rank is given to: a segment and the two halves of an address, so that numbers have its order.
type end struct{ segment, high, low uint64 }

func (e *end) hash() uint64 {
	return bits.RotateLeft64(e.segment*hashMul, 32)*hashMul2 + e.high*hashMul + e.low*hashMul2
}

// ranker numbers different ends in their order.
type ranker struct {
	known       table
	ends        []end // as they came
	keys, spare []sortKey
	rank        []int32
	out         []int32 // number of each one's end as it came; ranks puts the rank there
}

func (k *ranker) reset() {
	clear(k.known.slots)
	k.ends, k.out = k.ends[:0], k.out[:0]
}

func (k *ranker) add(e end) {
	if k.known.full(len(k.ends)) {
		k.known.grow(len(k.ends), func(i int) uint64 { return k.ends[i].hash() })
	}
	at := e.hash() >> k.known.shift
	for ; k.known.slots[at] != 0; at = k.known.after(at) {
		if n := k.known.slots[at] - 1; k.ends[n] == e {
			k.out = append(k.out, int32(n))
			return
		}
	}
	n := int32(len(k.ends))
	k.ends = append(k.ends, e)
	k.known.slots[at] = uint32(n) + 1
	k.out = append(k.out, n)
}

// ranks gives the rank of each end that was added.
func (k *ranker) ranks() []int32 {
	n := len(k.ends)
	k.keys, k.spare = slices.Grow(k.keys[:0], n)[:n], slices.Grow(k.spare[:0], n)[:n]
	for i := range k.keys {
		k.keys[i] = sortKey{k.ends[i].low, int32(i)}
	}
	k.sort()
	for i := range k.keys {
		k.keys[i].n = k.ends[k.keys[i].index].high
	}
	k.sort()
	for i := range k.keys {
		k.keys[i].n = k.ends[k.keys[i].index].segment
	}
	k.sort()
	k.rank = slices.Grow(k.rank[:0], n)[:n]
	for i := range k.keys {
		k.rank[k.keys[i].index] = int32(i)
	}
	for i, at := range k.out {
		k.out[i] = k.rank[at]
	}
	return k.out
}

// sort sorts the keys; equal ones stay as they are.
func (k *ranker) sort() {
	if sorted := sortKeys(k.keys, k.spare); len(sorted) > 0 && &sorted[0] != &k.keys[0] {
		k.keys, k.spare = k.spare, k.keys
	}
}
