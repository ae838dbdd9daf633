package meter

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

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
