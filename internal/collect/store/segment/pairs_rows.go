package segment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// Some pairs' rows among millions: the engine would decode all columns of the segments that they are in. Where they are is known from adding up, and what they say
// is copied into a file for the engine, beside its spill files.

// pairNeeds are the columns of a roll-up that questions about pairs read.
var pairNeeds = []string{
	"segment", "src", "dst", "bucket", "fabric", "tenant", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host", "app", "client", "packets", "octets", "rows", "flows",
	"first_seen", "last_seen", "marks", "port_votes", "variance", "sampled_rows", "ambiguous_rows", "outer_src", "outer_dst", "seen_by", "other_rows", "duplicates", "seen_other",
}

// PairRows implements store.PairsView.
func (v *view) PairRows(ctx context.Context, fromNS, toNS int64, of []store.Stretch, segments string) (string, error) {
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

// copyPairs writes some rows to a file that is removed with the view.
func (v *view) copyPairs(ctx context.Context, in []pairFile, of []store.Stretch) (path string, err error) {
	if err := os.MkdirAll(v.s.spill, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(v.s.spill, "pairs-"+uuid.NewString()+".parquet")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	v.scratch = append(v.scratch, path)
	of = slices.Clone(of)
	slices.SortFunc(of, func(x, y store.Stretch) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Group, y.Group), cmp.Compare(x.First, y.First))
	})
	c := &pairCopier{out: newRollupWriter(f, mergedGroupRows)}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.s.cfg.QueryThreads)
	for n := 0; len(of) > 0; of = of[n:] {
		if n = slices.IndexFunc(of, func(s store.Stretch) bool { return s.File != of[0].File || s.Group >= of[0].Group+groupsAtOnce }); n < 0 {
			n = len(of)
		}
		pf, openErr := v.open(&in[of[0].File].file)
		if err = openErr; err != nil {
			break
		}
		some := of[:n]
		g.Go(func() error { return c.copy(ctx, pf, some) })
	}
	if err = errors.Join(err, g.Wait()); err == nil {
		err = c.out.finish()
	}
	return path, errors.Join(err, f.Close())
}

// groupsAtOnce are the row groups that one goroutine copies from before it takes others.
const groupsAtOnce = 64

// pairCopier copies rows.
type pairCopier struct {
	mu  sync.Mutex
	out *rollupWriter
}

// copy copies rows of one file, in order.
func (c *pairCopier) copy(ctx context.Context, pf *parquet.File, of []store.Stretch) (err error) {
	defer recoverDamage(&err)
	all := scannerOf[rollup](pf, pairNeeds...)
	var rows []rollup
	for len(of) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		group, n, stretches := of[0].Group, 0, 0
		for ; stretches < len(of) && of[stretches].Group == group; stretches++ {
			n += int(of[stretches].Rows)
		}
		rows = slices.Grow(rows[:0], n)[:n] // what is not read stays zero
		if err := all.gather(int(group), of[:stretches], rows); err != nil {
			return err
		}
		of = of[stretches:]
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

// gather fills rows from some places of a row group, in order.
func (s *scanner[T]) gather(group int, from []store.Stretch, rows []T) error {
	chunks, meta := s.pf.RowGroups()[group].ColumnChunks(), s.pf.Metadata().RowGroups[group].Columns
	for _, f := range s.fields {
		c := columnScan{rowField: f, pages: chunks[f.column].Pages()}
		err := c.gather(from, places{unsafe.Add(unsafe.Pointer(unsafe.SliceData(rows)), f.offset), unsafe.Sizeof(rows[0]), len(rows)}, meta[f.column].MetaData.TotalUncompressedSize <= oneValue)
		parquet.Release(c.page)
		if c.pages != nil {
			err = errors.Join(err, c.pages.Close())
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	return nil
}

// gather sets the column in rows. small says that it may have one value only.
func (c *columnScan) gather(from []store.Stretch, to places, small bool) error {
	if small {
		if err := c.takeOne(); err != nil {
			return err
		}
		if c.one {
			c.fillOne(to)
			return nil
		}
	}
	page, done := 0, 0 // rows before the page, and rows set
	for _, s := range from {
		for first, end := int(s.First), int(s.First+s.Rows); first < end; {
			for first >= page+c.n {
				page += c.n
				if err := c.nextPage(); err != nil {
					return err
				}
			}
			c.at = first - page
			n := min(end-first, c.n-c.at)
			c.copy(places{unsafe.Add(to.first, uintptr(done)*to.stride), to.stride, n})
			first, done = first+n, done+n
		}
	}
	return nil
}
