package segment

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// rowWriter writes Parquet files of one Go struct, whose tags are the schema, column by column from where the fields lie: the library's own way costs
// several times as much for rows of many columns that mostly say the same. One can be used for many files, one after the other.
type rowWriter[T any] struct {
	to        io.Writer
	at        int64 // bytes written
	schema    []format.SchemaElement
	orders    []format.ColumnOrder
	sorting   []format.SortingColumn
	columns   []fileColumn
	groupRows int
	pageRows  int
	compress  *zstd.Encoder // nil for none
	quick     *zstd.Encoder // for columns that more effort does not make smaller
	from      [blockRows]unsafe.Pointer
	rows      int // of the row group that is being collected
	all       int64
	groups    []format.RowGroup
	thrift    *thrift.Encoder
	buf       bytes.Buffer
	raw, out  []byte
}

// fileColumn is where a column comes from and what is kept of it.
type fileColumn struct {
	column
	name    string
	offset  uintptr
	bounded bool // least and greatest value are kept
	noisy   bool
	way     way // of its pages, as tried last
	tried   int // row groups since
}

// way is how the pages of a column of a compressed file are written.
type way uint8

const (
	untried     way = iota
	compressed      // as in other files, and then zstd
	differences     // numbers without a dictionary as packed differences, without zstd: several times faster to write, and to read
)

const (
	tryAfter = 8  // row groups after which both ways are tried again: what rows say changes along a file
	moreRoom = 16 // part of the room that differences may take more
)

// newRowWriter makes a writer. The sort columns are those the caller's rows are in the order of; level nil leaves the pages as they are.
func newRowWriter[T any](level *zstd.EncoderLevel, groupRows, pageRows int, sorted, bounded []string) *rowWriter[T] {
	t := reflect.TypeFor[T]()
	w := &rowWriter[T]{groupRows: groupRows, pageRows: pageRows}
	w.schema, w.orders = schemaOf[T]()
	if level != nil {
		w.compress, w.quick = newCompressor(*level), newCompressor(zstd.SpeedFastest)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		w.columns = append(w.columns, fileColumn{
			column: newColumn(f.Type, hasDictionary(f), f.Type.Kind() == reflect.Int64, level == nil), name: name, offset: f.Offset,
			bounded: slices.Contains(bounded, name), noisy: slices.Contains(noisyColumns, name),
		})
		if slices.Contains(sorted, name) {
			w.sorting = append(w.sorting, format.SortingColumn{ColumnIdx: int32(i)})
		}
	}
	w.thrift = thrift.NewEncoder(new(thrift.CompactProtocol).NewWriter(&w.buf))
	return w
}

// hasDictionary reports whether the tag of a field asks for a dictionary.
func hasDictionary(f reflect.StructField) bool {
	return slices.Contains(strings.Split(f.Tag.Get("parquet"), ","), "dict")
}

func newCompressor(level zstd.EncoderLevel) *zstd.Encoder {
	c, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false)) // no such option fails
	return c
}

// noisyColumns are those that say something else in each row, of which nothing repeats: a quick compression makes them as small as a thorough one. So it does
// others of which a row group turns out to be such.
var noisyColumns = []string{"flow_key", "src_port", "dst_port", "octets"}

// schemaOf has the library say what the tags mean.
func schemaOf[T any]() ([]format.SchemaElement, []format.ColumnOrder) {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	err := w.Close()
	var f *parquet.File
	if err == nil {
		f, err = parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	}
	if err != nil {
		panic("segment: schema: " + err.Error())
	}
	return f.Metadata().Schema, f.Metadata().ColumnOrders
}

// reset begins a file.
func (w *rowWriter[T]) reset(to io.Writer) {
	w.to, w.at, w.rows, w.all = to, 0, 0, 0
	clear(w.groups)
	w.groups = w.groups[:0]
	for _, c := range w.columns {
		c.reset()
	}
}

// blockRows is how many rows go from column to column together: they stay close to the processor meanwhile.
const blockRows = 64

// write takes rows; it does not keep them, but the strings in them until the file is finished.
func (w *rowWriter[T]) write(rows []T) error {
	for len(rows) > 0 {
		n := min(len(rows), w.room())
		for i := range n {
			w.from[i] = unsafe.Pointer(&rows[i])
		}
		rows = rows[n:]
		if err := w.block(n); err != nil {
			return err
		}
	}
	return nil
}

// writeFrom is write for rows that lie apart.
func (w *rowWriter[T]) writeFrom(rows []*T) error {
	for len(rows) > 0 {
		n := min(len(rows), w.room())
		for i, r := range rows[:n] {
			w.from[i] = unsafe.Pointer(r)
		}
		rows = rows[n:]
		if err := w.block(n); err != nil {
			return err
		}
	}
	return nil
}

// block writes the first n rows of from.
func (w *rowWriter[T]) block(n int) error {
	for i := range w.columns {
		c := &w.columns[i]
		c.add(w.from[:n], c.offset)
	}
	clear(w.from[:n])
	return w.wrote(n)
}

// room is how many rows can be written as one block.
func (w *rowWriter[T]) room() int { return min(blockRows, w.groupRows-w.rows) }

// wrote counts rows whose columns were added.
func (w *rowWriter[T]) wrote(n int) error {
	if w.rows += n; w.rows < w.groupRows {
		return nil
	}
	return w.flush()
}

const parquetMagic = "PAR1"

func (w *rowWriter[T]) put(b []byte) error {
	n, err := w.to.Write(b)
	w.at += int64(n)
	return err
}

