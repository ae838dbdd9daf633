// Package enrich joins a flow record with what is known at the time of the flow: the segment and tenant, the
// machines and hosts at its ends, the observer that made it. It finds the records that tell of the
// same packets, gives them one flow identifier, and elects for each moment of a flow the one observer
// whose rows sums read.
package enrich

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/ledger"
)

// Config bounds what is remembered of flows.
type Config struct {
	MaxFlows int           // directions of flows remembered at once
	Linger   time.Duration // how long a flow that nobody reports any more is remembered
	MaxAge   time.Duration // a record that claims to be older than this at receipt has a wrong clock
}

// DefaultConfig remembers a quarter of a million directions, some 80 MB when all are in use.
func DefaultConfig() Config {
	return Config{MaxFlows: 1 << 18, Linger: 15 * time.Minute, MaxAge: 7 * 24 * time.Hour}
}

// Validate reports the first mistake.
func (c Config) Validate() error {
	if c.MaxFlows < 16 || c.MaxFlows > 1<<30 {
		return fmt.Errorf("enrich: %d flows: want 16 to %d", c.MaxFlows, 1<<30)
	}
	if c.Linger < time.Second || c.MaxAge < time.Minute {
		return fmt.Errorf("enrich: linger %v, greatest age %v: want at least 1s and 1m", c.Linger, c.MaxAge)
	}
	return nil
}

// maxAhead is how far a record's end may be after its receipt.
const maxAhead = time.Hour

// Enricher fills in flow records. Run and Records are for one goroutine at a time; the other methods are
// safe for concurrent use.
type Enricher struct {
	cfg   Config
	book  *ledger.Book
	who   atomic.Pointer[identity.Book]
	flows *table
	known learned
	names names

	observers observerIDs

	stats struct{ flows, evicted, ambiguous, takeovers, times, conversations atomic.Uint64 }

	keys [64]keys // of each record of those that join is at
	refs []int32  // the flow of each record of the batch, while Records runs
}

// New returns an enricher that knows no inventory.
func New(cfg Config) (*Enricher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Enricher{cfg: cfg, book: ledger.New("enrich", ledger.Records), flows: newTable(cfg.MaxFlows, int64(cfg.Linger))}
	e.flows.moved = e.moved
	e.known = learned{lingerNS: int64(cfg.Linger), macs: make(map[flow.MAC]learnedMAC)}
	e.SetInventory(identity.NewBook(identity.Inventory{}))
	return e, nil
}

// SetInventory replaces the inventory for the batches to come.
func (e *Enricher) SetInventory(b identity.Book) { e.who.Store(&b) }

// Book returns the account of records: every record goes on.
func (e *Enricher) Book() ledger.Statement { return e.book.Read() }

// Stats are the enricher's own figures, since its start but for Flows and Conversations.
type Stats struct {
	Flows         uint64 // directions remembered
	Conversations uint64
	Evicted       uint64 // flows forgotten to make room: their next rows may be counted twice
	Ambiguous     uint64 // records that fitted two flows or segments
	Takeovers     uint64 // another observer became canonical
	Times         uint64 // records whose time could not be right and was set to their receipt
}

// Stats returns the enricher's figures.
func (e *Enricher) Stats() Stats {
	s := &e.stats
	return Stats{
		Flows: s.flows.Load(), Conversations: s.conversations.Load(), Evicted: s.evicted.Load(), Ambiguous: s.ambiguous.Load(),
		Takeovers: s.takeovers.Load(), Times: s.times.Load(),
	}
}

// Run enriches batches in place until in closes.
func (e *Enricher) Run(ctx context.Context, in <-chan []flow.Record, out chan<- []flow.Record) error {
	for {
		select {
		case recs, ok := <-in:
			if !ok {
				return nil
			}
			e.Records(recs)
			select {
			case out <- recs:
			case <-ctx.Done():
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Records enriches one batch in place. Observers of one flow that are new in the batch compete for it by rank;
// else who comes first stays.
func (e *Enricher) Records(recs []flow.Record) {
	e.book.In(len(recs))
	book := *e.who.Load()
	for rest := recs; len(rest) > 0; {
		n := min(len(rest), e.cfg.MaxFlows/2) // no flow of the part is forgotten before its end
		e.part(rest[:n], book)
		rest = rest[n:]
	}
	e.stats.flows.Store(uint64(e.flows.len()))
	e.stats.conversations.Store(uint64(e.flows.convs.len()))
	e.stats.evicted.Store(e.flows.evicted)
	e.stats.takeovers.Store(e.flows.takeover)
	e.book.Out(len(recs))
}

func (e *Enricher) part(recs []flow.Record, book identity.Book) {
	e.flows.batch++
	e.refs = e.refs[:0]
	for rest := recs; len(rest) > 0; {
		n := min(len(rest), len(e.keys))
		e.join(rest[:n], book)
		rest = rest[n:]
	}
	for i := range recs {
		e.finish(&recs[i], e.refs[i], book)
	}
}

// join finds the flows of a few records, which stay close to the processor meanwhile.
func (e *Enricher) join(recs []flow.Record, book identity.Book) {
	for i := range recs {
		r, k := &recs[i], &e.keys[i]
		e.times(r)
		k.ambiguous = e.identify(r, book)
		r.ObserverID = e.observers.of(r)
		scale(r)
		k.of(r)
	}
	e.flows.fetch(recs, e.keys[:len(recs)])
	for i := range recs {
		r, k := &recs[i], &e.keys[i]
		ref, two := e.flows.find(r, k)
		e.refs = append(e.refs, ref)
		if k.ambiguous || two {
			r.Marks |= flow.MarkAmbiguous
			e.stats.ambiguous.Add(1)
		}
		f := e.flows.at(ref)
		f.stand(r, e.flows.batch)
		e.flows.convs.see(f, r)
	}
}

// moved follows a flow that turned out to be another one while the batch is under way.
func (e *Enricher) moved(from, to int32) {
	for i, ref := range e.refs {
		if ref == from {
			e.refs[i] = to
		}
	}
}

// finish does what needs the whole batch to be known.
func (e *Enricher) finish(r *flow.Record, ref int32, book identity.Book) {
	f := e.flows.at(ref)
	r.FlowID = f.id
	if r.Segment == 0 && f.segment != 0 {
		r.Segment = f.segment // from another observer, who saw the same MAC addresses
		ends(r, book)
	}
	r.Marks &^= flow.MarkCanonical
	if e.flows.elect(f, r) {
		r.Marks |= flow.MarkCanonical
	}
	guess := false
	if r.Client, guess = e.flows.convs.client(f); guess {
		r.Marks |= flow.MarkGuess
	}
	if r.App == "" { // the exporter or the payload knows better
		appOf(r)
	}
}

// times repairs times that cannot be right, so that nobody downstream has to.
func (e *Enricher) times(r *flow.Record) {
	if r.EndNS == 0 {
		r.EndNS = max(r.StartNS, 0)
	}
	if r.StartNS == 0 || r.StartNS > r.EndNS {
		r.StartNS = r.EndNS
	}
	if r.RecvNS == 0 || r.EndNS <= r.RecvNS+int64(maxAhead) && r.EndNS >= r.RecvNS-int64(e.cfg.MaxAge) {
		return
	}
	e.stats.times.Add(1)
	span := min(r.EndNS-r.StartNS, int64(maxAhead))
	if span < 0 {
		span = 0
	}
	r.StartNS, r.EndNS = r.RecvNS-span, r.RecvNS
}
