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

// scanner reads a segment file column by column into rows: several times faster than the library's way
// through one value at a time. A damaged file gives an error or panics; callers turn that into an error.
type scanner struct {
	pf     *parquet.File
	fields []rowField
	group  int   // next row group
	left   int64 // rows left in the current one
	cols   []columnScan
	old    bool // of schema 1: what is stored as a difference now stands there itself
}

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
	filled parquet.Dictionary // whose values are in the slices
}

// newScanner reads the columns named, all without names. The others stay zero.
func newScanner(f *os.File, names ...string) (*scanner, error) {
	pf, _, err := openParquet(f)
	if err != nil {
		return nil, err
	}
	s := &scanner{pf: pf}
	t := reflect.TypeFor[row]()
	columns := pf.Root().Columns()
	s.old = slices.ContainsFunc(columns, func(c *parquet.Column) bool { return c.Name() == "flow_id" })
	if s.old && len(names) > 0 {
		names = slices.Concat(names, oldNeeds)
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("parquet"), ",")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if old := oldNames[name]; s.old && old != "" {
			name = old
		}
		at := slices.IndexFunc(columns, func(c *parquet.Column) bool { return c.Name() == name })
		if at < 0 {
			continue // a column that the file's version did not have
		}
		s.fields = append(s.fields, rowField{columns[at].Index(), name, t.Field(i).Offset, t.Field(i).Type.Kind()})
	}
	return s, nil
}

// read fills rows from the start of buf and returns how many; io.EOF at the end.
func (s *scanner) read(buf []row) (int, error) {
	for s.left == 0 {
		if s.group == len(s.pf.RowGroups()) {
			return 0, io.EOF
		}
		g := s.pf.RowGroups()[s.group]
		s.group++
		s.close()
		s.left = g.NumRows()
		chunks := g.ColumnChunks()
		for _, f := range s.fields {
			s.cols = append(s.cols, columnScan{rowField: f, pages: chunks[f.column].Pages()})
		}
	}
	n := int(min(int64(len(buf)), s.left))
	for i := range s.cols {
		if err := s.cols[i].fill(buf[:n]); err != nil {
			return 0, fmt.Errorf("column %s: %w", s.cols[i].name, err)
		}
	}
	if s.old {
		convert(buf[:n])
	}
	s.left -= int64(n)
	return n, nil
}

// close lets go of the pages of the current row group.
func (s *scanner) close() {
	for i := range s.cols {
		parquet.Release(s.cols[i].page)
		s.cols[i].pages.Close()
	}
	s.cols = s.cols[:0]
}

// fill sets the column in all rows.
func (c *columnScan) fill(rows []row) error {
	for len(rows) > 0 {
		if c.at == c.n {
			if err := c.nextPage(); err != nil {
				return err
			}
			continue
		}
		n := min(len(rows), c.n-c.at)
		c.copy(rows[:n])
		c.at += n
		rows = rows[n:]
	}
	return nil
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
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		c.u32 = data.Uint32()
	case reflect.Array:
		c.fixed, _ = data.FixedLenByteArray()
	case reflect.String:
		text, offsets := data.ByteArray()
		c.text = c.text[:0]
		for i := range max(len(offsets)-1, 0) {
			c.text = append(c.text, string(text[offsets[i]:offsets[i+1]]))
		}
	default:
		panic("segment: a column of kind " + c.kind.String())
	}
}

// copy sets the column in rows from the current place of the page.
func (c *columnScan) copy(rows []row) {
	switch c.kind {
	case reflect.Uint64, reflect.Int64:
		spreadOut(rows, c.offset, c.u64, c.index, c.at)
	case reflect.Uint32:
		spreadOut(rows, c.offset, c.u32, c.index, c.at)
	case reflect.Uint16:
		for i := range rows {
			*at[uint16](&rows[i], c.offset) = uint16(c.u32[c.number(i)])
		}
	case reflect.Uint8:
		for i := range rows {
			*at[uint8](&rows[i], c.offset) = uint8(c.u32[c.number(i)])
		}
	case reflect.Array:
		for i := range rows {
			n := 16 * c.number(i)
			*at[[16]byte](&rows[i], c.offset) = [16]byte(c.fixed[n : n+16])
		}
	case reflect.String:
		spreadOut(rows, c.offset, c.text, c.index, c.at)
	}
}

// number is the number of the value i places on.
func (c *columnScan) number(i int) int {
	if c.index != nil {
		return int(c.index[c.at+i])
	}
	return c.at + i
}

// at is the field of a row at an offset that reflect gave.
func at[T any](r *row, offset uintptr) *T { return (*T)(unsafe.Add(unsafe.Pointer(r), offset)) }

// spreadOut copies values into a field of the same size.
func spreadOut[T any](rows []row, offset uintptr, values []T, index []int32, from int) {
	if index == nil {
		for i, v := range values[from : from+len(rows)] {
			*at[T](&rows[i], offset) = v
		}
		return
	}
	for i, n := range index[from : from+len(rows)] {
		*at[T](&rows[i], offset) = values[n]
	}
}
