package wire

import (
	"errors"
	"testing"
)

func TestCursor(t *testing.T) {
	c := NewCursor([]byte{1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 9, 9, 5})
	if a, b, d, e := c.U8(), c.U16(), c.U32(), c.U64(); a != 1 || b != 2 || d != 3 || e != 4 {
		t.Fatalf("got %d %d %d %d", a, b, d, e)
	}
	c.Skip(2)
	if c.Offset() != 17 || c.Len() != 1 || c.Err() != nil {
		t.Fatalf("offset %d, %d left, %v", c.Offset(), c.Len(), c.Err())
	}
	if got := c.U16(); got != 0 || !errors.Is(c.Err(), ErrShort) {
		t.Fatalf("read beyond the end: got %d, %v", got, c.Err())
	}
	if c.U8() != 0 || c.Rest() != nil || c.Offset() != 17 {
		t.Error("after an error every read gives zero and moves nothing")
	}
}

func TestCursorHostileLength(t *testing.T) {
	c := NewCursor(make([]byte, 4))
	if c.Bytes(-1) != nil || c.Err() == nil {
		t.Error("a negative length must be an error")
	}
	c = NewCursor(make([]byte, 4))
	if c.Bytes(int(^uint(0)>>1)) != nil || c.Err() == nil {
		t.Error("a huge length must be an error")
	}
	c = NewCursor([]byte{1, 2, 3, 4})
	if b := c.Bytes(2); cap(b) != 2 {
		t.Errorf("capacity %d lets an append write into the input", cap(b))
	}
}
