package meter

import (
	"context"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// tickNS returns the wheel's step: fine enough that a record leaves soon after its time, coarse enough that a full wheel
// covers the usual timeouts.
func tickNS(c *Config) int64 {
	tick := min(max(min(c.IdleTimeout, c.ActiveTimeout)/64, time.Millisecond), 250*time.Millisecond)
	return int64(max(tick, min(c.IdleTimeout, c.ActiveTimeout)/1000))
}

// Run meters every batch from in, which it releases, until in is closed; then it ends all flows. Records
// go to out in slices that belong to the receiver. Run does not close out. It returns early, with ctx's error,
// only when ctx ends.
func (m *Meter) Run(ctx context.Context, in <-chan frame.Batch, out chan<- []flow.Record) error {
	if m.cfg.workers() > 1 {
		return m.runSharded(ctx, in, out)
	}
	l := m.Begin(to(ctx, out))
	defer l.s.cache.release()
	tick, stop := l.ticks()
	defer stop()
	for l.s.err == nil {
		select {
		case b, ok := <-in:
			if !ok {
				return l.s.end()
			}
			l.now()
			l.s.batch(b.Frames)
			b.Release()
		case <-tick:
			l.now()
		case <-ctx.Done():
			return ctx.Err()
		}
		l.done()
	}
	return l.s.err
}

// Line is a meter with one worker that is given each batch where it is made. One goroutine uses it.
type Line struct {
	running
	s *single
}

// Begin returns a line that passes its records on by deliver, in slices that belong to deliver. Once deliver has failed it is not called again.
// Who has a line calls End, which gives its memory back.
func (m *Meter) Begin(deliver func([]flow.Record) error) *Line {
	s := &single{shard: m.newShard(0, new(atomic.Int64)), front: m.newFront()}
	return &Line{running: s.start(deliver), s: s}
}

// Take meters a batch, which it releases.
func (l *Line) Take(b frame.Batch) {
	l.s.batch(b.Frames)
	b.Release()
}

// Look tells a live line that time goes by: flows whose time has come end, and their records leave.
func (l *Line) Look() {
	l.now()
	l.done()
}

// End ends all flows and the line.
func (l *Line) End() error {
	defer l.s.cache.release()
	return l.s.end()
}
func (m *Meter) newFront() front {
	return front{cfg: &m.cfg, frames: m.frames, hasher: &m.hasher}
}

// running is what a shard needs while it runs: a clock when it is live.
type running struct {
	s       *shard
	started time.Time
}

// to returns a function that delivers to out until ctx ends.
func to(ctx context.Context, out chan<- []flow.Record) func([]flow.Record) error {
	return func(records []flow.Record) error {
		select {
		case out <- records:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start makes the shard deliver.
func (m *shard) start(deliver func([]flow.Record) error) running {
	r := running{s: m, started: time.Now()}
	if m.cfg.Live {
		m.clock = r.started.UnixNano()
		m.wheel.tick = m.clock / m.wheel.tickNS
	}
	m.deliver = deliver
	return r
}

// ticks returns a channel that says when to look at the clock though no frames come; never of a capture file.
func (r *running) ticks() (<-chan time.Time, func()) {
	if !r.s.cfg.Live {
		return nil, func() {}
	}
	t := time.NewTicker(max(time.Duration(r.s.wheel.tickNS), 20*time.Millisecond))
	return t.C, t.Stop
}

// now moves a live shard's clock, which is steady, unlike that of the wall.
func (r *running) now() {
	if r.s.cfg.Live {
		r.s.advance(r.started.UnixNano() + int64(time.Since(r.started)))
	}
}

// done sends a live shard's records on without waiting for more.
func (r *running) done() {
	if r.s.cfg.Live {
		r.s.pass()
	}
}

// end ends all flows.
func (m *shard) end() error {
	m.flush(flow.EndForced)
	m.pass()
	return m.err
}

// single is a meter with one worker: a front and a shard without anything between them.
type single struct {
	*shard
	front
	briefs [blockFrames]brief
	ahead  [blockFrames]arrival // of the frames that have no brief
	pieces [blockFrames]piece   // of the arrivals that are fragments
	gone   [blockFrames]bool    // frames that are not metered
}

// batch meters frames.
func (s *single) batch(frames []frame.Frame) {
	s.shard.frames.In(len(frames))
	for len(frames) > 0 {
		n := min(len(frames), blockFrames)
		s.block(frames[:n])
		frames = frames[n:]
	}
}

// block meters frames, first as arrivals does with arrivals: it looks all of them up before it counts the first.
func (s *single) block(frames []frame.Frame) {
	var sum uint64
	for i := range frames {
		q := &s.briefs[i]
		if way := s.brief(q, &frames[i]); way != wayBrief {
			s.arrival(i, &frames[i], way)
		}
	}
	for i := range s.briefs[:len(frames)] { // so little for each that the processor asks for the memory of all
		sum ^= s.cache.index[s.cache.home(s.briefs[i].hash)]
	}
	for i := range frames {
		if q := &s.briefs[i]; q.states != 0 {
			number, touched := s.cache.likely(q.hash)
			q.hash = uint64(number)
			sum += touched
		} else if !s.gone[i] {
			sum += s.near(&s.ahead[i])
		}
	}
	s.touched ^= sum
	var n counted
	live := s.shard.cfg.Live
	for i := range frames {
		q := &s.briefs[i]
		if q.states == 0 {
			if !s.gone[i] {
				s.one(&s.ahead[i], s.pieces[:], &n)
			}
			continue
		}
		if !live {
			s.setClock(q.timeNS)
		}
		if s.quick(q) {
			n.frames++
			n.packets++
			n.octets += uint64(q.octets)
			continue
		}
		number := uint32(q.hash)
		s.arrival(i, &frames[i], wayArrive)
		s.ahead[i].likely = number
		s.one(&s.ahead[i], s.pieces[:], &n)
	}
	s.sum(&n)
}

// arrival makes the i-th arrival.
func (s *single) arrival(i int, f *frame.Frame, way way) {
	a, pc := &s.ahead[i], &s.pieces[i]
	taken := way == wayArrive && s.plain(a, f) || s.dissected(a, pc, f)
	if s.gone[i] = !taken; !taken {
		return
	}
	a.likely = none
	if a.pieceAt != noPiece {
		a.pieceAt = int32(i)
	}
	s.briefs[i].hash = a.hash
}
