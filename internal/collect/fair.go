package collect

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"crosstap/internal/collect/listen"
)

// sharedBatch is a batch whose datagrams wait in the queues of several decoders. It is released with the last one.
type sharedBatch struct {
	batch listen.Batch
	left  atomic.Int32
	out   *atomic.Int64 // batches not yet released
}

func (s *sharedBatch) done() {
	if s.left.Add(-1) == 0 {
		s.batch.Release()
		s.out.Add(-1)
	}
}

// waiting is one datagram in a queue.
type waiting struct {
	listen.Datagram
	shared *sharedBatch
}

// lane holds the datagrams of one exporter's address, oldest first.
type lane struct {
	addr  netip.Addr
	items []waiting
	first int // index of the oldest
}

func (l *lane) len() int { return len(l.items) - l.first }

// fairQueue is the queue of one decoder: a lane for each exporter, served in turn. When it is full the newest datagrams of the
// longest lane are shed, so that an exporter that sends more than is decoded loses its own datagrams and nobody else's.
// What came over TCP is never shed: its connection waits instead, and bounds what it may have here.
type fairQueue struct {
	limit int             // datagrams that may be shed, at once
	shed  func([]waiting) // nil when nothing is: who pushes waits before, and all exporters are one lane

	mu     sync.Mutex
	n      int // datagrams that may be shed
	all    int
	lanes  map[netip.Addr]*lane
	turn   []*lane // with something in them, in the order of their turns
	spare  []*lane
	closed bool
	more   chan struct{} // there is something, or the queue is closed
	room   chan struct{} // a waiting push may try again
}

func newFairQueue(limit int, shed func([]waiting)) *fairQueue {
	return &fairQueue{limit: limit, shed: shed, lanes: make(map[netip.Addr]*lane), more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close ends the queue; what is in it can still be taken.
func (q *fairQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.more)
}

// push takes in datagrams. When there are too many of them, or tight says that memory is short, it sheds.
func (q *fairQueue) push(items []waiting, tight bool) {
	q.mu.Lock()
	for i := range items {
		q.put(&items[i])
	}
	var out []waiting
	for q.shed != nil && (q.n > q.limit || tight && q.n > 0) {
		out = q.cut(out)
		tight = false
	}
	q.mu.Unlock()
	if len(out) > 0 {
		q.shed(out)
	}
	signal(q.more)
}

// wait returns when the queue is not full, or ctx has ended: for sources that can wait.
func (q *fairQueue) wait(ctx context.Context) {
	for {
		q.mu.Lock()
		full := q.n >= q.limit
		q.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-q.room:
		case <-ctx.Done():
			return
		}
	}
}

func (q *fairQueue) put(w *waiting) {
	addr := w.From.Addr()
	if q.shed == nil {
		addr = netip.Addr{} // the order in which they came, whoever has time when
	}
	l := q.lanes[addr]
	if l == nil {
		l = q.lane(addr)
		q.turn = append(q.turn, l)
	}
	l.items = append(l.items, *w)
	q.all++
	if !w.Via.Stream() {
		q.n++
	}
}

// lane gives an address a lane.
func (q *fairQueue) lane(a netip.Addr) *lane {
	var l *lane
	if n := len(q.spare); n > 0 {
		l, q.spare = q.spare[n-1], q.spare[:n-1]
	} else {
		l = new(lane)
	}
	l.addr = a
	q.lanes[a] = l
	return l
}

// Bounds of what is kept for later.
const (
	spareLanes = 256
	spareItems = 1024
)

// retire takes an empty lane out of use.
func (q *fairQueue) retire(l *lane) {
	delete(q.lanes, l.addr)
	if len(q.spare) < spareLanes && cap(l.items) <= spareItems {
		l.items, l.first = l.items[:0], 0
		q.spare = append(q.spare, l)
	}
}

// cut sheds the newer half of the longest lane, at most shedAtOnce datagrams. The half makes a search worth its time.
func (q *fairQueue) cut(out []waiting) []waiting {
	const shedAtOnce = 256
	at := 0
	for i, l := range q.turn {
		if l.len() > q.turn[at].len() {
			at = i
		}
	}
	l := q.turn[at]
	left := min((l.len()+1)/2, shedAtOnce)
	for i := len(l.items) - 1; i >= l.first && left > 0; i-- {
		if l.items[i].Via.Stream() {
			continue
		}
		out = append(out, l.items[i])
		l.items = append(l.items[:i], l.items[i+1:]...)
		q.n--
		q.all--
		left--
	}
	if l.len() == 0 {
		q.turn = append(q.turn[:at], q.turn[at+1:]...)
		q.retire(l)
	}
	return out
}

// quantum is how many datagrams of one exporter go together.
const quantum = 16

// pop appends at most a batch of datagrams, those of several exporters in turn. It waits for the first; none means that
// the queue is closed and empty, or that ctx has ended. empty tells that nothing is left for now.
func (q *fairQueue) pop(ctx context.Context, to []waiting) (got []waiting, empty bool) {
	for {
		q.mu.Lock()
		for len(q.turn) > 0 && len(to) < cap(to) {
			to = q.serve(to)
		}
		closed, empty := q.closed, len(q.turn) == 0
		q.mu.Unlock()
		if len(to) > 0 {
			signal(q.room)
			return to, empty
		}
		if closed {
			signal(q.more) // for the next call
			return nil, true
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			return nil, true
		}
	}
}

// serve takes from the lane whose turn it is.
func (q *fairQueue) serve(to []waiting) []waiting {
	l := q.turn[0]
	n := min(quantum, l.len(), cap(to)-len(to))
	for i := l.first; i < l.first+n; i++ {
		if !l.items[i].Via.Stream() {
			q.n--
		}
		to = append(to, l.items[i])
		l.items[i] = waiting{}
	}
	l.first += n
	q.all -= n
	copy(q.turn, q.turn[1:])
	q.turn = q.turn[:len(q.turn)-1]
	if l.len() == 0 {
		q.retire(l)
		return to
	}
	if l.first > len(l.items)/2 {
		l.items = l.items[:copy(l.items, l.items[l.first:])]
		l.first = 0
	}
	q.turn = append(q.turn, l)
	return to
}
