// Package export is the far end of the tap line: the exporting process of RFC 7011. It turns flow records into
// IPFIX, NetFlow v9 or v5 and sends them to collectors over UDP, TCP or TLS; and it turns frames into sFlow. A slow or
// absent collector never holds up the line: what finds no room in its queue, or in the spool of a connection, is dropped and counted.
package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/ledger"
)

// Stage is the name of the exporting process in the ledger.
const Stage = "export"

// Reasons under which records are dropped.
const (
	DropQueue    = iota // the collector's queue was full
	DropSend            // the system refused to send the message
	DropNoPath          // there was no socket: the name does not resolve or there is no route
	DropStopped         // the line ended before the records left
	DropFiltered        // the target's filter does not want them
	DropSampled         // the target is told one flow in so many
	DropFormat          // the format cannot tell them: IPv6 in NetFlow v5
	DropSpool           // the collector was away and the spool was full
)

var dropReasons = []string{"queue_full", "send_failed", "no_path", "stopped", "filtered", "not_sampled", "no_place_in_format", "spool_full"}

// Config says where records go.
type Config struct {
	Targets       []Target
	Domain        uint32        // observation domain of targets that name none
	FlushInterval time.Duration // the longest a record waits for its message to fill
	Queue         int           // records that may wait for one collector
	Wait          bool          // wait for room instead of dropping: for capture files, where nothing near a VM waits
	SpoolDir      string        // where connections keep what waits for an absent collector, a folder each; "" for memory only
	Logger        *slog.Logger  // nil logs nothing

	// About adds what the line knows of itself to what is told in options: names, sampling, stages. nil adds nothing.
	About func(*about.Exporter)
}

// DefaultConfig returns a flush after half a second and a queue of 65,536 records.
func DefaultConfig() Config {
	return Config{Domain: 1, FlushInterval: 500 * time.Millisecond, Queue: 1 << 16}
}

// Validate reports the first mistake.
func (c Config) Validate() error {
	switch {
	case len(c.Targets) == 0:
		return errors.New("export: no collector: give at least one ipfix://HOST")
	case c.FlushInterval <= 0 || c.FlushInterval > time.Second:
		return fmt.Errorf("export: flush interval %v: want more than 0 and at most 1s", c.FlushInterval)
	case c.Queue < 1:
		return fmt.Errorf("export: queue of %d records: want at least 1", c.Queue)
	}
	for i, t := range c.Targets {
		for _, u := range c.Targets[:i] {
			if t == u {
				return fmt.Errorf("export: collector %s is given twice", t)
			}
		}
	}
	return nil
}

// Exporter is the exporting process.
type Exporter struct {
	cfg     Config
	senders []*sender
}

// New returns an exporter. It opens nothing.
func New(c Config) (*Exporter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Exporter{cfg: c}
	spools := map[string]int{}
	for _, t := range c.Targets {
		if t.Domain == 0 {
			t.Domain = c.Domain
		}
		if t.Refresh == 0 {
			t.Refresh = DefaultRefresh
		}
		s, err := newSender(t, c)
		if err != nil {
			return nil, fmt.Errorf("export: %s: %w", t, err)
		}
		if w := s.stream; w != nil && w.dir != "" { // the same collector twice, with other records
			if spools[w.dir]++; spools[w.dir] > 1 {
				w.dir += fmt.Sprintf("-%d", spools[w.dir])
			}
		}
		e.senders = append(e.senders, s)
	}
	return e, nil
}

// Books returns the account of each collector, in the order of the targets. Every record counts once for
// each; a record is out when the system took its message.
func (e *Exporter) Books() []*ledger.Book {
	books := make([]*ledger.Book, 0, len(e.senders))
	for _, s := range e.senders {
		books = append(books, s.book)
	}
	return books
}

// Status returns the state of each collector, in the order of the targets.
func (e *Exporter) Status() []Status {
	all := make([]Status, 0, len(e.senders))
	for _, s := range e.senders {
		all = append(all, s.status())
	}
	return all
}

// Run sends the records of every batch from in, whose slices it keeps, until in is closed; then it sends what is left. It
// returns early, and drops what is left, only when ctx ends.
func (e *Exporter) Run(ctx context.Context, in <-chan []flow.Record) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range e.senders {
		g.Go(func() error { return s.run(ctx) })
	}
	g.Go(func() error {
		defer func() {
			for _, s := range e.senders {
				close(s.queue)
			}
		}()
		for {
			select {
			case batch, ok := <-in:
				if !ok {
					return nil
				}
				for _, s := range e.senders {
					s.offer(ctx, batch)
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return g.Wait()
}
