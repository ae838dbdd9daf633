package listen

import (
	"context"
	"sync"
	"time"
)

// slab holds the bytes of one batch, packed.
type slab struct {
	bytes     []byte
	datagrams []Datagram
}

// slabPool hands out a bounded number of slabs. They are made when they are needed, and the one used last goes
// out first, so that a quiet listener touches little memory.
type slabPool struct {
	batch int
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
	return &slab{bytes: make([]byte, 0, slabBytes), datagrams: make([]Datagram, 0, p.batch)}
}

func (p *slabPool) put(s *slab) {
	s.bytes, s.datagrams = s.bytes[:0], s.datagrams[:0]
	p.mu.Lock()
	p.free = append(p.free, s)
	p.mu.Unlock()
	<-p.out
}
