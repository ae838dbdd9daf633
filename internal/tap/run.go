package tap

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// Channels hold this many batches of frames and slices of records.
const (
	framesAhead = 4
	flowsAhead  = 8
)

// Run runs the tap until its capture ends or stop does; then it drains: what was captured is metered, exported and
// written. A source that fails, such as a damaged capture, is drained in the same way before its error is returned.
func (t *Tap) Run(stop context.Context) error {
	defer context.AfterFunc(stop, func() { close(t.stopped) })()
	if err := t.pair.check(); err != nil {
		return err
	}
	if t.file != nil {
		if err := t.file.Open(stop); err != nil {
			return err
		}
		defer t.file.Close()
	}
	if err := t.openRemotes(stop); err != nil {
		return err
	}
	if err := t.startInKernel(); err != nil {
		for _, r := range t.remotes {
			r.Close()
		}
		return err
	}
	stop, end := t.pair.watch(stop)
	run := t.run
	if source, sink := t.straight(); sink != nil {
		run = func(stop context.Context) error { return t.runStraight(stop, source, sink) }
	}
	err := run(stop)
	return errors.Join(err, end())
}

// run runs what was started.
func (t *Tap) run(stop context.Context) error {
	if t.path.copies.Load() != nil {
		return t.runMirrors(stop)
	}
	g, ctx := errgroup.WithContext(context.WithoutCancel(stop)) // ctx ends when a stage fails
	src, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)() // the end of stop ends the source; the rest drain
	t.stopSource.Store(&cancel)
	l := line{g: g, ctx: ctx}
	defer t.govern()()
	var sourceErr error
	frames := l.stage(func(out chan<- frame.Batch) error {
		if t.at == nil && t.spec.Ready != nil {
			t.spec.Ready()
		}
		sourceErr = t.source.Run(src, out)
		return nil
	})
	if t.window != nil {
		in := frames
		frames = l.stage(func(out chan<- frame.Batch) error { return t.window.Run(ctx, in, out) })
	}
	if t.shedder != nil {
		in := frames
		frames = l.stage(func(out chan<- frame.Batch) error { return t.shedder.Run(ctx, in, out) })
	}
	if t.sieve != nil {
		in := frames
		frames = l.stage(func(out chan<- frame.Batch) error { return t.sieve.Run(ctx, in, out) })
	}
	if t.limit != nil {
		in := frames
		frames = l.stage(func(out chan<- frame.Batch) error { return t.limit.Run(ctx, in, out) })
	}
	t.runOutputs(&l, frames)
	err := g.Wait()
	l.drain()
	if err != nil {
		return err
	}
	return sourceErr
}

// stop ends the source; the stages behind it drain.
func (t *Tap) stop() {
	if cancel := t.stopSource.Load(); cancel != nil {
		(*cancel)()
	}
}

// line is a run of the tap: its goroutines, and the channels between them.
type line struct {
	g      *errgroup.Group
	ctx    context.Context
	frames []chan frame.Batch
}

// channel returns a channel of frames that is drained at the end.
func (l *line) channel() chan frame.Batch {
	c := make(chan frame.Batch, framesAhead)
	l.frames = append(l.frames, c)
	return c
}

// stage starts a stage that closes its channel at its end.
func (l *line) stage(run func(out chan<- frame.Batch) error) <-chan frame.Batch {
	out := l.channel()
	l.g.Go(func() error {
		defer close(out)
		return run(out)
	})
	return out
}

// drain releases what stages have not taken because one of them failed.
func (l *line) drain() {
	for _, c := range l.frames {
		for b := range c {
			b.Release()
		}
	}
}

// runOutputs starts the stages behind the filter: groom, the frame sinks, and the meter with the record sinks.
func (t *Tap) runOutputs(l *line, in <-chan frame.Batch) {
	outputs := []<-chan frame.Batch{in}
	if t.groom != nil {
		outputs = t.runGroom(l, in)
	}
	var metered chan frame.Batch
	var meterEnds sync.WaitGroup
	if t.meter != nil {
		metered = l.channel()
		meterEnds.Add(len(outputs))
		l.g.Go(func() error { meterEnds.Wait(); close(metered); return nil })
		t.runMeter(l, metered)
	}
	for i, out := range outputs {
		sinks := t.frames
		if len(outputs) > 1 { // one capture file each; what counts frames counts those of the first
			sinks = t.frames[i : i+1]
		}
		t.fanOut(l, out, sinks, metered, meterEnds.Done)
	}
}