// flush writes the row group.
func (w *rowWriter[T]) flush() error {
	if w.rows == 0 {
		return nil
	}
	if len(w.groups) == 0 {
		if err := w.put([]byte(parquetMagic)); err != nil {
			return err
		}
	}
	g := format.RowGroup{NumRows: int64(w.rows), SortingColumns: w.sorting, FileOffset: w.at, Ordinal: int16(len(w.groups)), Columns: make([]format.ColumnChunk, 0, len(w.columns))}
	w.out = w.out[:0]
	for i := range w.columns {
		chunk, err := w.chunk(&w.columns[i], w.schema[i+1].Type.V)
		if err != nil {
			return err
		}
		g.TotalByteSize += chunk.MetaData.TotalUncompressedSize
		g.TotalCompressedSize += chunk.MetaData.TotalCompressedSize
		g.Columns = append(g.Columns, chunk)
	}
	w.groups = append(w.groups, g)
	w.all += int64(w.rows)
	w.rows = 0
	return w.put(w.out)
}

// chunk appends the pages of a column to the row group's bytes.
func (w *rowWriter[T]) chunk(c *fileColumn, kind format.Type) (format.ColumnChunk, error) {
	m := format.ColumnMetaData{Type: kind, PathInSchema: []string{c.name}, NumValues: int64(w.rows), Codec: format.Uncompressed}
	if w.compress != nil { // also where there is nothing to compress: readers take the codec of a column's first row group for that of all
		m.Codec = format.Zstd
	}
	if c.bounded {
		m.Statistics.MinValue, m.Statistics.MaxValue = c.bounds()
	}
	z := w.compress
	if n, ok := c.column.(*numberColumn); c.noisy || ok && n.noisy() {
		z = w.quick
	}
	start := len(w.out)
	var different int
	if w.raw, different = c.dictionary(w.raw[:0]); different >= 0 {
		m.DictionaryPageOffset = w.at + int64(start)
		h := format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(different), Encoding: format.Plain})}
		if err := w.page(z, &m, h, format.Plain); err != nil {
			return format.ColumnChunk{}, err
		}
	}
	m.DataPageOffset = w.at + int64(len(w.out))
	if z != nil && w.choose(c, z) == differences {
		z = nil
	}
	for from := 0; from < w.rows; from += w.pageRows {
		to := min(from+w.pageRows, w.rows)
		var how format.Encoding
		w.raw, how = c.page(w.raw[:0], from, to)
		h := format.PageHeader{Type: format.DataPageV2, DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{
			NumValues: int32(to - from), NumRows: int32(to - from), Encoding: how, IsCompressed: thrift.New(z != nil)})}
		if err := w.page(z, &m, h, how); err != nil {
			return format.ColumnChunk{}, err
		}
	}
	m.TotalCompressedSize = int64(len(w.out) - start)
	c.reset()
	return format.ColumnChunk{MetaData: m}, nil
}

// choose says how the pages of a column are written that z compresses otherwise: what its first page takes decides.
func (w *rowWriter[T]) choose(c *fileColumn, z *zstd.Encoder) way {
	n, ok := c.column.(*numberColumn)
	if !ok || n.dict || n.kind == reflect.Float64 {
		return compressed
	}
	if c.tried++; c.way == untried || c.tried >= tryAfter {
		to := min(w.pageRows, w.rows)
		n.packed = true
		w.raw, _ = n.page(w.raw[:0], 0, to)
		packed := len(w.raw)
		n.packed = false
		w.raw, _ = n.page(w.raw[:0], 0, to)
		plain := len(w.raw)
		w.raw = z.EncodeAll(w.raw, w.raw)
		c.way, c.tried = compressed, 0
		if small := len(w.raw) - plain; packed <= small+small/moreRoom {
			c.way = differences
		}
	}
	n.packed = c.way == differences
	return c.way
}

// page appends a page whose bytes are in w.raw, compressed by z; nil leaves them as they are.
func (w *rowWriter[T]) page(z *zstd.Encoder, m *format.ColumnMetaData, h format.PageHeader, how format.Encoding) error {
	body := w.raw
	if z != nil {
		n := len(w.raw)
		w.raw = z.EncodeAll(w.raw, w.raw)
		body = w.raw[n:]
		h.UncompressedPageSize = int32(n)
	} else {
		h.UncompressedPageSize = int32(len(body))
	}
	h.CompressedPageSize, h.CRC = int32(len(body)), int32(crc32.ChecksumIEEE(body))
	w.buf.Reset()
	if err := w.thrift.Encode(&h); err != nil {
		return err
	}
	m.TotalUncompressedSize += int64(w.buf.Len()) + int64(h.UncompressedPageSize)
	if !slices.Contains(m.Encoding, how) {
		m.Encoding = append(m.Encoding, how)
	}
	w.out = append(append(w.out, w.buf.Bytes()...), body...)
	return nil
}

// close ends the file, with an entry of metadata.
func (w *rowWriter[T]) close(key, value string) error {
	if err := w.flush(); err != nil {
		return err
	}
	w.out = w.out[:0]
	if len(w.groups) == 0 {
		w.out = append(w.out, parquetMagic...)
	}
	w.buf.Reset()
	err := w.thrift.Encode(&format.FileMetaData{
		Version: 2, Schema: w.schema, NumRows: w.all, RowGroups: w.groups, ColumnOrders: w.orders, KeyValueMetadata: []format.KeyValue{{Key: key, Value: value}},
		CreatedBy: "crosstap version " + strconv.Itoa(schemaVersion),
	})
	if err != nil {
		return err
	}
	w.out = binary.LittleEndian.AppendUint32(append(w.out, w.buf.Bytes()...), uint32(w.buf.Len()))
	return w.put(append(w.out, parquetMagic...))
}
