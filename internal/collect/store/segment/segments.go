package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/store"
)

// Reading sorted roll-ups one segment after the other, from all files at once.

// pairRow are columns of a roll-up; those that are not read stay zero.
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
	OuterSrc      [16]byte `parquet:"outer_src"`
	OuterDst      [16]byte `parquet:"outer_dst"`
}

const (
	pairRowsAtOnce = 128     // of a file, in memory
	mostPairs      = 500_000 // of a segment, in memory
	mostPairFiles  = 40      // read at once
)

// pairFile is a roll-up with the times of its buckets that a range has.
type pairFile struct {
	file
	from, to int64
	hours    []int64 // of these the range has those only; nil for all
	whole    bool    // all rows count
}

func (p *pairFile) counts(bucket int64) bool {
	return p.whole || bucket >= p.from && bucket < p.to && (p.hours == nil || slices.Contains(p.hours, bucket))
}

// pairFiles lists the roll-ups that RollupPart reads for a range.
func (v *view) pairFiles(from, to int64) (in []pairFile) {
	first, last := wholeHours(from, to)
	for _, f := range v.rolled.sums {
		in = append(in, pairFile{f, first, last, nil, false})
	}
	for _, f := range v.rolled.only {
		in = append(in, pairFile{f, from, to, nil, false})
	}
	for i := range v.rolled.merged {
		m := &v.rolled.merged[i]
		p := pairFile{m.file, -1 << 63, 1<<63 - 1, nil, false}
		hours, all := m.in(from, to, first, last)
		if p.whole = all; !all {
			p.hours = hours
		}
		if len(hours) > 0 {
			in = append(in, p)
		}
	}
	return slices.DeleteFunc(in, func(p pairFile) bool { return p.Rows == 0 || p.MaxMS < p.from || hourOf(p.MinMS) >= p.to })
}

// openRoll is a roll-up that a view has open: its footer tells of thousands of pieces, and takes as long to read as some of them.
type openRoll struct {
	f  *os.File
	pf *parquet.File
}

// open opens a roll-up until the view is closed.
func (v *view) open(f *file) (*parquet.File, error) {
	v.opening.Lock()
	defer v.opening.Unlock()
	if o, there := v.opened[f.Name]; there {
		return o.pf, nil
	}
	in, err := os.Open(v.s.path(f.Name))
	if err != nil {
		return nil, err
	}
	pf, _, err := openParquet(in)
	if err != nil {
		in.Close()
		return nil, err
	}
	if v.opened == nil {
		v.opened = map[string]openRoll{}
	}
	v.opened[f.Name] = openRoll{in, pf}
	return pf, nil
}

// closeRolls closes what open opened.
func (v *view) closeRolls() {
	v.opening.Lock()
	defer v.opening.Unlock()
	for _, o := range v.opened {
		o.f.Close()
	}
	v.opened = nil
}

// bySegment reads a range of segments from sorted roll-ups.
type bySegment struct {
	in       []pairFile
	readers  []*pairReader
	rest     []store.PairSums // from elsewhere, in the order of segments
	from, to uint64           // segments
}

// overSegments divides the segments of roll-ups and rest among as many as may ask at once. Each has a function of its own, made by adder, that is called with the segments
// in order and reads all rows of them.
func (v *view) overSegments(ctx context.Context, from, to int64, rest []store.PairSums, columns []string, adder func(*bySegment) func(segment uint64) error) (err error) {
	defer recoverDamage(&err)
	in := v.pairFiles(from, to)
	if len(in) > mostPairFiles {
		return store.ErrNotSummed
	}
	var open []*parquet.File
	for i := range in {
		pf, err := v.open(&in[i].file)
		if err != nil {
			return err
		}
		open = append(open, pf)
	}
	bounds, err := segmentsApart(open, v.s.cfg.QueryThreads)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	first := uint64(0)
	for _, last := range append(bounds, 1<<64-1) {
		s := &bySegment{in: in, rest: rest[countBelow(rest, first):], from: first, to: last}
		g.Go(func() error { return s.run(ctx, open, columns, adder(s)) })
		first = last + 1
	}
	return g.Wait()
}

func (s *bySegment) run(ctx context.Context, open []*parquet.File, columns []string, add func(segment uint64) error) (err error) {
	defer recoverDamage(&err)
	defer func() {
		for _, r := range s.readers {
			r.close()
		}
	}()
	for i, pf := range open {
		names := columns
		if !s.in[i].whole {
			names = append(slices.Clone(columns), "bucket")
		}
		r, err := newPairReader(pf, names...)
		if err != nil {
			return err
		}
		r.buf = make([]pairRow, pairRowsAtOnce)
		r.skipTo(s.from)
		s.readers = append(s.readers, r)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		segment, ok, err := s.next()
		if err != nil || !ok {
			return err
		}
		if err := add(segment); err != nil {
			return err
		}
	}
}

// next is the least segment that is left.
func (s *bySegment) next() (segment uint64, ok bool, err error) {
	segment = s.to
	for _, r := range s.readers {
		row, err := r.row()
		for row != nil && err == nil && row.Segment < s.from {
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
	if len(s.rest) > 0 && s.rest[0].Segment <= segment {
		segment, ok = s.rest[0].Segment, true
	}
	return segment, ok, nil
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
func segmentsApart(files []*parquet.File, parts int) (lasts []uint64, err error) {
	type group struct {
		segment uint64
		rows    int64
	}
	var groups []group
	var all int64
	for _, f := range files {
		r, err := newPairReader(f, "segment")
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
	before  int     // rows of the row group that are before those in buf
	prev    pairRow // the one before the first in buf
}

func newPairReader(pf *parquet.File, columns ...string) (*pairReader, error) {
	r := scannerOf[pairRow](pf, columns...)
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
		if p.n > 0 {
			p.prev = p.buf[p.n-1]
		}
		n, err := p.read(p.buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if p.i, p.n = 0, n; n == 0 {
			return nil, nil
		}
		p.before = int(p.pf.RowGroups()[p.group-1].NumRows()-p.left) - n
	}
	r := &p.buf[p.i]
	if r.Segment < p.last {
		return nil, errUnsorted
	}
	p.last = r.Segment
	return r, nil
}

// previous is the row before the current one, an empty one for the first.
func (p *pairReader) previous() *pairRow {
	if p.i > 0 {
		return &p.buf[p.i-1]
	}
	return &p.prev
}

// wholeHours is where those of a range begin and end.
func wholeHours(from, to int64) (first, last int64) {
	if first, last = -hourOf(-from), hourOf(to); first > last {
		return to, to
	}
	return first, last
}
