package segment

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"

	"crosstap/internal/flow"
)

// Rows lie in a file by segment, source, destination and end: what is asked for together lies together, and halves the
// bytes. Behind that, flow and observer keep the observers of one flow together.

// compareRows is that order for stored rows.
func compareRows(a, b *row) int {
	if c := cmp.Compare(a.Segment, b.Segment); c != 0 {
		return c
	}
	if c := bytes.Compare(a.Src[:], b.Src[:]); c != 0 {
		return c
	}
	if c := bytes.Compare(a.Dst[:], b.Dst[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.TEnd, b.TEnd), cmp.Compare(a.flowID(), b.flowID()), cmp.Compare(a.ObserverID, b.ObserverID))
}

// compareSameEnds is the rest of the order for records with equal segment and addresses.
func compareSameEnds(a, b *flow.Record) int {
	return cmp.Or(cmp.Compare(floorMS(a.EndNS), floorMS(b.EndNS)), cmp.Compare(a.FlowID, b.FlowID), cmp.Compare(a.ObserverID, b.ObserverID))
}

// sortOrder returns the records' indexes in the order of a file. Addresses are ranked first, so that most comparisons are
// of one number.
func sortOrder(recs []flow.Record) []int32 {
	src := ranks(recs, func(r *flow.Record) end { return end{r.Segment, r.Src} })
	dst := ranks(recs, func(r *flow.Record) end { return end{0, r.Dst} })
	first, last := int64(1<<63-1), int64(-1<<63)
	for i := range recs {
		first, last = min(first, recs[i].EndNS), max(last, recs[i].EndNS)
	}
	// ranks need rankBits each; what is left of 64 bits is for the time, cut where it does not suffice
	rankBits := bits.Len(uint(len(recs)))
	cut := max(bits.Len64(uint64(floorMS(last))-uint64(floorMS(first)))-(64-2*rankBits), 0)
	keys := make([]sortKey, len(recs), 2*len(recs))
	for i := range recs {
		at := (uint64(floorMS(recs[i].EndNS)) - uint64(floorMS(first))) >> cut
		keys[i] = sortKey{uint64(src[i])<<(64-rankBits) | uint64(dst[i])<<(64-2*rankBits) | at, int32(i)}
	}
	keys = sortKeys(keys, keys[len(keys):cap(keys)])
	order := make([]int32, len(keys))
	for i := range keys {
		order[i] = keys[i].index
	}
	for i := 0; i < len(keys); { // what the keys do not tell apart
		n := i + 1
		for n < len(keys) && keys[n].n == keys[i].n {
			n++
		}
		if n > i+1 {
			slices.SortFunc(order[i:n], func(a, b int32) int { return cmp.Or(compareSameEnds(&recs[a], &recs[b]), cmp.Compare(a, b)) })
		}
		i = n
	}
	return order
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

// end is what a rank is given to.
type end struct {
	segment flow.Segment
	addr    flow.Addr
}

func (e *end) hash() uint64 {
	return hashAddr((*[16]byte)(&e.addr)) + bits.RotateLeft64(uint64(e.segment)*hashMul, 32)*hashMul2
}

// ranks numbers the different ends of the records in their order, and gives each record its number.
func ranks(recs []flow.Record, of func(*flow.Record) end) []int32 {
	var known table
	out := make([]int32, len(recs))
	ends := make([]end, 0, 4096)
	for i := range recs {
		e := of(&recs[i])
		if known.full(len(ends)) {
			known.grow(len(ends), func(i int) uint64 { return ends[i].hash() })
		}
		at := e.hash() >> known.shift
		for known.slots[at] != 0 && ends[known.slots[at]-1] != e {
			at = known.after(at)
		}
		if known.slots[at] == 0 {
			ends = append(ends, e)
			known.slots[at] = uint32(len(ends))
		}
		out[i] = int32(known.slots[at]) - 1
	}
	order := make([]int32, len(ends))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(ends[a].segment, ends[b].segment), bytes.Compare(ends[a].addr[:], ends[b].addr[:]))
	})
	rank := make([]int32, len(ends))
	for i, n := range order {
		rank[n] = int32(i)
	}
	for i, n := range out {
		out[i] = rank[n]
	}
	return out
}
