// Package output sends what the collect line has enriched to others beside the store. Each output chooses records, has a bounded
// queue, and never holds up the line: what finds no room is dropped and counted.
package output

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"crosstap/internal/choose"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// Config says which records an output gets, and how many may wait.
type Config struct {
	Name      string         // in status and metrics
	To        string         // where to, without secrets, for people
	Canonical bool           // only the row of each flow that sums read
	Filter    string         // as for packets, "" for all
	Exporters []netip.Prefix // whose records; none for all
	Tenants   []string       // of either end or of the segment; none for all
	Sample    uint32         // one flow in so many; 0 and 1 for all
	Queue     int            // records that may wait

	// Counted gives the sink what was counted, with the rate beside it, as records are on the wire. Otherwise counters are estimates
	// of all packets, as they are stored.
	Counted bool
}

// DefaultQueue is room for some seconds of a busy line.
const DefaultQueue = 1 << 16

// Validate reports the first mistake.
func (c *Config) Validate() error {
	if c.Name == "" {
		return errors.New("output: no name")
	}
	if c.Queue < 1 || c.Queue > 1<<24 {
		return fmt.Errorf("output: %s: queue of %d records: want 1 to %d", c.Name, c.Queue, 1<<24)
	}
	return nil
}

// Sink takes the chosen records away.
type Sink interface {
	// Run takes every slice from in, which it may keep, until in is closed, and then delivers what it holds. When ctx ends it gives up.
	Run(ctx context.Context, in <-chan []flow.Record) error
	// Book is the account of what Run took: out is what the receiver, or for datagrams the system, has taken.
	Book() ledger.Statement
	// State is how the sink is.
	State() State
}

// State is how a sink is.
type State struct {
	Connected bool
	Error     string // the last one, "" for none
	ErrorAt   time.Time
	Messages  uint64 // datagrams, messages or lines delivered
	Bytes     uint64 // of them, before compression
	Retries   uint64 // messages sent again
	Detail    string // what else an operator may want to know
}

// Reasons for which an output does not pass a record to its sink.
const (
	dropRow = iota
	dropFiltered
	dropSampled
	dropQueue
	dropStopped
)

var dropReasons = []string{"not_canonical", "filtered", "not_sampled", "queue_full", "stopped"}

// Output is one receiver of records.
type Output struct {
	cfg     Config
	sink    Sink
	filter  *choose.Filter
	sample  *choose.Sampler
	book    *ledger.Book
	queue   chan []flow.Record
	waiting atomic.Int64
	passed  atomic.Uint64 // records the sink has got
	lag     lag
}

// New makes an output. It opens nothing.
func New(c Config, s Sink) (*Output, error) {
	c.Queue = cmp.Or(c.Queue, DefaultQueue)
	if err := c.Validate(); err != nil {
		return nil, err
	}
	f, err := choose.NewFilter(c.Filter)
	if err != nil {
		return nil, fmt.Errorf("output: %s: filter %q: %w", c.Name, c.Filter, err)
	}
	return &Output{
		cfg: c, sink: s, filter: f, sample: choose.NewSampler(c.Sample),
		book: ledger.New("output "+c.Name, ledger.Records, dropReasons...), queue: make(chan []flow.Record, min(c.Queue, maxBatches)),
	}, nil
}

// maxBatches bounds the number of slices that wait, whatever is in them.
const maxBatches = 4096

// Offer copies what the output wants of a batch into its queue. It never waits. One goroutine at a time, and none after Close.
func (o *Output) Offer(recs []flow.Record, nowNS int64) {
	o.book.In(len(recs))
	var batch []flow.Record
	for i := range recs {
		why := o.wants(&recs[i])
		if why >= 0 {
			o.book.Drop(why, 1)
			continue
		}
		if batch == nil {
			batch = make([]flow.Record, 0, len(recs)-i)
		}
		batch = append(batch, recs[i])
		o.count(&batch[len(batch)-1])
	}
	if len(batch) > 0 {
		o.enqueue(batch, nowNS)
	}
}

