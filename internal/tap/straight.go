package tap

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/tap/meter"
)

// giver is a source that can give batches where it makes them.
type giver interface {
	Each(ctx context.Context, take func(frame.Batch) bool) error
}

// straightSink is a sink that can be given batches where they are made.
type straightSink interface {
	Begin() error
	Take(frame.Batch)   // releases it
	Look(now time.Time) // comes now and then, so that nothing waits in a buffer
	End(why error) error
}

// straight returns the source and the sink of a line that needs no goroutines between them: all there is to do is one thing, and one processor
// to do it is there or suffices. Handing over would only cost time, and the processor's cache would have to hold all that waits. nil for
// any other line.
func (t *Tap) straight() (giver, straightSink) {
	if t.limit != nil || t.governed != nil || t.window != nil || t.shedder != nil {
		return nil, nil
	}
	if t.live != nil {
		return t.straightLive()
	}
	return t.straightFile()
}

// straightFile is for a file that is read to be filtered, groomed and written, or metered, on one processor. One that has to wait for a pipe or for the
// network does other work meanwhile.
func (t *Tap) straightFile() (giver, straightSink) {
	if t.file == nil || runtime.GOMAXPROCS(0) > 1 || t.groom != nil && t.groom.Outputs() != 1 {
		return nil, nil
	}
	if st, err := os.Stat(t.spec.File); err != nil || !st.Mode().IsRegular() {
		return nil, nil
	}
	if t.meter != nil || len(t.frames) != 1 {
		return t.file, t.straightMeter()
	}
	sink, _ := t.frames[0].(straightSink)
	return t.file, sink
}

// straightLive is for interfaces whose frames are metered and nothing else. Where the kernel writes and this process reads, the bytes of a frame and the
// counts of its flow are in the cache of one processor.
func (t *Tap) straightLive() (giver, straightSink) {
	if t.sieve != nil || t.groom != nil || t.path.copies.Load() != nil {
		return nil, nil
	}
	return t.live, t.straightMeter()
}

// straightMeter returns the meter as the only sink of frames, nil when it is not or has several workers.
func (t *Tap) straightMeter() straightSink {
	if t.meter == nil || len(t.frames) > 0 || !t.meter.Single() {
		return nil
	}
	return &metering{t: t}
}

// metering is the meter as a sink of frames, with the sinks of its records in goroutines of their own.
type metering struct {
	t     *Tap
	line  *meter.Line
	flows chan []flow.Record
	sinks *errgroup.Group
	ctx   context.Context // ends when a sink fails
}

// Begin starts the sinks of records.
func (m *metering) Begin() error {
	m.sinks, m.ctx = errgroup.WithContext(context.Background())
	context.AfterFunc(m.ctx, m.t.stop)
	m.flows = m.t.recordChannel()
	m.t.runRecordSinks(m.ctx, m.sinks, m.flows)
	m.line = m.t.meter.Begin(m.deliver)
	return nil
}

// waitInterval is how long a live line waits for a sink of records before it looks at its ring.
const waitInterval = 5 * time.Millisecond

// deliver gives records to the sinks. The source's ring is looked after while they are slow.
func (m *metering) deliver(records []flow.Record) error {
	select {
	case m.flows <- records:
		return nil
	default:
	}
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for {
		select {
		case m.flows <- records:
			return nil
		case <-m.ctx.Done():
			return m.ctx.Err()
		case <-tick.C:
			if m.t.live != nil {
				m.t.live.Relieve()
			}
		}
	}
}

// Take meters a batch.
func (m *metering) Take(b frame.Batch) { m.line.Take(b) }

// Look lets flows end.
func (m *metering) Look(time.Time) { m.line.Look() }

// End ends all flows, and waits until the sinks have their records.
func (m *metering) End(why error) error {
	err := m.line.End()
	close(m.flows)
	if failed := m.sinks.Wait(); failed != nil { // the first cause
		return failed
	}
	return errors.Join(why, err)
}

// Straight reports whether the tap will run as a line without goroutines that reads a file. It makes what it needs at its start and uses it again.
func (t *Tap) Straight() bool {
	_, sink := t.straight()
	return sink != nil && t.file != nil
}

// runStraight runs such a line. It ends as any other does: what was read before the end of stop, or before a failure, is written.
func (t *Tap) runStraight(stop context.Context, source giver, sink straightSink) error {
	src, cancel := context.WithCancel(stop)
	defer cancel()
	t.stopSource.Store(&cancel)
	if t.file != nil && t.spec.Ready != nil {
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
	sourceErr := source.Each(src, func(b frame.Batch) bool {
		sink.Look(time.Now())
		if t.file != nil {
			runtime.Gosched() // or else Go's own watchdog, once this has run for 10 ms, wakes every 20 µs instead of every 10 ms
		}
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
