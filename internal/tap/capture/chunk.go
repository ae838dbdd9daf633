package capture

import (
	"io"
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
	chunkBytes = 256 << 10
	headBytes  = 64 << 10 // in front of them, for the start of a record whose end is in the next chunk
	pageBytes  = 4096
	keepChunks = 32
	// chunkFrames is what a chunk of ordinary frames needs; a chunk of tiny ones gets more.
	chunkFrames = chunkBytes / 64
)

// get returns an empty chunk with n bytes, held once by the caller.
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

// room returns where the next batch's frames go.
func (c *chunk) room() []frame.Frame {
	if c.refs.Load() == 1 {
		c.frames = c.frames[:0] // nobody holds one any more
	}
	n := len(c.frames)
	if cap(c.frames)-n < batchFrames {
		c.frames, n = make([]frame.Frame, 0, chunkFrames), 0
	}
	return c.frames[n : n : n+batchFrames]
}

// again empties a chunk that nobody but the caller holds. It reports false when there are others, or when it has not n bytes.
func (c *chunk) again(n int) bool {
	if c.refs.Load() != 1 || len(c.buf) < n {
		return false
	}
	c.frames = c.frames[:0]
	return true
}

func (p *chunks) release(c *chunk) {
	if c.refs.Add(-1) != 0 {
		return
	}
	if len(c.buf) > headBytes+chunkBytes {
		c.buf = nil // a giant block's memory is not kept
	}
	p.mu.Lock()
	if len(p.idle) < keepChunks {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
}

// stretch is the part of a capture that is in memory.
type stretch struct {
	r         io.Reader
	pool      *chunks
	c         *chunk
	pos, have int   // what is not decoded yet is c.buf[pos:have]
	offset    int64 // of c.buf[0] in the capture
	err       error // why nothing comes after it
}

func newStretch(r io.Reader, pool *chunks) *stretch {
	s := &stretch{r: r, pool: pool, c: pool.get(headBytes + chunkBytes), pos: headBytes, offset: -headBytes}
	s.have, s.err = fill(r, s.c.buf, s.pos, s.pos+minFill)
	return s
}

// rest returns what is not decoded yet.
func (s *stretch) rest() []byte { return s.c.buf[s.pos:s.have] }

// at returns the offset of that in the capture.
func (s *stretch) at() int64 { return s.offset + int64(s.pos) }

// more reads on behind the rest, which begins a record that is known to have need bytes. A record larger than a chunk gets its room in steps,
// as its bytes arrive: its length may be a lie. Bytes are read to where they would be if the file were mapped, pages on
// pages: the kernel copies those fastest.
func (s *stretch) more(need int) {
	rest, next := s.rest(), s.offset+int64(s.have)
	head := max(headBytes, (len(rest)+pageBytes-1)&^(pageBytes-1))
	room := max(chunkBytes, min(need-len(rest), len(rest))&^(pageBytes-1))
	from := head + int(next&(pageBytes-1))
	c := s.c
	if !c.again(head + room) {
		c = s.pool.get(head + room)
	}
	s.pos = from - copy(c.buf[from-len(rest):from], rest)
	if c != s.c {
		s.c.free()
	}
	s.c, s.offset = c, next-int64(from)
	s.have, s.err = fill(s.r, c.buf[:head+room], from, min(s.pos+max(minFill, need), head+room))
}

// skip goes on behind n bytes, which may reach beyond what is in memory.
func (s *stretch) skip(n int64) error {
	left := int64(s.have - s.pos)
	if n <= left {
		s.pos += int(n)
		return nil
	}
	passed, err := io.CopyN(io.Discard, s.r, n-left)
	if err != nil {
		return ending(err, s.at(), int(left+passed), int(n))
	}
	s.pos, s.offset = s.have, s.offset+n-left
	s.more(0)
	return nil
}

// fill reads into b from have on until there are least bytes or r ends. It takes what a pipe has to
// give and does not hold frames back to fill the chunk.
func fill(r io.Reader, b []byte, have, least int) (int, error) {
	for have < least {
		n, err := r.Read(b[have:])
		have += n
		if err != nil {
			return have, err
		}
	}
	return have, nil
}

// minFill is enough for every fixed header, so that decoding makes progress.
const minFill = 64
