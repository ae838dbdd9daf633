package replicate

import (
	"context"
	"net/netip"
	"sync"
)

// item is a datagram in a block.
type item struct {
	from     netip.AddrPort
	off, end int
}

// block is a run of datagrams with their bytes.
type block struct {
	items []item
	bytes []byte
}

// queue holds one block that grows while the other one is sent. It is bounded in datagrams and bytes.
type queue struct {
	most int
	more chan struct{}

	mu     sync.Mutex
	b      block
	closed bool
}

func newQueue(most int) *queue { return &queue{most: most, more: make(chan struct{}, 1)} }

// put copies a datagram into the queue. It returns false when there is no room.
func (q *queue) put(from netip.AddrPort, data []byte) bool {
	q.mu.Lock()
	if len(q.b.items) >= q.most || len(q.b.bytes)+len(data) > maxWaiting {
		q.mu.Unlock()
		return false
	}
	off := len(q.b.bytes)
	q.b.bytes = append(q.b.bytes, data...)
	q.b.items = append(q.b.items, item{from, off, len(q.b.bytes)})
	q.mu.Unlock()
	q.wake()
	return true
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
}

// take returns what waits and leaves used, emptied, in its place. It waits for the first datagram; ok is false when the queue is closed
// and empty, or ctx has ended.
func (q *queue) take(ctx context.Context, used block) (b block, ok bool) {
	used.items, used.bytes = used.items[:0], used.bytes[:0]
	for {
		q.mu.Lock()
		if len(q.b.items) > 0 {
			b, q.b = q.b, used
			q.mu.Unlock()
			return b, true
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return b, false
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			return b, false
		}
	}
}

// drain returns the number of datagrams that wait, and forgets them.
func (q *queue) drain() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.b.items)
	q.b = block{}
	return n
}