// runGroom starts groom and returns its outputs.
func (t *Tap) runGroom(l *line, in <-chan frame.Batch) (outputs []<-chan frame.Batch) {
	var outs []chan<- frame.Batch
	var closing []chan frame.Batch
	for range t.groom.Outputs() {
		c := l.channel()
		outs, closing, outputs = append(outs, c), append(closing, c), append(outputs, c)
	}
	done := make(chan struct{})
	if len(outs) > 1 {
		l.g.Go(func() error { t.followTools(done); return nil })
	}
	l.g.Go(func() error {
		defer func() {
			close(done)
			for _, c := range closing {
				close(c)
			}
		}()
		return t.groom.Run(l.ctx, in, outs...)
	})
	return outputs
}

// fanOut gives every batch from in to all sinks and to the meter, when there is one.
func (t *Tap) fanOut(l *line, in <-chan frame.Batch, sinks []frameSink, metered chan<- frame.Batch, meterDone func()) {
	if len(sinks) == 1 && metered == nil {
		l.g.Go(func() error { return sinks[0].Run(l.ctx, in) })
		return
	}
	var branches []chan frame.Batch
	var all []chan<- frame.Batch
	for _, s := range sinks {
		c := l.channel()
		branches, all = append(branches, c), append(all, c)
		l.g.Go(func() error { return s.Run(l.ctx, c) })
	}
	if metered != nil {
		all = append(all, metered)
	}
	l.g.Go(func() error {
		defer func() {
			for _, c := range branches {
				close(c)
			}
			if metered != nil {
				meterDone()
			}
		}()
		return split(l.ctx, in, all)
	})
}

// split sends each batch to all outs, which share its memory and only read it.
func split(ctx context.Context, in <-chan frame.Batch, outs []chan<- frame.Batch) error {
	for b := range in {
		free := b.Release
		if len(outs) > 1 {
			free = shared(b.Release, len(outs))
		}
		for i, out := range outs {
			select {
			case out <- frame.Batch{Frames: b.Frames, Records: b.Records, Notes: b.Notes, Exact: b.Exact, Intact: b.Intact, Free: free}:
			case <-ctx.Done():
				for range outs[i:] {
					free()
				}
				return ctx.Err()
			}
		}
	}
	return nil
}

// shared returns a function that calls release at its n-th call.
func shared(release func(), n int) func() {
	left := new(atomic.Int32)
	left.Store(int32(n))
	return func() {
		if left.Add(-1) == 0 {
			release()
		}
	}
}

// runMeter starts the meter and the record sinks.
func (t *Tap) runMeter(l *line, in <-chan frame.Batch) {
	if t.epochs != nil {
		t.runSegments(l, in)
		return
	}
	flows := t.recordChannel()
	l.g.Go(func() error {
		defer close(flows)
		return t.meter.Run(l.ctx, in, flows)
	})
	t.runRecordSinks(l.ctx, l.g, flows)
}

// runRecordSinks gives every sink all records. Sinks only read them.
func (t *Tap) runRecordSinks(ctx context.Context, g *errgroup.Group, flows <-chan []flow.Record) {
	if len(t.flows) == 1 {
		g.Go(func() error { return t.flows[0].Run(ctx, flows) })
		return
	}
	branches := make([]chan []flow.Record, len(t.flows))
	for i, s := range t.flows {
		branches[i] = make(chan []flow.Record, flowsAhead)
		g.Go(func() error { return s.Run(ctx, branches[i]) })
	}
	g.Go(func() error {
		defer func() {
			for _, b := range branches {
				close(b)
			}
		}()
		for records := range flows {
			for _, b := range branches {
				select {
				case b <- records:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
}
