// Package collect is the collect line: it composes sources of export datagrams, their decoding by
// session, enrichment and the store, and keeps the books of what was lost where.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/enrich"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/output"
	"crosstap/internal/collect/replicate"
	"crosstap/internal/collect/session"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/ledger"
)

// Source gives export datagrams: a socket, or a capture of them. Run returns when ctx ends or there is
// nothing more to give; it does not close out.
type Source interface {
	Run(ctx context.Context, out chan<- listen.Batch) error
}

// Config says what a collector is made of.
type Config struct {
	Store   store.Store
	Dir     string           // for the heartbeat, the exporters' templates and the counters; "" keeps none of them
	Listen  []listen.Config  // sockets
	Sources []Source         // others
	Outputs []*output.Output // get every record beside the store
	// Replicators pass on what was received, as it came.
	Replicators []*replicate.Replicator
	Session     session.Config
	Enrich      enrich.Config
	Workers     int          // decoders; 0 for one on each CPU
	Queue       int          // datagrams that may wait for one decoder; beyond it the exporter with most of them loses some
	Log         *slog.Logger // nil for none

	// Import is for sources that end: the line waits instead of dropping, and neither heartbeat nor silence
	// of exporters means anything.
	Import bool
}

// DefaultConfig has no source and no store.
func DefaultConfig() Config {
	return Config{Session: session.DefaultConfig(), Enrich: enrich.DefaultConfig(), Queue: 8192}
}

// Validate reports the first mistake.
func (c Config) Validate() error {
	switch {
	case c.Store == nil:
		return errors.New("collect: there is no store")
	case len(c.Listen)+len(c.Sources) == 0:
		return errors.New("collect: there is no source; give at least one address to listen on")
	case c.Workers < 0 || c.Workers > 256:
		return fmt.Errorf("collect: %d decoders: want 0 to 256", c.Workers)
	case c.Queue < 1 || c.Queue > 1<<20:
		return fmt.Errorf("collect: queue of %d datagrams: want 1 to %d", c.Queue, 1<<20)
	}
	return nil
}

// Reasons for which the line itself drops something.
const (
	dropQueueFull   = 0 // dispatch: the session's decoder did not keep up
	dropInterrupted = 0 // decode: the line was broken off
	dropStore       = 0 // append: the store refused
)

// Collector is a running or not yet running collect line. Its methods are safe for concurrent use.
type Collector struct {
	cfg       Config
	listeners []*listen.Listener
	sources   []Source
	sessions  *session.Table
	enricher  *enrich.Enricher
	counters  *counter.Table
	counting  counting
	who       atomic.Pointer[identity.Book]
	warned    atomic.Int64 // when it was last told that state is not written, UnixNano
	dispatch  *ledger.Book // datagrams
	decode    *ledger.Book // records
	stored    *ledger.Book // records
	spare     chan []flow.Record
	beat      heartbeat
	shed      shedding
	queues    []*fairQueue // one for each decoder
	bound     bool         // the replicators are

	outputWait time.Duration
	underWay   atomic.Int64 // batches not yet released
	tight      int64        // of them, how many make memory short
}

// New makes a collector. It opens nothing.
func New(cfg Config) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Workers == 0 {
		cfg.Workers = min(runtime.GOMAXPROCS(0), 16)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Collector{
		cfg: cfg, sources: append([]Source(nil), cfg.Sources...), spare: make(chan []flow.Record, spareBatches+cfg.Workers),
		dispatch: ledger.New("dispatch", ledger.Datagrams, "queue-full"),
		decode:   ledger.New("decode", ledger.Records, "interrupted"),
		stored:   ledger.New("append", ledger.Records, "store"),
		beat:     heartbeat{dir: cfg.Dir}, outputWait: outputWait,
	}
	for range cap(c.spare) {
		c.spare <- nil
	}
	shed := c.drop
	if cfg.Import {
		shed = nil
	}
	for range cfg.Workers {
		c.queues = append(c.queues, newFairQueue(cfg.Queue, shed))
	}
	var err error
	for _, lc := range cfg.Listen {
		l, err := listen.New(lc)
		if err != nil {
			return nil, err
		}
		c.listeners, c.sources = append(c.listeners, l), append(c.sources, l)
		if lc.Transport == listen.UDP {
			c.tight = max(c.tight, int64(lc.Slabs)*3/4)
		}
	}
	if c.tight == 0 {
		c.tight = math.MaxInt64
	}
	c.counters = counter.New(counter.DefaultSources)
	cfg.Session.Counters = c.counters.Add
	if c.sessions, err = session.New(cfg.Session); err != nil {
		return nil, err
	}
	if c.enricher, err = enrich.New(cfg.Enrich); err != nil {
		return nil, err
	}
	c.SetInventory(identity.NewBook(identity.Inventory{}))
	return c, nil
}

