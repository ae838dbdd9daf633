package tap

import (
	"context"
	"testing"

	"crosstap/internal/frame"
)

func TestLimiter(t *testing.T) {
	f := func(l Limit, out int, stops bool) {
		t.Helper()
		stopped := 0
		x := newLimiter(l, func() { stopped++ })
		in, to := make(chan frame.Batch, 2), make(chan frame.Batch, 2)
		released := 0
		for range 2 {
			frames := make([]frame.Frame, 5)
			for i := range frames {
				frames[i].Data = make([]byte, 100)
			}
			in <- frame.Batch{Frames: frames, Free: func() { released++ }}
		}
		close(in)
		if err := x.Run(context.Background(), in, to); err != nil {
			t.Error(err)
		}
		close(to)
		got := 0
		for b := range to {
			got += len(b.Frames)
			b.Release()
		}
		st := x.book.Read()
		if got != out || (stopped > 0) != stops || released != 2 || st.Balance() != nil || st.In != 10 || st.Out != uint64(out) {
			t.Errorf("%+v: %d frames, stopped %d times, %d released, %+v", l, got, stopped, released, st)
		}
	}
	f(Limit{}, 10, false)
	f(Limit{Frames: 3}, 3, true)
	f(Limit{Frames: 5}, 5, true)
	f(Limit{Frames: 7}, 7, true)
	f(Limit{Bytes: 799}, 7, true)
	f(Limit{Bytes: 800}, 8, true)
	f(Limit{Frames: 20, Bytes: 2000}, 10, false)
}
