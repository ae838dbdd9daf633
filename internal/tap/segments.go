package tap

import (
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// epochs tells from when on one conversation in how many is captured. A record must not mix packets that were chosen differently, so
// flows end where an epoch does.
type epochs struct {
	mu   sync.Mutex
	list atomic.Pointer[[]epoch]
}

type epoch struct {
	from int64 // nanoseconds, by the frames' time stamps
	rate uint32
}

// maxEpochs bounds what is remembered: frames are never that late.
const maxEpochs = 16

func newEpochs() *epochs {
	e := &epochs{}
	e.list.Store(&[]epoch{{always, 1}})
	return e
}

// add begins an epoch, unless the present one has the same rate.
func (e *epochs) add(from int64, rate uint32) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := *e.list.Load()
	if old[len(old)-1].rate == rate {
		return
	}
	list := append(append([]epoch(nil), old[max(0, len(old)-maxEpochs+1):]...), epoch{from, rate})
	e.list.Store(&list)
}

// rate returns the present rate.
func (e *epochs) rate() uint32 {
	if e == nil {
		return 1
	}
	list := *e.list.Load()
	return list[len(list)-1].rate
}

// at returns the epoch of a time.
func (e *epochs) at(ns int64) epoch {
	list := *e.list.Load()
	for i := len(list) - 1; i > 0; i-- {
		if ns >= list[i].from {
			return list[i]
		}
	}
	return list[0]
}

// segments meters the frames of each epoch with a meter of its own.
type segments struct {
	t     *Tap
	l     *line
	flows chan<- []flow.Record
	runs  sync.WaitGroup

	now, before *segment // before is nil when all its frames have come
}

type segment struct {
	epoch
	in    chan frame.Batch
	ended time.Time // when another epoch began
}

// straggle is how long frames of an epoch that has ended are waited for: they are still in another interface's ring.
const straggle = time.Second

// runSegments starts the meters, and the record sinks behind them.
func (t *Tap) runSegments(l *line, in <-chan frame.Batch) {
	flows := t.recordChannel()
	s := &segments{t: t, l: l, flows: flows}
	l.g.Go(func() error {
		defer close(flows)
		defer s.runs.Wait()
		return s.run(in)
	})
	t.runRecordSinks(l.ctx, l.g, flows)
}

func (s *segments) run(in <-chan frame.Batch) error {
	s.now = s.begin(s.t.epochs.at(always))
	defer func() {
		close(s.now.in)
		s.endBefore()
	}()
	tick := time.NewTicker(straggle / 2)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			if err := s.pass(b); err != nil {
				return err
			}
		case now := <-tick.C:
			if s.before != nil && now.Sub(s.before.ended) > straggle {
				s.endBefore()
			}
		case <-s.l.ctx.Done():
			return s.l.ctx.Err()
		}
	}
}

func (s *segments) begin(e epoch) *segment {
	x := &segment{epoch: e, in: make(chan frame.Batch, 1)}
	m := s.t.meter.Sampled(max(s.t.sample, 1) * e.rate)
	s.runs.Add(1)
	s.l.g.Go(func() error {
		defer s.runs.Done()
		defer func() { // what it has not taken because a stage failed
			for b := range x.in {
				b.Release()
			}
		}()
		return m.Run(s.l.ctx, x.in, s.flows)
	})
	return x
}

func (s *segments) endBefore() {
	if s.before != nil {
		close(s.before.in)
		s.before = nil
	}
}

// pass gives the frames of a batch to the meters of their epochs.
func (s *segments) pass(b frame.Batch) error {
	frames, free := b.Frames, b.Release
	runs := s.split(frames)
	if len(runs) > 1 {
		free = shared(b.Release, len(runs))
	}
	for i, r := range runs {
		select {
		case r.to.in <- frame.Batch{Frames: r.frames, Free: free}:
		case <-s.l.ctx.Done():
			for range runs[i:] {
				free()
			}
			return s.l.ctx.Err()
		}
	}
	return nil
}

type run struct {
	to     *segment
	frames []frame.Frame
}

// split divides frames into runs that go to the same meter.
func (s *segments) split(frames []frame.Frame) (runs []run) {
	from := 0
	var to *segment
	for i := range frames {
		x := s.of(frames[i].TimeNS)
		if to != nil && x != to {
			runs, from = append(runs, run{to, frames[from:i:i]}), i
		}
		to = x
	}
	if to != nil {
		runs = append(runs, run{to, frames[from:]})
	}
	return runs
}

// of returns the segment of a time, and begins it when it is new.
func (s *segments) of(ns int64) *segment {
	e := s.t.epochs.at(ns)
	switch {
	case e == s.now.epoch:
		return s.now
	case e.from > s.now.from:
		s.endBefore()
		s.before, s.now = s.now, s.begin(e)
		s.before.ended = time.Now()
		return s.now
	case s.before != nil && e == s.before.epoch:
		return s.before
	}
	return s.now // it is older than everything that is still open
}

// interval is how many packets stand behind one that is metered now; 0 when all are.
func (t *Tap) interval() uint32 {
	if rate := t.epochs.rate(); rate > 1 {
		return max(t.sample, 1) * rate
	}
	return t.sample
}
