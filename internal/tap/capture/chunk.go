package capture

import (
	"sync"
	"sync/atomic"

	"crosstap/internal/frame"
)

// chunk is a stretch of a capture file in memory and the frames in it. It is filled again when every
// batch made from it has been released.
type chunk struct {
	buf    []byte
	frames []frame.Frame
	refs   atomic.Int32
	free   func() // bound once, so that releasing does not allocate
}

// chunks lends chunks and takes them back. It never holds more than keep idle ones.
type chunks struct {
	mu   sync.Mutex
	idle []*chunk
}

const (
	chunkBytes = 128 << 10
	keepChunks = 32
	// chunkFrames is what a chunk of ordinary frames needs; a chunk of tiny ones gets more.
	chunkFrames = chunkBytes / 64
)

// get returns an empty chunk with room for at least n bytes, held once by the caller.
func (p *chunks) get(n int) *chunk {
	p.mu.Lock()
	var c *chunk
	if l := len(p.idle); l > 0 {
		c, p.idle = p.idle[l-1], p.idle[:l-1]
	}
	p.mu.Unlock()
	if c == nil {
		c = &chunk{frames: make([]frame.Frame, 0, chunkFrames)}
		c.free = func() { p.release(c) }
	}
	if len(c.buf) < n {
		c.buf = make([]byte, n)
	}
	c.frames = c.frames[:0]
	c.refs.Store(1)
	return c
}

func (p *chunks) release(c *chunk) {
	if c.refs.Add(-1) != 0 {
		return
	}
	if len(c.buf) > chunkBytes {
		c.buf = nil // a giant block's memory is not kept
	}
	p.mu.Lock()
	if len(p.idle) < keepChunks {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
}
