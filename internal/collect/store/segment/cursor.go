package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
)

// place is where a row stands in the order of its file, as numbers: those of an address have its order. What is behind the time is 0 for roll-ups.
type place struct {
	segment                          uint64
	srcHigh, srcLow, dstHigh, dstLow uint64
	at                               int64
	flow, observer                   uint64
}

// compare gives the order of a file.
func (p *place) compare(q *place) int {
	if c := cmp.Compare(p.segment, q.segment); c != 0 {
		return c
	}
	if c := compareWords(p.srcHigh, p.srcLow, q.srcHigh, q.srcLow); c != 0 {
		return c
	}
	if c := compareWords(p.dstHigh, p.dstLow, q.dstHigh, q.dstLow); c != 0 {
		return c
	}
	if c := cmp.Compare(p.at, q.at); c != 0 {
		return c
	}
	return compareWords(p.flow, p.observer, q.flow, q.observer)
}

// compareWords compares two numbers of two words each.
func compareWords(aHigh, aLow, bHigh, bLow uint64) int {
	low, borrow := bits.Sub64(aLow, bLow, 0)
	high, borrow := bits.Sub64(aHigh, bHigh, borrow)
	if borrow != 0 {
		return -1
	}
	if low|high == 0 {
		return 0
	}
	return 1
}

// cursor reads one sorted file row by row.
type cursor[T any] struct {
	f     *os.File
	r     *scanner[T]
	buf   []T
	i, n  int
	at    int   // number of the current row in the file
	file  int   // number of the file in the merge
	place place // of the current row
	eof   bool
}

// cursorRows is how many rows a cursor reads at a time: a merge of 64 files holds some 6 MB of them.
const cursorRows = 128

func (c *cursor[T]) row() *T { return &c.buf[c.i] }

// last reports whether the next row is not in memory, so that next overwrites this one.
func (c *cursor[T]) last() bool { return c.i+1 >= c.n }

// next moves to the following row; false at the end.
func (c *cursor[T]) next() (ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			ok, err = false, fmt.Errorf("damaged: %v", p)
		}
	}()
	for !c.eof {
		n, err := c.r.read(c.buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		c.eof = err != nil
		if c.i, c.n = 0, n; n > 0 {
			c.at++
			return true, nil
		}
	}
	return false, nil
}

func (c *cursor[T]) close() {
	c.r.close()
	c.f.Close()
}

// merger goes through the rows of sorted files in order; equal ones by the number of their file.
type merger[T any] struct {
	in      []file
	all     []*cursor[T]
	heap    []*cursor[T] // the least first
	reads   int
	placeOf func(*place, *T)
}

// openMerger opens all files, to read the columns named, all without names. It is never nil, and to be closed.
func openMerger[T any](s *Store, in []file, placeOf func(*place, *T), columns ...string) (*merger[T], error) {
	m, names := &merger[T]{in: in, placeOf: placeOf}, sharedTexts{}
	for i := range in {
		f, err := os.Open(s.path(in[i].Name))
		if err != nil {
			return m, &damagedError{in[i], err}
		}
		r, err := newScanner[T](f, columns...)
		if err != nil {
			f.Close()
			return m, &damagedError{in[i], err}
		}
		r.frugal, r.texts = true, names
		c := &cursor[T]{f: f, r: r, buf: make([]T, cursorRows), at: -1, file: i}
		m.all = append(m.all, c)
		ok, err := c.next()
		if err != nil {
			return m, &damagedError{in[i], err}
		}
		if ok {
			placeOf(&c.place, c.row())
			m.heap = append(m.heap, c)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	return m, nil
}

func (m *merger[T]) close() {
	for _, c := range m.all {
		c.close()
	}
}

// first is the cursor at the next row, nil at the end.
func (m *merger[T]) first() *cursor[T] {
	if len(m.heap) == 0 {
		return nil
	}
	return m.heap[0]
}

// advance moves the first cursor to its next row.
func (m *merger[T]) advance() error {
	c := m.heap[0]
	if c.i+1 < c.n {
		c.i++
		c.at++
	} else if ok, err := m.read(c); err != nil {
		return &damagedError{m.in[c.file], err}
	} else if !ok {
		last := len(m.heap) - 1
		m.heap[0], m.heap[last] = m.heap[last], nil
		m.heap = m.heap[:last]
		m.down(0)
		return nil
	}
	m.placeOf(&c.place, c.row())
	m.down(0)
	return nil
}

// yieldReads is how many reads, of a quarter of a millisecond's work each, others wait at most: to yield wakes an idle processor, which costs as much as a tenth of one.
const yieldReads = 8

// read moves a cursor to rows that are not in memory.
func (m *merger[T]) read(c *cursor[T]) (bool, error) {
	if m.reads++; m.reads%yieldReads == 0 {
		runtime.Gosched() // what arrives, and who asks, comes first
	}
	return c.next()
}

// down moves a cursor behind those that are before it.
func (m *merger[T]) down(i int) {
	h := m.heap
	if i >= len(h) {
		return
	}
	c := h[i]
	for {
		next := 2*i + 1
		if next >= len(h) {
			break
		}
		if other := next + 1; other < len(h) && h[other].before(h[next]) {
			next = other
		}
		if !h[next].before(c) {
			break
		}
		h[i] = h[next]
		i = next
	}
	h[i] = c
}

func (c *cursor[T]) before(o *cursor[T]) bool {
	if d := c.place.compare(&o.place); d != 0 {
		return d < 0
	}
	return c.file < o.file
}
