// Package deliver is the far end of the tap line for what needs no network protocol: frames go to capture files, flow
// records to standard output as JSON lines, and both to nowhere.
package deliver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Lines writes each record as one line of JSON. Fields have the names and texts of the flows report.
type Lines struct {
	w    io.Writer
	book *ledger.Book
}

// NewLines returns a sink that writes to w.
func NewLines(w io.Writer) *Lines {
	return &Lines{w: w, book: ledger.New("deliver", ledger.Records)}
}

// Book returns the sink's account.
func (l *Lines) Book() *ledger.Book { return l.book }

// flushInterval is how long a line may wait for others.
const flushInterval = 200 * time.Millisecond

// Run writes the records from in until in is closed or ctx ends.
func (l *Lines) Run(ctx context.Context, in <-chan []flow.Record) error {
	w := bufio.NewWriterSize(l.w, 64<<10)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	var line []byte
	for {
		select {
		case records, ok := <-in:
			if !ok {
				return wrap(w.Flush())
			}
			l.book.In(len(records))
			for i := range records {
				line = append(AppendJSON(line[:0], &records[i]), '\n')
				if _, err := w.Write(line); err != nil {
					l.book.Hold(len(records) - i)
					return wrap(err)
				}
				l.book.Out(1)
			}
		case <-tick.C:
			if err := w.Flush(); err != nil {
				return wrap(err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func wrap(err error) error {
	if err != nil {
		return fmt.Errorf("deliver: flows: %w", err)
	}
	return nil
}

// Null takes records and counts them.
type Null struct{ book *ledger.Book }

// NewNull returns a sink that keeps nothing.
func NewNull() *Null { return &Null{book: ledger.New("deliver", ledger.Records)} }

// Book returns the sink's account.
func (n *Null) Book() *ledger.Book { return n.book }

// Run takes records until in is closed or ctx ends.
func (n *Null) Run(ctx context.Context, in <-chan []flow.Record) error {
	for {
		select {
		case records, ok := <-in:
			if !ok {
				return nil
			}
			n.book.In(len(records))
			n.book.Out(len(records))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Discard takes frames and counts them.
type Discard struct{ book *ledger.Book }

// NewDiscard returns a sink that keeps no frame.
func NewDiscard() *Discard { return &Discard{book: ledger.New("deliver", ledger.Frames)} }

// Book returns the sink's account.
func (d *Discard) Book() *ledger.Book { return d.book }

// Where returns the destination as it was given.
func (d *Discard) Where() string { return "null:frames" }

// Run takes and releases batches until in is closed or ctx ends.
func (d *Discard) Run(ctx context.Context, in <-chan frame.Batch) error {
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			d.Take(b)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Begin, Take and End are Run for one who has the batches where they are made.
func (d *Discard) Begin() error { return nil }

// Take takes and releases a batch.
func (d *Discard) Take(b frame.Batch) {
	d.book.In(len(b.Frames))
	d.book.Out(len(b.Frames))
	b.Release()
}

// Look does nothing.
func (d *Discard) Look(time.Time) {}

// End returns why.
func (d *Discard) End(why error) error { return why }
