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
	type key struct {
		n     uint64
		index int32
	}
	keys := make([]key, len(recs))
	for i := range recs {
		at := (uint64(floorMS(recs[i].EndNS)) - uint64(floorMS(first))) >> cut
		keys[i] = key{uint64(src[i])<<(64-rankBits) | uint64(dst[i])<<(64-2*rankBits) | at, int32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.n != b.n {
			return cmp.Compare(a.n, b.n)
		}
		return cmp.Or(compareSameEnds(&recs[a.index], &recs[b.index]), cmp.Compare(a.index, b.index))
	})
	order := make([]int32, len(keys))
	for i := range keys {
		order[i] = keys[i].index
	}
	return order
}

// end is what a rank is given to.
type end struct {
	segment flow.Segment
	addr    flow.Addr
}

// ranks numbers the different ends of the records in their order, and gives each record its number.
func ranks(recs []flow.Record, of func(*flow.Record) end) []int32 {
	number := make(map[end]int32, 1024)
	out := make([]int32, len(recs))
	var ends []end
	for i := range recs {
		e := of(&recs[i])
		n, ok := number[e]
		if !ok {
			n = int32(len(ends))
			number[e] = n
			ends = append(ends, e)
		}
		out[i] = n
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
