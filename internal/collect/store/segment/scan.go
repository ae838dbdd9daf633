package segment

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/parquet-go/parquet-go"
)

// scanner reads a file column by column into rows of one of our structs: several times faster than the library's way
// through one value at a time. A damaged file gives an error or panics; callers turn that into an error.
type scanner[T any] struct {
	pf      *parquet.File
	fields  []rowField
	group   int   // next row group
	left    int64 // rows left in the current one
	cols    []columnScan
	convert func([]T) // of schema 1: what is stored as a difference now stands there itself; nil for none
	// frugal leaves fields alone that say the same in all rows and were set by an earlier read: the caller gives read one buffer again and again,
	// and changes nothing in it.
	frugal bool
	texts  sharedTexts // for readers of several files; nil where there is one
}

// sharedTexts gives equal strings one place in memory, so that most comparisons of names from several files end with that.
type sharedTexts map[string]string

// mostTexts bounds them; beyond it the collection starts anew.
const mostTexts = 1 << 14

func (t sharedTexts) of(b []byte) string {
	if t == nil {
		return string(b)
	}
	s, ok := t[string(b)]
	if !ok {
		if len(t) >= mostTexts {
			clear(t)
		}
		s = string(b)
		t[s] = s
	}
	return s
}

// oneValue are the bytes of a column of a row group up to which it is looked at whether it has one value only.
const oneValue = 512

// oldNames are the columns of schema 1 that are read into fields of other names, and what converting them needs.
var (
	oldNames = map[string]string{"span_ms": "t_start", "lag_ms": "t_recv", "l2_other": "l2_octets", "flow_key": "flow_id"}
	oldNeeds = []string{"t_end", "src_port", "dst_port", "octets", "packets", "span_ms", "lag_ms", "l2_other", "flow_key"}
)

// convert makes rows of schema 1 what they are now.
func convert(rows []row) {
	for i := range rows {
		w := &rows[i]
		w.SpanMS, w.LagMS, w.FlowKey = w.TEnd-w.SpanMS, w.LagMS-w.TEnd, w.FlowKey^w.ports()
		w.setL2(w.L2Other)
	}
}

// convertKeys and convertElection are convert for rows of an election.
func convertKeys(rows []keyRow) {
	for i := range rows {
		rows[i].FlowKey = rows[i].flowID()
	}
}

func convertElection(rows []electRow) {
	for i := range rows {
		w := &rows[i]
		w.SpanMS, w.FlowKey = w.TEnd-w.SpanMS, w.flowID()
	}
}

// rowField is where a column goes in a row.
type rowField struct {
	column int
	name   string
	offset uintptr
	kind   reflect.Kind
}

// columnScan walks over the pages of one column of a row group.
type columnScan struct {
	rowField
	pages  parquet.Pages
	page   parquet.Page
	at, n  int
	index  []int32 // into the dictionary, nil for a plain page
	u64    []uint64
	u32    []uint32
	fixed  []byte // 16 to a value
	text   []string
	texts  sharedTexts
	filled parquet.Dictionary // whose values are in the slices
	one    bool               // all rows of the row group say the same: there are no pages
	in     unsafe.Pointer     // one: the buffer whose first rows have it,
	done   int                // and how many
}

// newScanner reads the columns named, all without names. The others stay zero.
func newScanner[T any](f *os.File, names ...string) (*scanner[T], error) {
	pf, _, err := openParquet(f)
	if err != nil {
		return nil, err
	}
	return scannerOf[T](pf, names...), nil
}

// scannerOf is newScanner for a file that is open.
func scannerOf[T any](pf *parquet.File, names ...string) *scanner[T] {
	s := &scanner[T]{pf: pf}
	t := reflect.TypeFor[T]()
	columns := pf.Root().Columns()
	old := slices.ContainsFunc(columns, func(c *parquet.Column) bool { return c.Name() == "flow_id" })
	if old {
		switch to := any(&s.convert).(type) {
		case *func([]row):
			*to = convert
		case *func([]keyRow):
			*to = convertKeys
		case *func([]electRow):
			*to = convertElection
		}
	}
	if old && len(names) > 0 {
		names = slices.Concat(names, oldNeeds)
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("parquet"), ",")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if was := oldNames[name]; old && was != "" {
			name = was
		}
		at := slices.IndexFunc(columns, func(c *parquet.Column) bool { return c.Name() == name })
		if at < 0 {
			continue // a column that the file's version did not have
		}
		s.fields = append(s.fields, rowField{columns[at].Index(), name, t.Field(i).Offset, t.Field(i).Type.Kind()})
	}
	return s
}

// read fills rows from the start of buf and returns how many; io.EOF at the end.
func (s *scanner[T]) read(buf []T) (int, error) {
	for s.left == 0 {
		if s.group == len(s.pf.RowGroups()) {
			return 0, io.EOF
		}
		g := s.pf.RowGroups()[s.group]
		s.group++
		s.close()
		s.left = g.NumRows()
		chunks, meta := g.ColumnChunks(), s.pf.Metadata().RowGroups[s.group-1].Columns
		for _, f := range s.fields {
			s.cols = append(s.cols, columnScan{rowField: f, texts: s.texts, pages: chunks[f.column].Pages()})
			c := &s.cols[len(s.cols)-1]
			if !s.frugal || s.convert != nil || meta[f.column].MetaData.TotalUncompressedSize > oneValue {
				continue
			}
			if err := c.takeOne(); err != nil {
				return 0, fmt.Errorf("column %s: %w", c.name, err)
			}
		}
	}
	n := int(min(int64(len(buf)), s.left))
	for i := range s.cols {
		c := &s.cols[i]
		if c.one {
			c.fillOne(places{unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), c.offset), unsafe.Sizeof(buf[0]), n})
			continue
		}
		if err := c.fill(places{unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), c.offset), unsafe.Sizeof(buf[0]), n}); err != nil {
			return 0, fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	if s.convert != nil {
		s.convert(buf[:n])
	}
	s.left -= int64(n)
	return n, nil
}

