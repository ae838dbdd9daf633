package segment

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/uuid"

	"crosstap/internal/flow"
)

// cursor reads one sorted file row by row.
type cursor struct {
	f    *os.File
	r    *scanner[row]
	buf  []row
	i, n int
	at   int // number of the current row in the file
	file int // number of the file in the merge
	eof  bool
}

// cursorRows is how many rows a cursor reads at a time: a merge of 64 files holds some 8 MB of them.
const cursorRows = 256

func openCursor(path string, number int, columns ...string) (*cursor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := newScanner[row](f, columns...)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &cursor{f: f, r: r, buf: make([]row, cursorRows), at: -1, file: number}, nil
}

// next moves to the following row; false at the end.
func (c *cursor) next() (ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			ok, err = false, fmt.Errorf("damaged: %v", p)
		}
	}()
	c.i++
	c.at++
	if c.i < c.n {
		return true, nil
	}
	for !c.eof {
		runtime.Gosched() // what arrives, and who asks, comes first
		n, err := c.r.read(c.buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		c.eof = err != nil
		if c.i, c.n = 0, n; n > 0 {
			return true, nil
		}
	}
	return false, nil
}

func (c *cursor) row() *row { return &c.buf[c.i] }

func (c *cursor) close() {
	c.r.close()
	c.f.Close()
}

// cursors is a heap by current row.
type cursors []*cursor

func (h cursors) Len() int { return len(h) }
func (h cursors) Less(i, j int) bool {
	if c := compareRows(h[i].row(), h[j].row()); c != 0 {
		return c < 0
	}
	return h[i].file < h[j].file
}
func (h cursors) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *cursors) Push(x any)   { *h = append(*h, x.(*cursor)) }
func (h *cursors) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// damagedError says which input of a merge cannot be read.
type damagedError struct {
	file file
	err  error
}

func (e *damagedError) Error() string { return e.file.Name + ": " + e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

var errStopped = errors.New("the store is being closed")

// merge writes the rows of sorted files as new ones of the level, sorted, with at most SealRows each.
// bits, when given, holds for each file which of its rows are canonical; each, when given, sees every row as it is written. Memory
// does not grow with the files' size.
func (s *Store) merge(in []file, level int, sealed bool, bits []bitmap, each func(*row) error) (out []file, err error) {
	defer func() {
		if err != nil {
			for _, f := range out {
				os.Remove(s.path(f.Name))
			}
			out = nil
		}
	}()
	h, closeAll, err := s.openCursors(in)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	var total int64
	names := make([]string, len(in))
	for i, f := range in {
		total += f.Rows
		names[i] = f.Name
	}
	group, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	e := newEncoder(level)
	parts := max(int((total+int64(s.cfg.SealRows)-1)/int64(s.cfg.SealRows)), 1)
	for part := 0; len(h) > 0; part++ {
		f, err := s.createFile(e, level, sealed, names, func(e *encoder) error {
			e.foot.Group, e.foot.Part, e.foot.Parts = group.String(), part, parts
			return s.mergeInto(e, &h, in, bits, each)
		})
		if err != nil {
			return out, err
		}
		f.Known = commonVersion(in)
		out = append(out, f)
	}
	return out, nil
}

// openCursors opens all files; closeAll is never nil.
func (s *Store) openCursors(in []file, columns ...string) (h cursors, closeAll func(), err error) {
	var all cursors
	closeAll = func() {
		for _, c := range all {
			c.close()
		}
	}
	for i, f := range in {
		c, err := openCursor(s.path(f.Name), i, columns...)
		if err != nil {
			return nil, closeAll, &damagedError{f, err}
		}
		all = append(all, c)
		ok, err := c.next()
		if err != nil {
			return nil, closeAll, &damagedError{f, err}
		}
		if ok {
			h = append(h, c)
		}
	}
	heap.Init(&h)
	return h, closeAll, nil
}

// mergeInto moves at most SealRows rows.
func (s *Store) mergeInto(e *encoder, h *cursors, in []file, bits []bitmap, each func(*row) error) error {
	for n := 0; len(*h) > 0 && n < s.cfg.SealRows; n++ {
		if n%4096 == 0 && s.stopped() {
			return errStopped
		}
		c := (*h)[0]
		r := e.next()
		*r = *c.row()
		if bits != nil {
			r.Marks &^= uint16(flow.MarkCanonical)
			if bits[c.file].has(c.at) {
				r.Marks |= uint16(flow.MarkCanonical)
			}
		}
		if each != nil {
			if err := each(r); err != nil {
				return err
			}
		}
		if err := e.added(); err != nil {
			return err
		}
		if err := h.advance(in); err != nil {
			return err
		}
	}
	return nil
}

// advance moves the first cursor to its next row.
func (h *cursors) advance(in []file) error {
	c := (*h)[0]
	ok, err := c.next()
	switch {
	case err != nil:
		return &damagedError{in[c.file], err}
	case ok:
		heap.Fix(h, 0)
	default:
		heap.Pop(h)
	}
	return nil
}

// stopped reports whether the store is being closed.
func (s *Store) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// bitmap is a set of small numbers.
type bitmap []uint64

func newBitmap(n int64) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) has(i int) bool { return i>>6 < len(b) && b[i>>6]>>(i&63)&1 == 1 }

func (b bitmap) put(i int, on bool) {
	if on {
		b[i>>6] |= 1 << (i & 63)
	} else {
		b[i>>6] &^= 1 << (i & 63)
	}
}
