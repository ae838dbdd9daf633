package listen

import (
	"context"
	"sync"
	"time"
)

// slabBytes is how much of datagrams a slab holds; one datagram always fits.
const slabBytes = 2 * maxDatagram

// keepSlabs is how many slabs a pool keeps for the next burst.
const keepSlabs = 64

// slab holds the bytes of one batch, packed.
type slab struct {
	bytes     []byte
	datagrams []Datagram
}

// slabPool hands out a bounded number of slabs. They are made when they are needed, and the one used last goes
// out first, so that a quiet listener touches little memory.
type slabPool struct {
	batch int           // datagrams in a slab; 0 for slabs that grow as needed and are not kept
	out   chan struct{} // one token for each slab that is out

	mu   sync.Mutex
	free []*slab
}

func (p *slabPool) init(slabs, batch int) {
	p.batch, p.out = batch, make(chan struct{}, slabs)
}

// get waits for a slab. It returns nil when there is none a little after ctx has ended.
func (p *slabPool) get(ctx context.Context) *slab {
	select {
	case p.out <- struct{}{}:
		return p.pop()
	case <-ctx.Done():
	}
	late := time.NewTimer(drainTime)
	defer late.Stop()
	select {
	case p.out <- struct{}{}:
		return p.pop()
	case <-late.C:
		return nil
	}
}

func (p *slabPool) pop() *slab {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		s := p.free[n-1]
		p.free = p.free[:n-1]
		return s
	}
	if p.batch == 0 {
		return new(slab)
	}
	return &slab{bytes: make([]byte, 0, slabBytes), datagrams: make([]Datagram, 0, p.batch)}
}

func (p *slabPool) put(s *slab) {
	s.bytes, s.datagrams = s.bytes[:0], s.datagrams[:0]
	p.mu.Lock()
	if p.batch > 0 && len(p.free) < keepSlabs {
		p.free = append(p.free, s)
	}
	p.mu.Unlock()
	<-p.out
}
