package segment

import (
	"context"
	"encoding/binary"
	"os"

	"crosstap/internal/collect/store"
)

// pairAdder adds up a range of segments.
type pairAdder struct {
	in       []pairFile
	open     []*os.File
	readers  []*pairReader
	rest     []store.PairSums
	each     func([]store.PairSums)
	from, to uint64 // segments
	sums     []store.PairSums
	known    table
}

func (a *pairAdder) run(ctx context.Context) (err error) {
	defer recoverDamage(&err)
	defer func() {
		for _, r := range a.readers {
			r.close()
		}
	}()
	for _, f := range a.open {
		r, err := openPairs(f)
		if err != nil {
			return err
		}
		r.buf = make([]pairRow, pairRowsAtOnce)
		r.skipTo(a.from)
		a.readers = append(a.readers, r)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		segment, ok, err := a.next()
		if err != nil || !ok {
			return err
		}
		if err := a.add(segment); err != nil {
			return err
		}
	}
}

// next is the least segment that is left.
func (a *pairAdder) next() (segment uint64, ok bool, err error) {
	segment = a.to
	for _, r := range a.readers {
		row, err := r.row()
		for row != nil && err == nil && row.Segment < a.from {
			r.i++
			row, err = r.row()
		}
		if err != nil {
			return 0, false, err
		}
		if row != nil && row.Segment <= segment {
			segment, ok = row.Segment, true
		}
	}
	if len(a.rest) > 0 && a.rest[0].Segment <= segment {
		segment, ok = a.rest[0].Segment, true
	}
	return segment, ok, nil
}

// add adds a segment up and gives its pairs out.
func (a *pairAdder) add(segment uint64) error {
	if clear(a.known.slots); len(a.known.slots) > 64*(len(a.sums)+1) {
		a.known = table{}
	}
	a.sums = a.sums[:0]
	for i, r := range a.readers {
		p := &a.in[i]
		var last pairRow // of which the pair is known
		sum, swapped := -1, false
		for {
			row, err := r.row()
			if err != nil {
				return err
			}
			if row == nil || row.Segment != segment {
				break
			}
			if r.i++; row.Rows == 0 || !p.counts(row.Bucket) {
				continue
			}
			if sum < 0 || !row.sameEnds(&last) || row.Src == row.Dst {
				if sum, swapped = a.pairOf(row); sum < 0 {
					return store.ErrNotSummed
				}
				last = *row
			}
			row.addTo(&a.sums[sum], swapped)
		}
	}
	for len(a.rest) > 0 && a.rest[0].Segment == segment {
		if s := a.find(&a.rest[0]); s >= 0 {
			a.sums[s].Add(&a.rest[0])
		} else {
			return store.ErrNotSummed
		}
		a.rest = a.rest[1:]
	}
	if len(a.sums) > 0 {
		a.each(a.sums)
	}
	return nil
}

// sameEnds reports whether both rows are of one pair and go the same way.
func (r *pairRow) sameEnds(o *pairRow) bool {
	return r.Src == o.Src && r.Dst == o.Dst && r.SrcVMID == o.SrcVMID && r.DstVMID == o.DstVMID && r.SrcVM == o.SrcVM && r.DstVM == o.DstVM && r.Fabric == o.Fabric
}

// pairOf finds the sums that a row belongs to, -1 when there are too many.
func (a *pairAdder) pairOf(r *pairRow) (sum int, swapped bool) {
	k := store.PairSums{Segment: r.Segment, Fabric: r.Fabric, A: r.Src, B: r.Dst, AWho: who(r.SrcVM, r.SrcVMID), BWho: who(r.DstVM, r.DstVMID), FirstMS: r.FirstSeen, LastMS: r.LastSeen}
	c := store.CompareEnds(k.A, k.AWho, k.B, k.BWho)
	if swapped = c > 0 || c == 0 && r.PortVotes > 0; swapped {
		k.A, k.B, k.AWho, k.BWho = k.B, k.A, k.BWho, k.AWho
	}
	return a.find(&k), swapped
}

// find gives the number of the sums of a pair, new ones with nothing but the pair and its times, -1 when there are too many.
func (a *pairAdder) find(k *store.PairSums) int {
	if a.known.full(len(a.sums)) {
		a.known.grow(len(a.sums), func(i int) uint64 { return pairHash(&a.sums[i]) })
	}
	at := pairHash(k) >> a.known.shift
	for ; a.known.slots[at] != 0; at = a.known.after(at) {
		if n := int(a.known.slots[at]) - 1; a.sums[n].SameEnds(k) {
			return n
		}
	}
	if len(a.sums) == mostPairs {
		return -1
	}
	a.sums = append(a.sums, store.PairSums{Segment: k.Segment, Fabric: k.Fabric, A: k.A, B: k.B, AWho: k.AWho, BWho: k.BWho, FirstMS: k.FirstMS, LastMS: k.LastMS})
	a.known.slots[at] = uint32(len(a.sums))
	return len(a.sums) - 1
}

// pairHash tells pairs of a segment apart mostly.
func pairHash(s *store.PairSums) uint64 {
	x, y := address{binary.BigEndian.Uint64(s.A[:8]), binary.BigEndian.Uint64(s.A[8:])}, address{binary.BigEndian.Uint64(s.B[:8]), binary.BigEndian.Uint64(s.B[8:])}
	return x.hash() ^ (y.hash()*hashMul + hashMul2)
}

// addTo adds a row to its pair.
func (r *pairRow) addTo(s *store.PairSums, swapped bool) {
	s.Octets += r.Octets
	s.Packets += r.Packets
	votes, portVotes, flows := int64(0), r.PortVotes, 0
	switch r.Client {
	case 1:
		votes = int64(r.Rows)
	case 2:
		votes = -int64(r.Rows)
	}
	if swapped {
		votes, portVotes, flows = -votes, -portVotes, 1
	} else {
		s.OctetsAB += r.Octets
		s.PacketsAB += r.Packets
	}
	if swapped != r.turned() {
		flows += 2
	}
	s.Flows[flows] += uint64(r.Flows)
	s.FirstMS, s.LastMS = min(s.FirstMS, r.FirstSeen), max(s.LastMS, r.LastSeen)
	s.Votes, s.PortVotes = s.Votes+votes, s.PortVotes+portVotes
	s.SampledRows, s.AmbiguousRows = s.SampledRows+uint64(r.SampledRows), s.AmbiguousRows+uint64(r.AmbiguousRows)
}

// turned is that of a roll-up's row.
func (r *pairRow) turned() bool {
	switch {
	case r.Client != 0:
		return r.Client == 2
	case r.PortVotes != 0:
		return r.PortVotes < 0
	}
	return store.CompareEnds(r.Src, who(r.SrcVM, r.SrcVMID), r.Dst, who(r.DstVM, r.DstVMID)) > 0
}
