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

func TestStored(t *testing.T) {
	all := make([]byte, 100)
	records := all[20:80:80]
	f := func(data []byte, want int) {
		t.Helper()
		if got := (&Frame{Data: data}).Stored(records); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	f(records, 0)
	f(records[1:2], 1)
	f(records[59:], 59)
	f(all[19:30], -1)
	f(all[:10], -1)
	f(all[79:81], -1)
	f(all[80:90], -1)
	f(make([]byte, 10), -1)
	if n := (&Frame{Data: make([]byte, 1)}).Stored(nil); n != -1 {
		t.Errorf("%d in nothing", n)
	}
}
