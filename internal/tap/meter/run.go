package meter

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

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

// parcel is what one batch has for one shard.
type parcel struct {
	arrivals []arrival
	pieces   []piece
	lastNS   int64 // time of the batch's last frame, the shard's own or not
	batch    *shared
	home     chan *parcel // where it goes back to
}

// shared is a batch until every shard is done with it.
type shared struct {
	left  atomic.Int32
	batch frame.Batch
}

func (b *shared) release() {
	if b.left.Add(-1) == 0 {
		b.batch.Release()
	}
}

// runSharded meters with several workers. Batches are dealt in turn to as many goroutines that dissect; each sorts a batch's packets
// by shard, and each shard takes the parcels in the order of the batches. So the packets of a flow stay in order, and no
// flow is ever in two shards.
func (m *Meter) runSharded(ctx context.Context, in <-chan frame.Batch, out chan<- []flow.Record) error {
	n, used := m.cfg.workers(), new(atomic.Int64)
	g, ctx := errgroup.WithContext(ctx)
	ways := make([][]chan *parcel, n) // [front][shard]
	work := make([]chan frame.Batch, n)
	for i := range ways {
		work[i] = make(chan frame.Batch, 1)
		for range n {
			ways[i] = append(ways[i], make(chan *parcel, parcelsAhead))
		}
	}
	g.Go(func() error { return deal(ctx, in, work) })
	for i := range n {
		g.Go(func() error {
			f := &sorter{front: m.newFront(), ways: ways[i], spare: make(chan *parcel, n*(parcelsAhead+2))}
			return f.run(ctx, work[i])
		})
		g.Go(func() error {
			s := m.newShard(i, used)
			defer s.cache.release()
			return s.run(ctx, ways, out)
		})
	}
	return g.Wait()
}

const parcelsAhead = 4

// deal gives batches to workers in turn.
func deal(ctx context.Context, in <-chan frame.Batch, work []chan frame.Batch) error {
	defer func() {
		for _, w := range work {
			close(w)
		}
	}()
	for n := 0; ; n++ {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			select {
			case work[n%len(work)] <- b:
			case <-ctx.Done():
				b.Release()
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sorter dissects batches and sorts their packets by shard.
type sorter struct {
	front
	ways  []chan *parcel
	spare chan *parcel
	piece piece
}

func (f *sorter) run(ctx context.Context, in <-chan frame.Batch) error {
	defer func() {
		for _, w := range f.ways {
			close(w)
		}
	}()
	for b := range in {
		parcels := make([]*parcel, len(f.ways))
		sh := &shared{batch: b}
		sh.left.Store(int32(len(parcels)))
		for i := range parcels {
			parcels[i] = f.parcel()
			parcels[i].batch = sh
			if n := len(b.Frames); n > 0 {
				parcels[i].lastNS = b.Frames[n-1].TimeNS
			}
		}
		f.sort(b.Frames, parcels)
		for i, p := range parcels {
			select {
			case f.ways[i] <- p:
			case <-ctx.Done():
				for range parcels[i:] {
					sh.release()
				}
				return ctx.Err()
			}
		}
	}
	return nil
}

// parcel returns an empty parcel.
func (f *sorter) parcel() *parcel {
	select {
	case p := <-f.spare:
		return p
	default:
		return &parcel{home: f.spare}
	}
}

func (f *sorter) sort(frames []frame.Frame, parcels []*parcel) {
	f.frames.In(len(frames))
	var a arrival
	for i := range frames {
		if !f.arrive(&a, &f.piece, &frames[i]) {
			continue
		}
		own := f.shard(&a.key)
		f.add(parcels[own], &a)
		if a.pieceAt == noPiece || !f.piece.inside {
			continue
		}
		if other := f.shard(f.piece.around.key()); other != own {
			word := arrival{timeNS: a.timeNS, pieceAt: 0, learn: true}
			f.add(parcels[other], &word)
		}
	}
}

// shard returns which worker has the flows of a key.
func (f *sorter) shard(k *key) int {
	return int(f.hasher.pair(k) >> 32 * uint64(len(f.ways)) >> 32)
}

func (f *sorter) add(p *parcel, a *arrival) {
	p.arrivals = append(p.arrivals, *a)
	if a.pieceAt != noPiece {
		p.arrivals[len(p.arrivals)-1].pieceAt = int32(len(p.pieces))
		p.pieces = append(p.pieces, f.piece)
	}
}

// run counts what comes from all fronts, in the order of the batches.
func (m *shard) run(ctx context.Context, ways [][]chan *parcel, out chan<- []flow.Record) error {
	r := m.start(to(ctx, out))
	tick, stop := r.ticks()
	defer stop()
	for n := 0; m.err == nil; {
		select {
		case p, ok := <-ways[n%len(ways)][m.number]:
			if !ok {
				return m.end()
			}
			n++
			r.now()
			m.parcel(p)
		case <-tick:
			r.now()
		case <-ctx.Done():
			return ctx.Err()
		}
		r.done()
	}
	return m.err
}

func (m *shard) parcel(p *parcel) {
	for all := p.arrivals; len(all) > 0; {
		n := min(len(all), blockFrames)
		m.arrivals(all[:n], p.pieces)
		all = all[n:]
	}
	if !m.cfg.Live && p.lastNS != 0 {
		m.setClock(p.lastNS)
	}
	p.batch.release()
	clear(p.arrivals) // they hold on to the batch
	p.arrivals, p.pieces, p.batch, p.lastNS = p.arrivals[:0], p.pieces[:0], nil, 0
	select {
	case p.home <- p:
	default:
	}
}
