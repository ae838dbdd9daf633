package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/store"
)

// Sums by pair of workloads over all segments are as many as there are pairs, millions when some of them are outside. Roll-ups lie by segment, so that
// the sums of one segment after the other are made from all files at once, and only these are in memory.

var _ store.PairsView = (*view)(nil)

// pairRow are the columns of a roll-up that they are made from.
type pairRow struct {
	Segment       uint64   `parquet:"segment"`
	Src           [16]byte `parquet:"src"`
	Dst           [16]byte `parquet:"dst"`
	Bucket        int64    `parquet:"bucket"`
	Fabric        string   `parquet:"fabric"`
	SrcVM         string   `parquet:"src_vm"`
	SrcVMID       string   `parquet:"src_vm_id"`
	DstVM         string   `parquet:"dst_vm"`
	DstVMID       string   `parquet:"dst_vm_id"`
	Client        uint8    `parquet:"client"`
	Packets       uint64   `parquet:"packets"`
	Octets        uint64   `parquet:"octets"`
	Rows          uint64   `parquet:"rows"`
	Flows         uint32   `parquet:"flows"`
	FirstSeen     int64    `parquet:"first_seen"`
	LastSeen      int64    `parquet:"last_seen"`
	PortVotes     int64    `parquet:"port_votes"`
	SampledRows   uint32   `parquet:"sampled_rows"`
	AmbiguousRows uint32   `parquet:"ambiguous_rows"`
	OuterSrc      [16]byte `parquet:"outer_src"` // these two when they are asked for
	OuterDst      [16]byte `parquet:"outer_dst"`
}

// pairColumns are the columns but for those of tunnel endpoints.
var pairColumns = func() (names []string) {
	for _, c := range columnsOf(reflect.TypeFor[pairRow]()) {
		if !strings.HasPrefix(c.Name, "outer_") {
			names = append(names, c.Name)
		}
	}
	return names
}()

const (
	pairRowsAtOnce = 512     // of a file, in memory
	mostPairs      = 500_000 // of a segment, in memory
	mostPairFiles  = 40      // read at once
)

// pairFile is a roll-up with the times of its buckets that a range has.
type pairFile struct {
	file
	from, to int64
	hours    []int64 // of these the range has those only; nil for all
}

func (p *pairFile) counts(bucket int64) bool {
	return bucket >= p.from && bucket < p.to && (p.hours == nil || slices.Contains(p.hours, bucket))
}

// pairFiles lists the roll-ups that RollupPart reads for a range.
func (v *view) pairFiles(from, to int64) (in []pairFile) {
	first, last := wholeHours(from, to)
	for _, f := range v.rolled.sums {
		in = append(in, pairFile{f, first, last, nil})
	}
	for _, f := range v.rolled.only {
		in = append(in, pairFile{f, from, to, nil})
	}
	for i := range v.rolled.merged {
		m := &v.rolled.merged[i]
		p := pairFile{m.file, -1 << 63, 1<<63 - 1, nil}
		hours, all := m.in(from, to, first, last)
		if !all {
			p.hours = hours
		}
		if len(hours) > 0 {
			in = append(in, p)
		}
	}
	return slices.DeleteFunc(in, func(p pairFile) bool { return p.Rows == 0 || p.MaxMS < p.from || hourOf(p.MinMS) >= p.to })
}

// PairsRest implements store.PairsView.
func (v *view) PairsRest(fromNS, toNS int64) string {
	from, to := ceilMS(fromNS), ceilMS(toNS)
	first, last := wholeHours(from, to)
	if rows := v.unrolled(from, to, first, last); rows != "" {
		return rollupRows(rows, "true", rollupStep)
	}
	return ""
}

// SumPairs implements store.PairsView.
func (v *view) SumPairs(ctx context.Context, fromNS, toNS int64, rest []store.PairSums, vteps bool, each func(store.SegmentPairs)) error {
	in := v.pairFiles(ceilMS(fromNS), ceilMS(toNS))
	if len(in) > mostPairFiles {
		return store.ErrNotSummed
	}
	err := v.s.sumPairs(ctx, in, &pairAdder{in: in, rest: rest, vteps: vteps, each: each})
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, store.ErrNotSummed):
		return err
	case v.s.checkFiles(v.rolls):
		return fmt.Errorf("segment: %w: %w", store.ErrStale, err)
	}
	return fmt.Errorf("segment: pairs: %w", err)
}

// sumPairs divides the segments among as many as may ask at once.
func (s *Store) sumPairs(ctx context.Context, in []pairFile, all *pairAdder) error {
	open := make([]*os.File, 0, len(in))
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	for i := range in {
		f, err := os.Open(s.path(in[i].Name))
		if err != nil {
			return err
		}
		open = append(open, f)
	}
	bounds, err := segmentsApart(open, s.cfg.QueryThreads)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	from := uint64(0)
	for _, to := range append(bounds, 1<<64-1) {
		a := *all
		a.open, a.from, a.to, a.rest = open, from, to, all.rest[countBelow(all.rest, from):]
		g.Go(func() error { return a.run(ctx) })
		from = to + 1
	}
	return g.Wait()
}

// countBelow is how many sums are of segments before one.
func countBelow(sums []store.PairSums, segment uint64) int {
	n, _ := slices.BinarySearchFunc(sums, segment, func(s store.PairSums, segment uint64) int {
		if s.Segment < segment {
			return -1
		}
		return 1
	})
	return n
}

