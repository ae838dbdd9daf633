// Package wire reads and writes protocol headers in place. It imports the standard library only
// and allocates nothing.
package wire

import (
	"encoding/binary"
	"errors"
)

// ErrShort says that a header or field reaches beyond the bytes that are there.
var ErrShort = errors.New("input too short")

// Cursor reads a byte string in wire order (big endian) and remembers the first error; after
// it every read gives zero. The zero Cursor is at the end of an empty input.
type Cursor struct {
	b   []byte
	off int
	err error
}

// NewCursor returns a cursor at the start of b, which it borrows.
func NewCursor(b []byte) Cursor { return Cursor{b: b} }

// Err returns ErrShort when a read went beyond the end.
func (c *Cursor) Err() error { return c.err }

// Offset returns the number of bytes consumed.
func (c *Cursor) Offset() int { return c.off }

// Len returns the number of bytes left.
func (c *Cursor) Len() int { return len(c.b) - c.off }

// Bytes returns the next n bytes, borrowed from the input; nil when there are fewer.
func (c *Cursor) Bytes(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.b)-c.off {
		c.fail()
		return nil
	}
	b := c.b[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

// Rest returns everything that is left.
func (c *Cursor) Rest() []byte { return c.Bytes(len(c.b) - c.off) }

// Skip passes over n bytes.
func (c *Cursor) Skip(n int) { c.Bytes(n) }

// U8 reads one byte.
func (c *Cursor) U8() uint8 {
	if b := c.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two bytes.
func (c *Cursor) U16() uint16 {
	if b := c.Bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes.
func (c *Cursor) U32() uint32 {
	if b := c.Bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (c *Cursor) U64() uint64 {
	if b := c.Bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *Cursor) fail() {
	if c.err == nil {
		c.err = ErrShort
	}
}
