package segment

import (
	"encoding/binary"
	"unsafe"

	"github.com/parquet-go/parquet-go/format"
)

// textColumn holds names. Most come from tables that give out one string again and again, so that where it lies tells it from others
// before what it says.
type textColumn struct {
	values  []string
	known   map[string]uint32
	near    []nearText // by where the string lies; nil while there is none
	vain    int        // strings of this row group that were not near
	file    uint32
	indexes stretches
}

// nearText is a string seen lately.
type nearText struct {
	text  string
	index uint32
	file  uint32 // row group that index is of
}

// is reports whether it is a string, by where that lies.
func (n *nearText) is(v string) bool {
	return len(n.text) == len(v) && unsafe.StringData(n.text) == unsafe.StringData(v)
}

// How many are kept: more while many are looked for in vain.
const (
	nearLeast = 1 << 7
	nearMost  = 1 << 13
)

func (c *textColumn) add(from []unsafe.Pointer, off uintptr) {
	if len(c.values) == 0 {
		c.indexes.change(c.find(*(*string)(unsafe.Add(from[0], off))))
	}
	last, same := c.values[c.indexes.last], uint32(0)
	for _, p := range from {
		v := *(*string)(unsafe.Add(p, off))
		if len(v) != len(last) || unsafe.StringData(v) != unsafe.StringData(last) && v != last { // most lie at one place or are empty
			c.indexes.n += same
			c.indexes.change(c.find(v))
			same = 0
		}
		last = v
		same++
	}
	c.indexes.n += same
}

func (c *textColumn) find(v string) uint32 {
	if len(c.near) == 0 {
		c.near = make([]nearText, nearLeast)
	}
	at := &c.near[uint64(uintptr(unsafe.Pointer(unsafe.StringData(v))))*hashMul>>33&uint64(len(c.near)-1)]
	if at.file == c.file && at.is(v) {
		return at.index
	}
	n, ok := c.known[v]
	if !ok {
		n = uint32(len(c.values))
		c.values = append(c.values, v)
		c.known[v] = n
	}
	*at = nearText{v, n, c.file}
	c.vain++
	return n
}

func (c *textColumn) dictionary(dst []byte) ([]byte, int) {
	for _, v := range c.values {
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(v))), v...)
	}
	return dst, len(c.values)
}

func (c *textColumn) page(dst []byte, from, to int) ([]byte, format.Encoding) {
	return c.indexes.page(dst, to-from, len(c.values)), format.RLEDictionary
}

func (c *textColumn) bounds() (least, greatest []byte) {
	lo, hi := c.values[0], c.values[0]
	for _, v := range c.values {
		lo, hi = min(lo, v), max(hi, v)
	}
	return []byte(lo), []byte(hi)
}

func (c *textColumn) reset() {
	if c.vain > len(c.near) && len(c.near) < nearMost && len(c.near) > 0 {
		c.near = make([]nearText, 2*len(c.near))
	}
	c.vain = 0
	if c.file++; c.file == 0 { // the numbers begin again
		c.near, c.file = nil, 1
	}
	clear(c.values) // lets go of the strings
	c.values = c.values[:0]
	clear(c.known)
	c.indexes.reset()
}
