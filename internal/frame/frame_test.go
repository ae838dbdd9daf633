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

func TestPart(t *testing.T) {
	records := make([]byte, 3*16+5+7+9)
	frames := []Frame{{Data: records[16:21]}, {Data: records[37:44]}, {Data: records[60:69]}}
	f := func(b Batch, from, to, start, end int) {
		t.Helper()
		p := b.Part(from, to)
		if len(p.Frames) != to-from || p.Intact == 0 != (end == 0) {
			t.Fatalf("%d frames, %d intact", len(p.Frames), p.Intact)
		}
		if end > 0 && (p.Intact != to-from || p.Exact != b.Exact || &p.Records[0] != &records[start] || len(p.Records) != end-start) {
			t.Errorf("%d bytes of records", len(p.Records))
		}
	}
	whole := Batch{Frames: frames, Records: records, Exact: PcapNano, Intact: 3}
	f(whole, 0, 3, 0, 69)
	f(whole, 1, 3, 21, 69)
	f(whole, 1, 2, 21, 44)
	f(whole, 1, 1, 0, 0)
	f(Batch{Frames: frames, Records: records, Exact: PcapNano, Intact: 4}, 0, 3, 0, 0)
	f(Batch{Frames: frames, Records: records, Intact: 3}, 0, 3, 0, 0)
	frames[2].Data = frames[2].Data[:0]
	f(whole, 1, 3, 0, 0)
	f(whole, 0, 2, 0, 44)
}
