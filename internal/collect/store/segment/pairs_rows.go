package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/store"
)

// Some pairs' rows among millions: the engine would decode all columns of the segments that they are in. Here three columns tell where they are, and
// what the others say there is copied into a file for the engine, beside its spill files.

// pairEnds tells pairs apart but for the names of workloads of one address.
type pairEnds struct {
	segment uint64
	a, b    [16]byte
}

// placeRow are the columns that tell where rows are.
type placeRow struct {
	Segment uint64   `parquet:"segment"`
	Src     [16]byte `parquet:"src"`
	Dst     [16]byte `parquet:"dst"`
	Bucket  int64    `parquet:"bucket"`
}

func (r *placeRow) ends() pairEnds {
	if bytes.Compare(r.Src[:], r.Dst[:]) > 0 {
		return pairEnds{r.Segment, r.Dst, r.Src}
	}
	return pairEnds{r.Segment, r.Src, r.Dst}
}

// pairNeeds are the columns of a roll-up that questions about pairs read.
var pairNeeds = []string{
	"segment", "src", "dst", "bucket", "fabric", "tenant", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host", "app", "client", "packets", "octets", "rows", "flows",
	"first_seen", "last_seen", "marks", "port_votes", "variance", "sampled_rows", "ambiguous_rows", "outer_src", "outer_dst", "seen_by", "other_rows", "duplicates", "seen_other",
}

// stretch are rows of a row group beside each other.
type stretch struct{ first, n int }

// PairRows implements store.PairsView.
func (v *view) PairRows(ctx context.Context, fromNS, toNS int64, of []store.PairSums, segments string) (string, error) {
	from, to := ceilMS(fromNS), ceilMS(toNS)
	path, err := v.copyPairs(ctx, v.pairFiles(from, to), of)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil && v.s.checkFiles(v.rolls):
		return "", fmt.Errorf("segment: %w: %w", store.ErrStale, err)
	case err != nil:
		return "", fmt.Errorf("segment: rows of pairs: %w: %w", store.ErrNotSummed, err) // no room for the file, mostly
	}
	table := "SELECT " + rollupProjection + " FROM read_parquet(['" + strings.ReplaceAll(path, "'", "''") + "'], " + notPartitioned + ")"
	first, last := wholeHours(from, to)
	parts := append([]string{table}, v.partsOfRows(from, to, first, last, store.Part{Segments: segments})...)
	return "(" + strings.Join(parts, " UNION ALL ") + ")", nil
}

// copyPairs writes the rows of some pairs to a file that is removed with the view.
func (v *view) copyPairs(ctx context.Context, in []pairFile, of []store.PairSums) (path string, err error) {
	if err := os.MkdirAll(v.s.spill, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(v.s.spill, "pairs-"+uuid.NewString()+".parquet")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	v.scratch = append(v.scratch, path)
	c := &pairCopier{pairs: map[pairEnds]bool{}, out: newRollupWriter(f, mergedGroupRows)}
	for i := range of {
		c.pairs[pairEnds{of[i].Segment, of[i].A, of[i].B}] = true
		c.segments = append(c.segments, of[i].Segment)
	}
	slices.Sort(c.segments)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.s.cfg.QueryThreads)
	for i := range in {
		g.Go(func() error { return c.copy(ctx, v.s.path(in[i].Name), &in[i]) })
	}
	if err = g.Wait(); err == nil {
		err = c.out.finish()
	}
	return path, errors.Join(err, f.Close())
}

// pairCopier copies rows of some pairs.
type pairCopier struct {
	pairs    map[pairEnds]bool
	segments []uint64 // of them, ascending
	mu       sync.Mutex
	out      *rollupWriter
}

// copy copies what a file has of the pairs.
func (c *pairCopier) copy(ctx context.Context, path string, p *pairFile) (err error) {
	defer recoverDamage(&err)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	where, err := newScanner[placeRow](f)
	if err != nil {
		return err
	}
	defer where.close()
	all, err := newScanner[rollup](f, pairNeeds...)
	if err != nil {
		return err
	}
	buf := make([]placeRow, pairRowsAtOnce)
	for group := range where.pf.RowGroups() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !c.mayHave(where, group) {
			continue
		}
		hits, n, err := c.find(where, group, buf, p)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		rows := make([]rollup, n)
		if err := all.gather(group, hits, rows); err != nil {
			return err
		}
		c.mu.Lock()
		for i := range rows {
			if err == nil {
				err = c.out.add(&rows[i])
			}
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// mayHave reports whether a row group may have a segment of the pairs.
func (c *pairCopier) mayHave(s *scanner[placeRow], group int) bool {
	st := s.pf.Metadata().RowGroups[group].Columns[s.fields[0].column].MetaData.Statistics
	if len(st.MinValue) != 8 || len(st.MaxValue) != 8 {
		return true
	}
	i, _ := slices.BinarySearch(c.segments, binary.LittleEndian.Uint64(st.MinValue))
	return i < len(c.segments) && c.segments[i] <= binary.LittleEndian.Uint64(st.MaxValue)
}

// find tells where in a row group rows of the pairs are, and how many.
func (c *pairCopier) find(s *scanner[placeRow], group int, buf []placeRow, p *pairFile) (hits []stretch, n int, err error) {
	s.close()
	s.group, s.left = group, 0
	var last pairEnds
	hit := false
	for at, rows := 0, int(s.pf.RowGroups()[group].NumRows()); at < rows; {
		got, err := s.read(buf)
		if err != nil {
			return nil, 0, errors.Join(err, io.ErrUnexpectedEOF)
		}
		for i := range got {
			r := &buf[i]
			if ends := r.ends(); at+i == 0 || ends != last {
				hit, last = c.pairs[ends], ends
			}
			if !hit || !p.counts(r.Bucket) {
				continue
			}
			hits = extend(hits, at+i)
			n++
		}
		at += got
	}
	return hits, n, nil
}

// extend adds a row to stretches that end before it.
func extend(all []stretch, at int) []stretch {
	if k := len(all); k > 0 && all[k-1].first+all[k-1].n == at {
		all[k-1].n++
		return all
	}
	return append(all, stretch{at, 1})
}

// gather fills rows from some places of a row group, in order.
func (s *scanner[T]) gather(group int, from []stretch, rows []T) error {
	chunks := s.pf.RowGroups()[group].ColumnChunks()
	for _, f := range s.fields {
		c := columnScan{rowField: f, pages: chunks[f.column].Pages()}
		err := c.gather(from, unsafe.Pointer(unsafe.SliceData(rows)), unsafe.Sizeof(rows[0]))
		parquet.Release(c.page)
		if err = errors.Join(err, c.pages.Close()); err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	return nil
}

// gather sets the column in rows a struct's size apart.
func (c *columnScan) gather(from []stretch, rows unsafe.Pointer, size uintptr) error {
	page, done := 0, 0 // rows before the page, and rows set
	for _, s := range from {
		for end := s.first + s.n; s.first < end; {
			for s.first >= page+c.n {
				page += c.n
				if err := c.nextPage(); err != nil {
					return err
				}
			}
			c.at = s.first - page
			n := min(end-s.first, c.n-c.at)
			c.copy(places{unsafe.Add(rows, uintptr(done)*size+c.offset), size, n})
			s.first, done = s.first+n, done+n
		}
	}
	return nil
}
