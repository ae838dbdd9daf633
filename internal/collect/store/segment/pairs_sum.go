package segment

import "crosstap/internal/collect/store"

// mostPlaces are the stretches of rows of one segment that are noted, 20 bytes each.
var mostPlaces = 1 << 21

// pairAdder adds segments up by pair.
type pairAdder struct {
	*bySegment
	each   func([]store.PairSums, func(int) ([]store.Stretch, bool))
	sums   []store.PairSums
	last   []int32 // stretches of the sums, the last ones: numbers in where, from 1
	where  []pairPlace
	lost   bool // there are more places than are noted
	others []otherRow
	known  table
}

// pairPlace is where some rows of a pair lie beside each other.
type pairPlace struct {
	store.Stretch
	before int32 // the pair's stretch before that, as in last
}

// otherRow is a row that tells of other observers alone, of a pair that it does not make: that may come later.
type otherRow struct {
	fabric     string
	a, b       [16]byte
	aWho, bWho string
	at         store.Stretch
}

// add adds a segment up and gives its pairs out.
func (a *pairAdder) add(segment uint64) error {
	a.known.empty(len(a.sums))
	a.sums, a.last, a.where, a.lost, a.others = a.sums[:0], a.last[:0], a.where[:0], false, a.others[:0]
	for i, r := range a.readers {
		p := &a.in[i]
		sum, swapped := -1, false // of the row before
		for ; ; r.i++ {
			row, err := r.row()
			if err != nil {
				return err
			}
			if row == nil || row.Segment != segment {
				break
			}
			if !p.counts(row.Bucket) {
				sum = -1
				continue
			}
			at := store.Stretch{File: int32(i), Group: int32(r.group - 1), First: int32(r.before + r.i), Rows: 1}
			if row.Rows == 0 {
				a.other(row, at)
				sum = -1
				continue
			}
			if sum < 0 || !row.sameEnds(r.previous()) || row.Src == row.Dst {
				if sum, swapped = a.pairOf(row); sum < 0 {
					return store.ErrNotSummed
				}
			}
			row.addTo(&a.sums[sum], swapped)
			a.place(sum, at)
		}
	}
	for ; len(a.rest) > 0 && a.rest[0].Segment == segment; a.rest = a.rest[1:] {
		r := &a.rest[0]
		s := a.find(r.Fabric, &r.A, r.AWho, &r.B, r.BWho)
		if s < 0 {
			return store.ErrNotSummed
		}
		if s == len(a.last) {
			a.begin(s, segment, r.FirstMS, r.LastMS)
		}
		a.sums[s].Add(r)
	}
	if len(a.sums) == 0 {
		return nil
	}
	for i := range a.others {
		o := &a.others[i]
		if s, _ := a.look(o.fabric, &o.a, o.aWho, &o.b, o.bWho); s >= 0 {
			a.place(s, o.at)
		}
	}
	a.each(a.sums, a.places)
	return nil
}

// place notes where a row of a pair is.
func (a *pairAdder) place(sum int, at store.Stretch) {
	n := a.last[sum]
	if int(n) == len(a.where) && n > 0 {
		if l := &a.where[n-1]; l.First+l.Rows == at.First && l.Group == at.Group && l.File == at.File {
			l.Rows++
			return
		}
	}
	if a.lost = a.lost || len(a.where) >= mostPlaces; a.lost {
		return
	}
	a.where = append(a.where, pairPlace{at, n})
	a.last[sum] = int32(len(a.where))
}

// other notes where a row is that tells of other observers alone.
func (a *pairAdder) other(r *pairRow, at store.Stretch) {
	if a.lost = a.lost || len(a.others) >= mostPlaces/4; a.lost { // they are larger
		return
	}
	o := otherRow{r.Fabric, r.Src, r.Dst, who(r.SrcVM, r.SrcVMID), who(r.DstVM, r.DstVMID), at}
	if store.CompareEnds(o.a, o.aWho, o.b, o.bWho) > 0 {
		o.a, o.b, o.aWho, o.bWho = o.b, o.a, o.bWho, o.aWho
	}
	a.others = append(a.others, o)
}

// places are where the rows of a pair are; false when that is not known.
func (a *pairAdder) places(sum int) (all []store.Stretch, known bool) {
	if a.lost {
		return nil, false
	}
	for n := a.last[sum]; n > 0; n = a.where[n-1].before {
		all = append(all, a.where[n-1].Stretch)
	}
	return all, true
}

// sameEnds reports whether both rows are of one pair and go the same way.
func (r *pairRow) sameEnds(o *pairRow) bool {
	return r.Dst == o.Dst && r.Src == o.Src && r.SrcVMID == o.SrcVMID && r.DstVMID == o.DstVMID && r.SrcVM == o.SrcVM && r.DstVM == o.DstVM && r.Fabric == o.Fabric
}

// pairOf finds the sums that a row belongs to, -1 when there are too many.
func (a *pairAdder) pairOf(r *pairRow) (sum int, swapped bool) {
	srcWho, dstWho := who(r.SrcVM, r.SrcVMID), who(r.DstVM, r.DstVMID)
	c := store.CompareEnds(r.Src, srcWho, r.Dst, dstWho)
	if swapped = c > 0 || c == 0 && r.PortVotes > 0; swapped {
		sum = a.find(r.Fabric, &r.Dst, dstWho, &r.Src, srcWho)
	} else {
		sum = a.find(r.Fabric, &r.Src, srcWho, &r.Dst, dstWho)
	}
	if sum == len(a.last) { // new
		a.begin(sum, r.Segment, r.FirstSeen, r.LastSeen)
	}
	return sum, swapped
}

// find gives the number of the sums of a pair, new ones with nothing but the ends, which are to be begun; -1 when there are too many.
func (a *pairAdder) find(fabric string, one *[16]byte, oneWho string, two *[16]byte, twoWho string) int {
	if a.known.full(len(a.sums)) {
		a.known.grow(len(a.sums), func(i int) uint64 { return endsHash(&a.sums[i].A, &a.sums[i].B) })
	}
	n, slot := a.look(fabric, one, oneWho, two, twoWho)
	if n >= 0 || len(a.sums) == mostPairs {
		return n
	}
	a.sums = append(a.sums, store.PairSums{Fabric: fabric, A: *one, B: *two, AWho: oneWho, BWho: twoWho})
	a.known.slots[slot] = uint32(len(a.sums))
	return len(a.sums) - 1
}

// look gives the number of the sums of a pair, -1 and the slot that would be theirs when there are none.
func (a *pairAdder) look(fabric string, one *[16]byte, oneWho string, two *[16]byte, twoWho string) (n int, slot uint64) {
	for slot = endsHash(one, two) >> a.known.shift; a.known.slots[slot] != 0; slot = a.known.after(slot) {
		n := int(a.known.slots[slot]) - 1
		if s := &a.sums[n]; s.B == *two && s.A == *one && s.BWho == twoWho && s.AWho == oneWho && s.Fabric == fabric {
			return n, slot
		}
	}
	return -1, slot
}

// begin makes new sums such that others can be added.
func (a *pairAdder) begin(sum int, segment uint64, firstMS, lastMS int64) {
	a.last = append(a.last, 0)
	s := &a.sums[sum]
	s.Segment, s.FirstMS, s.LastMS = segment, firstMS, lastMS
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