// segmentsApart gives the last segments of parts with about as many rows each, but for that of the last.
func segmentsApart(files []*os.File, parts int) (lasts []uint64, err error) {
	type group struct {
		segment uint64
		rows    int64
	}
	var groups []group
	var all int64
	for _, f := range files {
		r, err := openPairs(f, false)
		if err != nil {
			return nil, err
		}
		for i, g := range r.pf.Metadata().RowGroups {
			groups = append(groups, group{r.lastSegment(i), g.NumRows})
			all += g.NumRows
		}
	}
	slices.SortFunc(groups, func(a, b group) int {
		if a.segment < b.segment {
			return -1
		}
		return 1
	})
	var n int64
	for _, g := range groups {
		if n += g.rows; n >= all*int64(len(lasts)+1)/int64(parts) && len(lasts)+1 < parts && (len(lasts) == 0 || lasts[len(lasts)-1] < g.segment) && g.segment < 1<<64-1 {
			lasts = append(lasts, g.segment)
		}
	}
	return lasts, nil
}

// pairReader reads a roll-up.
type pairReader struct {
	*scanner[pairRow]
	segment int    // column
	last    uint64 // segment of the current row
	buf     []pairRow
	i, n    int
}

func openPairs(f *os.File, vteps bool) (p *pairReader, err error) {
	defer recoverDamage(&err)
	columns := pairColumns
	if vteps {
		columns = nil
	}
	r, err := newScanner[pairRow](f, columns...)
	if err != nil {
		return nil, err
	}
	r.frugal = true
	if len(r.fields) == 0 || r.fields[0].name != "segment" {
		return nil, errors.New("damaged: a roll-up without segments")
	}
	return &pairReader{scanner: r, segment: r.fields[0].column}, nil
}

// errUnsorted is of a roll-up that an older version has written: a few rows of it stand at the end.
var errUnsorted = fmt.Errorf("%w: a roll-up is not sorted", store.ErrNotSummed)

// recoverDamage makes a panic of the library an error.
func recoverDamage(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("damaged: %v", p)
	}
}

// lastSegment is the greatest one of a row group, the greatest of all where the file does not tell.
func (p *pairReader) lastSegment(group int) uint64 {
	if v := p.pf.Metadata().RowGroups[group].Columns[p.segment].MetaData.Statistics.MaxValue; len(v) == 8 {
		return binary.LittleEndian.Uint64(v)
	}
	return 1<<64 - 1
}

// skipTo leaves out row groups before a segment.
func (p *pairReader) skipTo(segment uint64) {
	for p.group < len(p.pf.RowGroups()) && p.lastSegment(p.group) < segment {
		p.group++
	}
}

// row is the current row, nil at the end.
func (p *pairReader) row() (*pairRow, error) {
	if p.i == p.n {
		n, err := p.read(p.buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if p.i, p.n = 0, n; n == 0 {
			return nil, nil
		}
	}
	r := &p.buf[p.i]
	if r.Segment < p.last {
		return nil, errUnsorted
	}
	p.last = r.Segment
	return r, nil
}

// pairAdder adds up a range of segments.
type pairAdder struct {
	in       []pairFile
	open     []*os.File
	readers  []*pairReader
	rest     []store.PairSums
	vteps    bool
	each     func(store.SegmentPairs)
	from, to uint64 // segments
	sums     []store.PairSums
	known    table
	seen     map[store.VTEP]struct{}
}

func (a *pairAdder) run(ctx context.Context) (err error) {
	defer recoverDamage(&err)
	defer func() {
		for _, r := range a.readers {
			r.close()
		}
	}()
	for _, f := range a.open {
		r, err := openPairs(f, a.vteps)
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
	a.sums, a.seen = a.sums[:0], map[store.VTEP]struct{}{}
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
				if a.vteps && !row.sameVTEPs(&last) {
					a.see(row)
				}
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
		a.each(store.SegmentPairs{Pairs: a.sums, VTEPs: slices.Collect(maps.Keys(a.seen))})
	}
	return nil
}

// see notes the tunnel endpoints of a row.
func (a *pairAdder) see(r *pairRow) {
	for _, addr := range [][16]byte{r.OuterSrc, r.OuterDst} {
		if addr != [16]byte{} {
			a.seen[store.VTEP{Segment: r.Segment, Fabric: r.Fabric, Addr: addr}] = struct{}{}
		}
	}
}

func (r *pairRow) sameVTEPs(o *pairRow) bool {
	return r.OuterSrc == o.OuterSrc && r.OuterDst == o.OuterDst && r.Fabric == o.Fabric
}

// sameEnds reports whether both rows are of one pair, go the same way and name the same tunnel endpoints.
func (r *pairRow) sameEnds(o *pairRow) bool {
	return r.Src == o.Src && r.Dst == o.Dst && r.SrcVMID == o.SrcVMID && r.DstVMID == o.DstVMID && r.SrcVM == o.SrcVM && r.DstVM == o.DstVM && r.sameVTEPs(o)
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
	x, y := end{0, binary.BigEndian.Uint64(s.A[:8]), binary.BigEndian.Uint64(s.A[8:])}, end{0, binary.BigEndian.Uint64(s.B[:8]), binary.BigEndian.Uint64(s.B[8:])}
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

// wholeHours is where those of a range begin and end.
func wholeHours(from, to int64) (first, last int64) {
	if first, last = -hourOf(-from), hourOf(to); first > last {
		return to, to
	}
	return first, last
}
