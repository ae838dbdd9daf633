package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
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
}

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
	if parts := v.partsOfRows(from, to, first, last, store.Part{}); len(parts) > 0 {
		return "(" + strings.Join(parts, " UNION ALL ") + ")"
	}
	return ""
}

// SumPairs implements store.PairsView.
func (v *view) SumPairs(ctx context.Context, fromNS, toNS int64, rest []store.PairSums, each func([]store.PairSums)) error {
	in := v.pairFiles(ceilMS(fromNS), ceilMS(toNS))
	if len(in) > mostPairFiles {
		return store.ErrNotSummed
	}
	err := v.s.sumPairs(ctx, in, &pairAdder{in: in, rest: rest, each: each})
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
		r, err := openPairs(f)
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

func openPairs(f *os.File) (p *pairReader, err error) {
	defer recoverDamage(&err)
	r, err := newScanner[pairRow](f)
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

// wholeHours is where those of a range begin and end.
func wholeHours(from, to int64) (first, last int64) {
	if first, last = -hourOf(-from), hourOf(to); first > last {
		return to, to
	}
	return first, last
}
