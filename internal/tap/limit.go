package tap

import (
	"context"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Limit ends a tap when it has enough. What is 0 is without limit.
type Limit struct {
	Frames uint64        // that matched the filter
	Bytes  uint64        // of captured frames; the one that goes beyond is not taken
	For    time.Duration // since the capture has begun
}

// limiter is the stage that counts. What comes behind the limit is dropped and counted, and the source is stopped.
type limiter struct {
	Limit
	book    *ledger.Book
	stop    func()
	frames  uint64
	bytes   uint64
	reached bool
}

func newLimiter(l Limit, stop func()) *limiter {
	return &limiter{Limit: l, book: ledger.New("limit", ledger.Frames, "beyond_limit"), stop: stop}
}

// Run passes on what is within the limit until in is closed. It does not close out.
func (l *limiter) Run(ctx context.Context, in <-chan frame.Batch, out chan<- frame.Batch) error {
	if l.For > 0 {
		t := time.AfterFunc(l.For, l.stop)
		defer t.Stop()
	}
	for b := range in {
		l.book.In(len(b.Frames))
		n := l.take(b.Frames)
		l.book.Drop(0, len(b.Frames)-n)
		if l.reached {
			l.stop()
		}
		if n == 0 {
			b.Release()
			continue
		}
		b.Frames = b.Frames[:n]
		l.book.Hold(n)
		select {
		case out <- b:
			l.book.Hold(-n)
			l.book.Out(n)
		case <-ctx.Done():
			b.Release()
			return ctx.Err()
		}
	}
	return nil
}

// take returns how many of the frames are within the limit.
func (l *limiter) take(frames []frame.Frame) int {
	for i := range frames {
		size := uint64(len(frames[i].Data))
		if l.reached = l.reached || l.Bytes > 0 && l.bytes+size > l.Bytes; l.reached {
			return i
		}
		l.frames++
		l.bytes += size
		if l.Frames > 0 && l.frames == l.Frames {
			l.reached = true
			return i + 1
		}
	}
	return len(frames)
}
