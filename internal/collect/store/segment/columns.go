package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"slices"
	"unsafe"

	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/format"
)

// column collects the values of one column of a row group. It costs little where rows repeat the value before them, as most columns of
// sorted rows do, and next to nothing where all rows have the same value.
type column interface {
	// add takes the fields that lie off bytes behind the places.
	add(from []unsafe.Pointer, off uintptr)
	// dictionary appends the different values, encoded plain, and says how many; -1 when the column has no dictionary.
	dictionary(dst []byte) ([]byte, int)
	// page appends the values from one number to another, as indexes into the dictionary or themselves.
	page(dst []byte, from, to int) ([]byte, format.Encoding)
	// bounds gives the least and the greatest value.
	bounds() (least, greatest []byte)
	reset()
	// take takes the rows with the given numbers of another column of the same field; there must be none yet.
	take(from column, order []int32, p *picker)
}

// newColumn makes a column for a field. Numbers that have no dictionary are stored as differences when packed is set.
func newColumn(t reflect.Type, dict, signed, packed bool) column {
	kind := t.Kind()
	switch kind {
	case reflect.Array:
		return &addrColumn{}
	case reflect.String:
		return &textColumn{known: map[string]uint32{}, file: 1}
	}
	return &numberColumn{kind: kind, dict: dict, signed: signed, packed: packed}
}

// numberColumn holds whole numbers of any size, and floats by their bits.
type numberColumn struct {
	kind    reflect.Kind
	dict    bool
	signed  bool
	packed  bool
	values  []uint64 // different ones, or all without a dictionary
	table   table
	indexes stretches
	last    uint64
	scratch []int32
	bytes   []byte
}

// Hashes are the top bits of a product with odd numbers drawn at start: what arrives cannot be chosen to collide.
var hashMul, hashMul2 = rand.Uint64() | 1, rand.Uint64() | 1

// table is a hash table of 1 + index into a list of values.
type table struct {
	slots []uint32
	shift int // of a hash, to the number of a slot
}

// full reports whether there is no room for one more value than n.
func (t *table) full(n int) bool { return 2*n >= len(t.slots) }

// grow doubles the table; hash gives the values' hashes.
func (t *table) grow(n int, hash func(int) uint64) {
	t.slots = make([]uint32, max(2*len(t.slots), 64))
	t.shift = 64 - bits.Len(uint(len(t.slots)-1))
	for i := range n {
		at := hash(i) >> t.shift
		for t.slots[at] != 0 {
			at = t.after(at)
		}
		t.slots[at] = uint32(i) + 1
	}
}

// empty forgets the values, n of them; a table that is large for as many is left to the collector.
func (t *table) empty(n int) {
	if clear(t.slots); len(t.slots) > 64*(n+1) {
		*t = table{}
	}
}

// after is the slot beside one, the first after the last.
func (t *table) after(at uint64) uint64 { return (at + 1) & uint64(len(t.slots)-1) }

func (c *numberColumn) add(from []unsafe.Pointer, off uintptr) {
	switch c.kind {
	case reflect.Uint8:
		addNumbers[uint8](c, from, off)
	case reflect.Uint16:
		addNumbers[uint16](c, from, off)
	case reflect.Uint32:
		addNumbers[uint32](c, from, off)
	default:
		addNumbers[uint64](c, from, off)
	}
}

func addNumbers[T uint8 | uint16 | uint32 | uint64](c *numberColumn, from []unsafe.Pointer, off uintptr) {
	if !c.dict {
		at := len(c.values)
		c.values = slices.Grow(c.values, len(from))[:at+len(from)]
		for i, p := range from {
			c.values[at+i] = uint64(*(*T)(unsafe.Add(p, off)))
		}
		return
	}
	if len(c.values) == 0 {
		v := uint64(*(*T)(unsafe.Add(from[0], off)))
		c.indexes.change(c.find(v))
		c.last = v
	}
	last, same := T(c.last), uint32(0)
	for _, p := range from {
		if v := *(*T)(unsafe.Add(p, off)); v != last {
			c.indexes.n += same
			c.indexes.change(c.find(uint64(v)))
			last, same = v, 0
		}
		same++
	}
	c.indexes.n += same
	c.last = uint64(last)
}

// find gives the index of a value.
func (c *numberColumn) find(v uint64) uint32 {
	if c.table.full(len(c.values)) {
		c.table.grow(len(c.values), func(i int) uint64 { return c.values[i] * hashMul })
	}
	for at := v * hashMul >> c.table.shift; ; at = c.table.after(at) {
		n := c.table.slots[at]
		if n == 0 {
			c.values = append(c.values, v)
			c.table.slots[at] = uint32(len(c.values))
			return uint32(len(c.values)) - 1
		}
		if c.values[n-1] == v {
			return n - 1
		}
	}
}

func (c *numberColumn) wide() bool { return wideKind(c.kind) }

// wideKind reports whether a number takes 8 bytes in a file; others take 4.
func wideKind(k reflect.Kind) bool {
	return k == reflect.Uint64 || k == reflect.Int64 || k == reflect.Float64
}

func (c *numberColumn) plain(dst []byte, values []uint64) []byte {
	for _, v := range values {
		if c.wide() {
			dst = binary.LittleEndian.AppendUint64(dst, v)
		} else {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
		}
	}
	return dst
}