// SetInventory replaces the inventory for the records to come.
func (c *Collector) SetInventory(b identity.Book) {
	c.who.Store(&b)
	c.enricher.SetInventory(b)
}

// SetRules replaces what operators say of exporters, for the datagrams to come.
func (c *Collector) SetRules(rules []session.Rule) error { return c.sessions.SetRules(rules) }

// Bind opens the sockets; Run does so itself when nobody did. Datagrams wait in the kernel until Run reads
// them.
func (c *Collector) Bind(ctx context.Context) error {
	for i, l := range c.listeners {
		if err := l.Bind(ctx); err != nil {
			for _, opened := range c.listeners[:i] {
				_ = opened.Close() // nothing was read from it
			}
			return err
		}
	}
	if err := c.bindReplicators(); err != nil {
		for _, l := range c.listeners {
			_ = l.Close() // nothing was read from it
		}
		return err
	}
	return nil
}

// Addrs returns the addresses of the sockets, in the order of Config.Listen.
func (c *Collector) Addrs() []netip.AddrPort {
	out := make([]netip.AddrPort, len(c.listeners))
	for i, l := range c.listeners {
		out[i] = l.Addr()
	}
	return out
}

// Sizes of what is under way between the stages.
const (
	spareBatches  = 8   // slices of records beside one for each decoder
	goodBatch     = 512 // records after which a decoder passes on what it has
	largestSpare  = 8 * goodBatch
	tickEvery     = time.Second
	saveEvery     = 30 * time.Second
	suspendedFrom = 15 * time.Second // between two ticks
)

// Run collects until stop ends or every source has ended. It then lets everything that was received reach the
// store and flushes it. An error of one stage ends all.
func (c *Collector) Run(stop context.Context) error {
	if err := c.Bind(stop); err != nil {
		return err
	}
	c.start(time.Now().UnixNano())
	g, ctx := errgroup.WithContext(context.WithoutCancel(stop)) // ctx ends when a stage fails
	src, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)() // a signal ends the sources; the rest drains
	batches := make(chan listen.Batch, 8)
	decoded, enriched := make(chan []flow.Record, spareBatches), make(chan []flow.Record, spareBatches)
	g.Go(func() error { defer close(batches); return c.runSources(src, batches) })
	received := make(chan struct{})
	g.Go(func() error { defer close(received); defer c.closeQueues(); return c.runDispatch(ctx, batches) })
	g.Go(func() error { return c.runReplicators(ctx, received) })
	g.Go(func() error { defer close(decoded); return c.runDecoders(ctx, decoded) })
	g.Go(func() error { defer close(enriched); return c.enricher.Run(ctx, decoded, enriched) })
	drained := make(chan struct{})
	g.Go(func() error { defer close(drained); return c.runAppend(ctx, enriched) })
	g.Go(func() error { return c.runOutputs(ctx, drained) })
	g.Go(func() error { return c.runTicks(ctx, drained) })
	g.Go(func() error { return c.runCounters(ctx, drained) })
	err := g.Wait()
	return errors.Join(err, c.finish(context.WithoutCancel(stop)))
}

func (c *Collector) closeQueues() {
	for _, q := range c.queues {
		q.close()
	}
}

// runSources runs every source until all have ended.
func (c *Collector) runSources(ctx context.Context, out chan<- listen.Batch) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range c.sources {
		g.Go(func() error { return s.Run(ctx, out) })
	}
	return g.Wait()
}

// runAppend stores batches until in closes.
func (c *Collector) runAppend(ctx context.Context, in <-chan []flow.Record) error {
	for {
		select {
		case recs, ok := <-in:
			if !ok {
				return nil
			}
			c.stored.In(len(recs))
			c.offer(recs)
			if err := c.cfg.Store.Append(ctx, recs); err != nil {
				c.stored.Drop(dropStore, len(recs))
				return fmt.Errorf("collect: store %d records: %w", len(recs), err)
			}
			c.stored.Out(len(recs))
			c.giveBack(recs)
		case <-ctx.Done():
			return nil
		}
	}
}

// finishWait bounds how long the last flush may take.
const finishWait = 30 * time.Second

// finish makes durable what was stored, and what a next start wants to know.
func (c *Collector) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finishWait)
	defer cancel()
	c.noteAll(c.sessions.Flush())
	c.noteShed(time.Now().UnixNano())
	err := c.cfg.Store.Flush(ctx)
	c.passCounters(ctx)
	if c.cfg.Dir == "" || c.cfg.Import {
		return err
	}
	err = errors.Join(err, c.sessions.Save(c.templatesPath()), c.SaveCounters(c.cfg.Dir))
	return errors.Join(err, c.beat.write(time.Now().UnixNano(), true))
}
