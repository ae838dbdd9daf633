package netnetflow

import (
	"context"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// queue holds the finished flows of a switch between two polls: what net-netflow called its purgatory. What finds no room in it
// is lost, and counted.
type queue struct {
	period time.Duration
	limit  int
	book   *ledger.Book
	finish func(*flow.Record) // completes a record
	sent   func(Sums)         // is told what leaves; nil for nobody
	total  struct{ flows, packets, octets, lost atomic.Uint64 }
	now    Sums // in the queue
}

// Sums are flows with their packets and IP bytes.
type Sums struct{ Flows, Packets, Octets uint64 }

// dropFull is the queue's reason to drop a flow.
const dropFull = 0

func newQueue(c *Config, finish func(*flow.Record)) *queue {
	return &queue{period: c.Period, limit: c.Queue, finish: finish, book: ledger.New("flow_queue", ledger.Records, "queue_full")}
}

// run keeps the flows that come in, and sends all of them on at each poll, until in is closed; then it sends what is left. It does
// not close out.
func (q *queue) run(ctx context.Context, in <-chan []flow.Record, out chan<- []flow.Record) error {
	poll := time.NewTicker(q.period)
	defer poll.Stop()
	var waiting []flow.Record
	send := func() error {
		if len(waiting) == 0 {
			return nil
		}
		n := len(waiting)
		select {
		case out <- waiting:
			waiting = nil
			q.book.Hold(-n)
			q.book.Out(n)
			q.left()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		select {
		case records, ok := <-in:
			if !ok {
				return send()
			}
			waiting = q.take(waiting, records)
		case <-poll.C:
			if err := send(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take adds records, as far as there is room.
func (q *queue) take(waiting, records []flow.Record) []flow.Record {
	q.book.In(len(records))
	n := min(len(records), q.limit-len(waiting))
	if over := len(records) - n; over > 0 {
		q.book.Drop(dropFull, over)
		q.total.lost.Add(uint64(over))
	}
	q.book.Hold(n)
	for i := range records[:n] {
		q.finish(&records[i])
		q.now.Flows++
		q.now.Packets += records[i].Packets
		q.now.Octets += records[i].Octets
	}
	return append(waiting, records[:n]...)
}

// left sums up what has just left the queue.
func (q *queue) left() {
	q.total.flows.Add(q.now.Flows)
	q.total.packets.Add(q.now.Packets)
	q.total.octets.Add(q.now.Octets)
	if q.sent != nil {
		q.sent(q.now)
	}
	q.now = Sums{}
}
