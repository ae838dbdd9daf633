package groom

import (
	"sync"
	"sync/atomic"

	"crosstap/internal/frame"
)

// Sizes of the pipeline's own memory.
const (
	chunkBytes  = 256 << 10 // changed frames are written into chunks of this size
	groupBytes  = 4 << 20   // when the frames made of one batch have so many bytes, they are passed on
	batchFrames = 512       // most frames of a batch that leaves
	keepIdle    = 32        // chunks, groups and parcels that wait to be used again
)

// pool lends the memory of changed frames and takes it back. Batches are released by other goroutines.
type pool struct {
	mu      sync.Mutex
	chunks  [][]byte
	sources []*source
	groups  []*group
	parcels []*parcel
}

// source is a batch that came in, shared by the groups made of it.
type source struct {
	refs  atomic.Int32
	batch frame.Batch
}

// group is what the frames of some parcels live in: the source's memory and chunks of our own.
type group struct {
	pool   *pool
	refs   atomic.Int32
	src    *source
	chunks [][]byte
	room   []byte // what is left of the last chunk
	used   int    // bytes taken
}

// parcel is a batch that leaves.
type parcel struct {
	group  *group
	frames []frame.Frame
	free   func() // bound once, so that releasing does not allocate
}

// begin returns the first group of a batch, held once by the caller.
func (p *pool) begin(b frame.Batch) *group {
	p.mu.Lock()
	var src *source
	if n := len(p.sources); n > 0 {
		src, p.sources = p.sources[n-1], p.sources[:n-1]
	} else {
		src = new(source)
	}
	p.mu.Unlock()
	src.batch = b
	return p.share(src)
}

// share returns a group of a source, held once by the caller.
func (p *pool) share(src *source) *group {
	p.mu.Lock()
	defer p.mu.Unlock()
	var g *group
	if n := len(p.groups); n > 0 {
		g, p.groups = p.groups[n-1], p.groups[:n-1]
	} else {
		g = &group{pool: p}
	}
	src.refs.Add(1)
	g.src = src
	g.refs.Store(1)
	return g
}

// take returns n bytes of memory that lives as long as the group. Their content is not defined.
func (g *group) take(n int) []byte {
	if n > len(g.room) {
		g.room = g.pool.chunk(n)
		g.chunks = append(g.chunks, g.room)
	}
	b := g.room[:n:n]
	g.room = g.room[n:]
	g.used += n
	return b
}

func (p *pool) chunk(n int) []byte {
	if n > chunkBytes {
		return make([]byte, n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := len(p.chunks); k > 0 {
		c := p.chunks[k-1]
		p.chunks = p.chunks[:k-1]
		return c
	}
	return make([]byte, chunkBytes)
}

// release gives one hold of the group back.
func (g *group) release() {
	if g.refs.Add(-1) != 0 {
		return
	}
	p, src := g.pool, g.src
	done := src.refs.Add(-1) == 0
	if done {
		src.batch.Release()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range g.chunks {
		if len(c) == chunkBytes && len(p.chunks) < keepIdle {
			p.chunks = append(p.chunks, c)
		}
	}
	clear(g.chunks)
	g.chunks, g.room, g.used, g.src = g.chunks[:0], nil, 0, nil
	if len(p.groups) < keepIdle {
		p.groups = append(p.groups, g)
	}
	if done && len(p.sources) < keepIdle {
		p.sources = append(p.sources, src)
	}
}

// parcel returns an empty parcel that holds the group.
func (g *group) parcel() *parcel {
	p := g.pool
	p.mu.Lock()
	var c *parcel
	if n := len(p.parcels); n > 0 {
		c, p.parcels = p.parcels[n-1], p.parcels[:n-1]
	}
	p.mu.Unlock()
	if c == nil {
		c = &parcel{frames: make([]frame.Frame, 0, batchFrames)}
		c.free = func() { p.back(c) }
	}
	c.group, c.frames = g, c.frames[:0]
	g.refs.Add(1)
	return c
}

// back takes a parcel whose batch was released.
func (p *pool) back(c *parcel) {
	g := c.group
	c.group = nil
	p.mu.Lock()
	if len(p.parcels) < keepIdle {
		p.parcels = append(p.parcels, c)
	}
	p.mu.Unlock()
	g.release()
}
