package segment

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
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

// mostRows are the rows of a batch, so that ranks of segment, source and destination and a bit of time fit one number.
const mostRows = 1 << 20

// sorter puts the rows of a batch into the order of a file. It is used for one batch after the other and keeps its memory.
type sorter struct {
	segment, src, dst ranker
	first, last       int64 // t_end, milliseconds
	keys, spare       []sortKey
	order             []int32
	observers         []uint32
}

// sort returns the rows' indexes in the order of a file, valid until the next call. Different values are ranked first, so that most
// comparisons are of one number.
func (s *sorter) sort(b *batch) []int32 {
	ends := b.times(atTEnd)
	s.first, s.last = 1<<63-1, -1<<63
	for _, at := range ends {
		s.first, s.last = min(s.first, at), max(s.last, at)
	}
	segment, src, dst := b.columns[atSegment].(*numberColumn), b.columns[atSrc].(*addrColumn), b.columns[atDst].(*addrColumn)
	s.segment.numbers(segment.values)
	s.src.addresses(src.values)
	s.dst.addresses(dst.values)
	// what the ranks leave of 64 bits is for the time, cut where it does not suffice: a batch of mostRows has one bit
	left := 64 - bits.Len(uint(len(segment.values))) - bits.Len(uint(len(src.values))) - bits.Len(uint(len(dst.values)))
	span := bits.Len64(uint64(s.last) - uint64(s.first))
	cut := max(span-left, 0)
	left = min(left, span) // each digit less is a pass less
	s.keys, s.spare = slices.Grow(s.keys[:0], b.rows)[:b.rows], slices.Grow(s.spare[:0], b.rows)[:b.rows]
	for i, at := range ends {
		s.keys[i] = sortKey{(uint64(at) - uint64(s.first)) >> cut, int32(i)}
	}
	s.put(&dst.indexes, s.dst.rank, left)
	left += bits.Len(uint(len(dst.values)))
	s.put(&src.indexes, s.src.rank, left)
	s.put(&segment.indexes, s.segment.rank, left+bits.Len(uint(len(src.values))))
	keys := sortKeys(s.keys, s.spare)
	s.order = s.order[:0]
	for i := range keys {
		s.order = append(s.order, keys[i].index)
	}
	s.observers = s.observers[:0]
	for i := 0; i < len(keys); { // what the keys do not tell apart
		n := i + 1
		for n < len(keys) && keys[n].n == keys[i].n {
			n++
		}
		if n > i+1 {
			s.sortSame(b, s.order[i:n])
		}
		i = n
	}
	return s.order
}

// put adds the ranks of rows to their keys.
func (s *sorter) put(of *stretches, rank []int32, shift int) {
	at := 0
	for _, r := range of.runs() {
		n := uint64(rank[r.index]) << shift
		for end := at + int(r.n); at < end; at++ {
			s.keys[at].n |= n
		}
	}
}

// sortSame orders rows with equal segment and addresses by the rest of the order.
func (s *sorter) sortSame(b *batch, order []int32) {
	observer := b.columns[atObserver].(*numberColumn)
	if len(s.observers) == 0 {
		s.observers = observer.indexes.expand(s.observers)
	}
	ends, keys, src, dst := b.times(atTEnd), b.numbers(atFlowKey), b.numbers(atSrcPort), b.numbers(atDstPort)
	flowID := func(i int32) uint64 { return keys[i] ^ portsOf(src[i], dst[i]) }
	slices.SortFunc(order, func(i, j int32) int {
		return cmp.Or(cmp.Compare(ends[i], ends[j]), cmp.Compare(flowID(i), flowID(j)),
			cmp.Compare(observer.values[s.observers[i]], observer.values[s.observers[j]]), cmp.Compare(i, j))
	})
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

// ranker numbers different values in their order.
type ranker struct {
	keys, spare []sortKey
	rank        []int32 // of each value
}

// numbers ranks numbers.
func (k *ranker) numbers(values []uint64) {
	k.begin(len(values))
	for i, v := range values {
		k.keys[i] = sortKey{v, int32(i)}
	}
	k.end()
}

// addresses ranks addresses.
func (k *ranker) addresses(values []address) {
	k.begin(len(values))
	for i := range values {
		k.keys[i] = sortKey{binary.BigEndian.Uint64(values[i].bytes()[8:]), int32(i)}
	}
	k.sort()
	for i := range k.keys {
		k.keys[i].n = binary.BigEndian.Uint64(values[k.keys[i].index].bytes())
	}
	k.end()
}

func (k *ranker) begin(n int) {
	k.keys, k.spare, k.rank = slices.Grow(k.keys[:0], n)[:n], slices.Grow(k.spare[:0], n)[:n], slices.Grow(k.rank[:0], n)[:n]
}

func (k *ranker) end() {
	k.sort()
	for i := range k.keys {
		k.rank[k.keys[i].index] = int32(i)
	}
}

// sort sorts the keys; equal ones stay as they are.
func (k *ranker) sort() {
	if sorted := sortKeys(k.keys, k.spare); len(sorted) > 0 && &sorted[0] != &k.keys[0] {
		k.keys, k.spare = k.spare, k.keys
	}
}