func (c *numberColumn) dictionary(dst []byte) ([]byte, int) {
	if !c.dict {
		return dst, -1
	}
	return c.plain(dst, c.values), len(c.values)
}

func (c *numberColumn) page(dst []byte, from, to int) ([]byte, format.Encoding) {
	if c.dict {
		return c.indexes.page(dst, to-from, len(c.values)), format.RLEDictionary
	}
	values := c.values[from:to]
	if !c.packed || c.kind == reflect.Float64 {
		return c.plain(dst, values), format.Plain
	}
	var how delta.BinaryPackedEncoding
	if c.wide() {
		c.bytes, _ = how.EncodeInt64(c.bytes, unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(values))), len(values))) // it does not fail
	} else {
		c.scratch = c.scratch[:0]
		for _, v := range values {
			c.scratch = append(c.scratch, int32(uint32(v)))
		}
		c.bytes, _ = how.EncodeInt32(c.bytes, c.scratch)
	}
	return append(dst, c.bytes...), format.DeltaBinaryPacked
}

// noisy reports whether hardly a row says what the one before said, of numbers that are long and stored as they are.
func (c *numberColumn) noisy() bool {
	if c.dict || !c.wide() {
		return false
	}
	same, last := 0, uint64(0)
	for _, v := range c.values {
		if v == last {
			same++
		}
		last = v
	}
	return 16*same < len(c.values)
}

func (c *numberColumn) compare(a, b uint64) int {
	if c.signed {
		return cmp.Compare(int64(a), int64(b))
	}
	return cmp.Compare(a, b)
}

func (c *numberColumn) bounds() (least, greatest []byte) {
	lo, hi := c.values[0], c.values[0]
	for _, v := range c.values {
		if c.compare(v, lo) < 0 {
			lo = v
		}
		if c.compare(v, hi) > 0 {
			hi = v
		}
	}
	return c.plain(nil, []uint64{lo}), c.plain(nil, []uint64{hi})
}

func (c *numberColumn) reset() {
	c.values = c.values[:0]
	clear(c.table.slots)
	c.indexes.reset()
}

// addrColumn holds values of 16 bytes.
type addrColumn struct {
	values  []address
	table   table
	indexes stretches
	last    address
}

// address is 16 bytes as two words in the machine's order.
type address [2]uint64

func (a *address) bytes() []byte { return (*[16]byte)(unsafe.Pointer(a))[:] }

func (c *addrColumn) add(from []unsafe.Pointer, off uintptr) {
	if len(c.values) == 0 {
		copy(c.last.bytes(), (*[16]byte)(unsafe.Add(from[0], off))[:])
		c.indexes.change(c.find(c.last))
	}
	var others [blockRows]struct { // that are not like the one before
		address
		same uint32 // rows of the one before, since
	}
	last, same, n := c.last, uint32(0), 0
	for _, p := range from {
		p = unsafe.Add(p, off)
		v := address{*(*uint64)(p), *(*uint64)(unsafe.Add(p, 8))}
		if v[0] != last[0] || v[1] != last[1] {
			others[n].address, others[n].same = v, same
			n++
			last, same = v, 0
		}
		same++
	}
	c.last = last
	if n > 1 { // the table's memory is fetched for all of them at a time
		for c.table.full(len(c.values) + n) {
			c.grow()
		}
		sum := uint32(0)
		for i := range others[:n] {
			if at := c.table.slots[others[i].hash()>>c.table.shift]; at > 0 {
				sum += uint32(c.values[at-1][0])
			}
		}
		if sum == 1<<32-1 {
			touched.Add(1)
		}
	}
	for i := range others[:n] {
		c.indexes.n += others[i].same
		c.indexes.change(c.find(others[i].address))
	}
	c.indexes.n += same
}

func (a address) hash() uint64 { return a[0]*hashMul + a[1]*hashMul2 }

func (c *addrColumn) grow() {
	c.table.grow(len(c.values), func(i int) uint64 { return c.values[i].hash() })
}

func (c *addrColumn) find(v address) uint32 {
	if c.table.full(len(c.values)) {
		c.grow()
	}
	for at := v.hash() >> c.table.shift; ; at = c.table.after(at) {
		n := c.table.slots[at]
		if n == 0 {
			c.values = append(c.values, v)
			c.table.slots[at] = uint32(len(c.values))
			return uint32(len(c.values)) - 1
		}
		if c.values[n-1] == v {
			return n - 1
		}
	}
}

func (c *addrColumn) dictionary(dst []byte) ([]byte, int) {
	for i := range c.values {
		dst = append(dst, c.values[i].bytes()...)
	}
	return dst, len(c.values)
}

func (c *addrColumn) page(dst []byte, from, to int) ([]byte, format.Encoding) {
	return c.indexes.page(dst, to-from, len(c.values)), format.RLEDictionary
}

func (c *addrColumn) bounds() (least, greatest []byte) {
	least, greatest = c.values[0].bytes(), c.values[0].bytes()
	for i := range c.values {
		if v := c.values[i].bytes(); bytes.Compare(v, least) < 0 {
			least = v
		} else if bytes.Compare(v, greatest) > 0 {
			greatest = v
		}
	}
	return bytes.Clone(least), bytes.Clone(greatest)
}

func (c *addrColumn) reset() {
	c.values = c.values[:0]
	clear(c.table.slots)
	c.indexes.reset()
}