// close lets go of the pages of the current row group.
func (s *scanner[T]) close() {
	for i := range s.cols {
		parquet.Release(s.cols[i].page)
		if s.cols[i].pages != nil {
			s.cols[i].pages.Close()
		}
	}
	s.cols = s.cols[:0]
}

// places are the same field of some rows, a struct's size apart.
type places struct {
	first  unsafe.Pointer
	stride uintptr
	n      int
}

// from leaves the first ones out.
func (p places) from(i int) places {
	return places{unsafe.Add(p.first, uintptr(i)*p.stride), p.stride, p.n - i}
}

// at is one of them.
func at[V any](p places, i int) *V { return (*V)(unsafe.Add(p.first, uintptr(i)*p.stride)) }

// fill sets the column in all rows.
func (c *columnScan) fill(to places) error {
	for to.n > 0 {
		if c.at == c.n {
			if err := c.nextPage(); err != nil {
				return err
			}
			continue
		}
		n := min(to.n, c.n-c.at)
		c.copy(places{to.first, to.stride, n})
		c.at += n
		if to.n == n {
			return nil // what is behind the last row is not ours to point at
		}
		to = to.from(n)
	}
	return nil
}

// takeOne looks whether the column has one value in the row group, and then reads no page.
func (c *columnScan) takeOne() error {
	p, ok := c.pages.(*parquet.FilePages)
	if !ok {
		return nil
	}
	d, err := p.ReadDictionary()
	if err != nil || d == nil || d.Len() != 1 {
		return err
	}
	c.take(d.Page())
	c.u64, c.u32, c.fixed = slices.Clone(c.u64), slices.Clone(c.u32), slices.Clone(c.fixed)
	c.one, c.pages = true, nil
	return p.Close()
}

// firsts are indexes of the first value of a dictionary.
var firsts [512]int32

// fillOne sets the one value in all rows, unless they have it.
func (c *columnScan) fillOne(to places) {
	if c.in == to.first && to.n <= c.done {
		return
	}
	c.in, c.done, c.at = to.first, to.n, 0
	for to.n > len(firsts) {
		c.index = firsts[:]
		c.copy(places{to.first, to.stride, len(firsts)})
		to = to.from(len(firsts))
	}
	c.index = firsts[:to.n]
	c.copy(to)
}

func (c *columnScan) nextPage() error {
	parquet.Release(c.page)
	c.page = nil
	p, err := c.pages.ReadPage()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	c.page, c.at, c.n, c.index = p, 0, int(p.NumValues()), nil
	d := p.Dictionary()
	if d == nil {
		c.filled = nil
		c.take(p)
		return nil
	}
	data := p.Data()
	c.index = data.Int32()
	if d != c.filled {
		c.take(d.Page())
		c.filled = d
	}
	return nil
}

// take reads the plain values of a page.
func (c *columnScan) take(p parquet.Page) {
	data := p.Data()
	switch c.kind {
	case reflect.Uint64, reflect.Int64:
		c.u64 = data.Uint64()
	case reflect.Float64:
		floats := data.Double()
		c.u64 = unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(floats))), len(floats))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		c.u32 = data.Uint32()
	case reflect.Array:
		c.fixed, _ = data.FixedLenByteArray()
	case reflect.String:
		text, offsets := data.ByteArray()
		c.text = c.text[:0]
		for i := range max(len(offsets)-1, 0) {
			c.text = append(c.text, c.texts.of(text[offsets[i]:offsets[i+1]]))
		}
	default:
		panic("segment: a column of kind " + c.kind.String())
	}
}

// copy sets the column in rows from the current place of the page.
func (c *columnScan) copy(to places) {
	switch c.kind {
	case reflect.Uint64, reflect.Int64, reflect.Float64:
		spreadOut(to, c.u64, c.index, c.at)
	case reflect.Uint32:
		spreadOut(to, c.u32, c.index, c.at)
	case reflect.Uint16:
		spreadLow[uint16](to, c.u32, c.index, c.at)
	case reflect.Uint8:
		spreadLow[uint8](to, c.u32, c.index, c.at)
	case reflect.Array:
		spreadOut(to, unsafe.Slice((*[16]byte)(unsafe.Pointer(unsafe.SliceData(c.fixed))), len(c.fixed)/16), c.index, c.at)
	case reflect.String:
		spreadOut(to, c.text, c.index, c.at)
	}
}

// spreadOut copies values into a field of the same size.
func spreadOut[V any](to places, values []V, index []int32, from int) {
	if index == nil {
		for i, v := range values[from : from+to.n] {
			*at[V](to, i) = v
		}
		return
	}
	for i, n := range index[from : from+to.n] {
		*at[V](to, i) = values[n]
	}
}

// spreadLow is spreadOut for numbers of which a field has the low bits.
func spreadLow[V uint8 | uint16](to places, values []uint32, index []int32, from int) {
	if index == nil {
		for i, v := range values[from : from+to.n] {
			*at[V](to, i) = V(v)
		}
		return
	}
	for i, n := range index[from : from+to.n] {
		*at[V](to, i) = V(values[n])
	}
}
