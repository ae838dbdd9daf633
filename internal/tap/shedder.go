package tap

import (
	"context"
	"sync/atomic"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/capture"
)

// shedder is the first stage of a governed tap. It counts the bytes that come, and leaves out what the governor says where no kernel does so
// for the tap: of remote mirrors, and of interfaces of other hosts.
type shedder struct {
	book  *ledger.Book
	bytes atomic.Uint64 // as the frames had them where they were captured
	shed  atomic.Pointer[capture.Shed]
}

func newShedder() *shedder {
	return &shedder{book: ledger.New("budget", ledger.Frames, "shed_for_budget")}
}

// set has the stage leave out what s says from now on.
func (x *shedder) set(s capture.Shed, applied func(from time.Time)) {
	x.shed.Store(&s)
	applied(time.Now())
}

// Run passes on what is not left out until in is closed. It does not close out.
func (x *shedder) Run(ctx context.Context, in <-chan frame.Batch, out chan<- frame.Batch) error {
	for b := range in {
		all := len(b.Frames)
		x.book.In(all)
		x.take(&b)
		x.book.Drop(0, all-len(b.Frames))
		if len(b.Frames) == 0 {
			b.Release()
			continue
		}
		n := len(b.Frames)
		x.book.Hold(n)
		select {
		case out <- b:
			x.book.Hold(-n)
			x.book.Out(n)
		case <-ctx.Done():
			b.Release()
			return ctx.Err()
		}
	}
	return nil
}

// take leaves in b what is not left out.
func (x *shedder) take(b *frame.Batch) {
	s := x.shed.Load()
	bytes, n := 0, 0
	for i := range b.Frames {
		f := &b.Frames[i]
		bytes += f.OrigLen
		if s == nil {
			continue
		}
		if !s.Takes(f) {
			continue
		}
		if n != i {
			b.Frames[n] = *f
		}
		if d := b.Frames[n].Data; s.Snap > 0 && len(d) > s.Snap {
			b.Frames[n].Data = d[:s.Snap:s.Snap]
		}
		n++
	}
	if s != nil {
		b.Frames = b.Frames[:n]
	}
	x.bytes.Add(uint64(bytes))
}

// window is the stage that takes only frames of a time, so that one tap can follow another without taking a frame twice or leaving one
// out: where the first ends the second begins, by the kernel's time stamps.
type window struct {
	book        *ledger.Book
	from, until atomic.Int64 // nanoseconds; from belongs to it, until does not
}

// Reasons of a window.
const (
	dropBefore = iota
	dropAfter
)

const (
	always = int64(-1 << 63)
	never  = int64(1<<63 - 1)
)

func newWindow() *window {
	w := &window{book: ledger.New("handover", ledger.Frames, "of_the_tap_before", "of_the_tap_after")}
	w.from.Store(always)
	w.until.Store(never)
	return w
}

// Run passes on the frames of the time until in is closed. It does not close out.
func (w *window) Run(ctx context.Context, in <-chan frame.Batch, out chan<- frame.Batch) error {
	for b := range in {
		w.book.In(len(b.Frames))
		w.take(&b)
		n := len(b.Frames)
		if n == 0 {
			b.Release()
			continue
		}
		w.book.Hold(n)
		select {
		case out <- b:
			w.book.Hold(-n)
			w.book.Out(n)
		case <-ctx.Done():
			b.Release()
			return ctx.Err()
		}
	}
	return nil
}

// take leaves in b the frames of the time.
func (w *window) take(b *frame.Batch) {
	from, until := w.from.Load(), w.until.Load()
	if from == always && until == never {
		return
	}
	n, before, after := 0, 0, 0
	for i := range b.Frames {
		switch t := b.Frames[i].TimeNS; {
		case t < from:
			before++
		case t >= until:
			after++
		default:
			if n != i {
				b.Frames[n] = b.Frames[i]
			}
			n++
		}
	}
	b.Frames = b.Frames[:n]
	w.book.Drop(dropBefore, before)
	w.book.Drop(dropAfter, after)
}
