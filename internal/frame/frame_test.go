package frame

import "testing"

func TestReleaseOnce(t *testing.T) {
	n := 0
	b := Batch{Frames: make([]Frame, 2), Free: func() { n++ }}
	b.Release()
	b.Release()
	if n != 1 || b.Frames != nil {
		t.Errorf("freed %d times, frames %v", n, b.Frames)
	}
	(&Batch{}).Release()
}

func TestTruncated(t *testing.T) {
	f := Frame{Data: make([]byte, 96), OrigLen: 1514}
	if !f.Truncated() {
		t.Error("96 of 1514 bytes is truncated")
	}
	f.OrigLen = 96
	if f.Truncated() {
		t.Error("96 of 96 bytes is not")
	}
}