// enqueue puts a batch into the queue, or drops it when there is no room.
func (o *Output) enqueue(batch []flow.Record, nowNS int64) {
	n := len(batch)
	if held := o.waiting.Load(); held > 0 && held+int64(n) > int64(o.cfg.Queue) {
		o.book.Drop(dropQueue, n)
		return
	}
	o.book.Hold(n)
	o.waiting.Add(int64(n))
	select {
	case o.queue <- batch:
		o.lag.offered(n, nowNS, o.done())
	default:
		o.book.Hold(-n)
		o.waiting.Add(int64(-n))
		o.book.Drop(dropQueue, n)
	}
}

// wants returns why a record is not wanted, -1 when it is.
func (o *Output) wants(r *flow.Record) int {
	switch {
	case o.cfg.Canonical && !r.Is(flow.MarkCanonical):
		return dropRow
	case !o.ofExporter(r) || !o.ofTenant(r) || !o.filter.Passes(r):
		return dropFiltered
	case !o.sample.Takes(r):
		return dropSampled
	}
	return -1
}

func (o *Output) ofExporter(r *flow.Record) bool {
	if len(o.cfg.Exporters) == 0 {
		return true
	}
	a := r.Exporter.Netip()
	return slices.ContainsFunc(o.cfg.Exporters, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (o *Output) ofTenant(r *flow.Record) bool {
	if len(o.cfg.Tenants) == 0 {
		return true
	}
	return slices.ContainsFunc(o.cfg.Tenants, func(t string) bool { return t == r.Tenant || t == r.SrcTenant || t == r.DstTenant })
}

// count brings a record's counters into the form that the sink wants, with the output's own sampling.
func (o *Output) count(r *flow.Record) {
	counters := [...]*uint64{&r.Packets, &r.Octets, &r.L2Octets}
	if o.cfg.Counted && r.Sampling > 1 {
		for _, n := range counters {
			*n /= uint64(r.Sampling)
		}
	}
	if o.sample == nil {
		return
	}
	if !o.cfg.Counted {
		for _, n := range counters {
			if over, product := bits.Mul64(*n, uint64(o.cfg.Sample)); over == 0 {
				*n = product
			} else {
				*n = math.MaxUint64
			}
		}
	}
	*r = o.sample.Mark(*r)
}

// Close says that nothing more is offered.
func (o *Output) Close() { close(o.queue) }

// Run gives the sink what is in the queue until that is closed and empty, or ctx ends. A sink that fails loses what comes after; the
// error is in the status, and the line goes on.
func (o *Output) Run(ctx context.Context) {
	in := make(chan []flow.Record)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = o.sink.Run(ctx, in) // its state tells
	}()
	for batch := range o.queue {
		n := len(batch)
		select {
		case in <- batch:
			o.book.Out(n)
			o.passed.Add(uint64(n))
		case <-ended:
			o.book.Drop(dropStopped, n)
		case <-ctx.Done():
			o.book.Drop(dropStopped, n)
		}
		o.book.Hold(-n)
		o.waiting.Add(int64(-n))
	}
	close(in)
	<-ended
}

// done returns the number of queued records that are no longer waiting anywhere.
func (o *Output) done() uint64 {
	s := o.book.Read()
	return o.passed.Load() - uint64(max(o.sink.Book().Held, 0)) + s.Dropped[dropStopped].N
}

// Status is the account of an output and how it is.
type Status struct {
	Name, To string
	Book     ledger.Statement // of the choice and the sink together
	Lag      time.Duration    // how long the oldest record that waits has waited
	State    State
}

// Status returns the output's state.
func (o *Output) Status(nowNS int64) Status {
	own, sink := o.book.Read(), o.sink.Book()
	b := own
	b.Out, b.Held = sink.Out, own.Held+sink.Held+int64(own.Out)-int64(sink.In)
	for _, d := range sink.Dropped {
		i := slices.IndexFunc(b.Dropped, func(c ledger.Count) bool { return c.Reason == d.Reason })
		if i >= 0 {
			b.Dropped[i].N += d.N
			continue
		}
		b.Dropped = append(b.Dropped, d)
	}
	b.Held = max(b.Held, 0)
	return Status{Name: o.cfg.Name, To: o.cfg.To, Book: b, Lag: o.lag.read(nowNS, o.done()), State: o.sink.State()}
}
