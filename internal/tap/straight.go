package tap

import (
	"context"
	"os"
	"runtime"
	"time"

	"crosstap/internal/frame"
)

// straightSink is a sink of frames that can be given batches where they are made.
type straightSink interface {
	frameSink
	Begin() error
	Take(frame.Batch)   // releases it
	Look(now time.Time) // comes now and then, so that nothing waits in a buffer
	End(why error) error
}

// straight returns the only sink of a line that needs no goroutines: a file is read to be filtered, groomed and written, and there is one
// processor to do it. Handing over would only cost time, and the processor's cache would have to hold all that waits. nil for
// any other line: one that has to wait for a pipe or for the network does other work meanwhile.
func (t *Tap) straight() straightSink {
	if t.file == nil || t.meter != nil || t.limit != nil || t.governed != nil || t.window != nil || t.shedder != nil || len(t.frames) != 1 || runtime.GOMAXPROCS(0) > 1 {
		return nil
	}
	if t.groom != nil && t.groom.Outputs() != 1 {
		return nil
	}
	if st, err := os.Stat(t.spec.File); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	sink, _ := t.frames[0].(straightSink)
	return sink
}

// Straight reports whether the tap will run as a line without goroutines. It makes what it needs at its start and uses it again.
func (t *Tap) Straight() bool { return t.straight() != nil }

// runStraight runs such a line. It ends as any other does: what was read before the end of stop, or before a failure, is written.
func (t *Tap) runStraight(stop context.Context, sink straightSink) error {
	src, cancel := context.WithCancel(stop)
	defer cancel()
	t.stopSource.Store(&cancel)
	if t.spec.Ready != nil {
		t.spec.Ready()
	}
	if err := sink.Begin(); err != nil {
		return err
	}
	take := sink.Take
	if t.groom != nil {
		emit := func(_ int, b frame.Batch) bool { sink.Take(b); return true }
		take = func(b frame.Batch) { t.groom.Apply(b, emit) }
	}
	sift := func(*frame.Batch) error { return nil }
	if t.sieve != nil {
		sift = t.sieve.Each()
	}
	var failed error
	sourceErr := t.file.Each(src, func(b frame.Batch) bool {
		sink.Look(time.Now())
		runtime.Gosched() // or else Go's own watchdog, once this has run for 10 ms, wakes every 20 µs instead of every 10 ms
		if failed = sift(&b); failed != nil {
			cancel()
		}
		if failed != nil || len(b.Frames) == 0 {
			b.Release()
			return true
		}
		take(b)
		return true
	})
	if err := sink.End(failed); err != nil {
		return err
	}
	return sourceErr
}
