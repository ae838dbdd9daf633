// Package deliver is the far end of the tap line for what needs no network protocol: frames go to capture files, flow
// records to standard output as JSON lines, and both to nowhere.
package deliver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Lines writes each record as one line of JSON. Fields have the names and texts of the flows report.
type Lines struct {
	w    io.Writer
	book *ledger.Book

	Alone  bool         // there is no other destination: Run ends when nothing can be written
	Wait   bool         // for a slow reader; otherwise it loses what does not fit into a queue
	Log    *slog.Logger // nil for none
	faults faults
	failed error
	line   []byte
	ahead  int // lines that wait to be flushed
}

// Reasons under which lines are dropped.
const (
	dropLinesFull = iota
	dropLinesWrite
)

// NewLines returns a sink that writes to w. It is alone, and waits.
func NewLines(w io.Writer) *Lines {
	return &Lines{w: w, book: ledger.New("deliver", ledger.Records, "queue_full", "write_failed"), Alone: true, Wait: true}
}

// Book returns the sink's account.
func (l *Lines) Book() *ledger.Book { return l.book }

// Trouble returns why nothing could be written.
func (l *Lines) Trouble() Trouble { return l.faults.Trouble() }

const (
	flushInterval = 200 * time.Millisecond // that a line may wait for others
	linesAhead    = 64                     // slices of records that wait for a slow reader
)

// Run writes the records from in until in is closed or ctx ends.
func (l *Lines) Run(ctx context.Context, in <-chan []flow.Record) error {
	ctx, cancel := context.WithCancel(ctx)
	queued := make(chan []flow.Record, linesAhead)
	var taking sync.WaitGroup
	taking.Go(func() { l.take(ctx, in, queued) })
	defer taking.Wait()
	defer cancel()
	w := bufio.NewWriterSize(l.w, 64<<10)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case records, ok := <-queued:
			if !ok {
				return l.fail(l.flush(w))
			}
			err = l.write(w, records)
		case <-tick.C:
			err = l.flush(w)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err = l.fail(err); err != nil {
			return err
		}
	}
}

// take moves records to the queue.
func (l *Lines) take(ctx context.Context, in <-chan []flow.Record, queued chan<- []flow.Record) {
	defer close(queued)
	for {
		select {
		case records, ok := <-in:
			if !ok {
				return
			}
			l.book.In(len(records))
			l.book.Hold(len(records))
			if !l.pass(ctx, records, queued) {
				l.drop(dropLinesFull, len(records))
			}
		case <-ctx.Done():
			return
		}
	}
}

func (l *Lines) pass(ctx context.Context, records []flow.Record, queued chan<- []flow.Record) bool {
	select {
	case queued <- records:
		return true
	default:
	}
	if !l.Wait {
		return false
	}
	select {
	case queued <- records:
		return true
	case <-ctx.Done():
		return true // what is held then was under work
	}
}

func (l *Lines) drop(reason, n int) {
	l.book.Hold(-n)
	l.book.Drop(reason, n)
}

// write writes records, or drops them after an error.
func (l *Lines) write(w *bufio.Writer, records []flow.Record) error {
	if l.failed != nil {
		l.drop(dropLinesWrite, len(records))
		return nil
	}
	for i := range records {
		l.line = append(AppendJSON(l.line[:0], &records[i]), '\n')
		if _, err := w.Write(l.line); err != nil {
			l.ahead += len(records) - i
			return err
		}
		l.ahead++
	}
	return nil
}

// flush writes what waits.
func (l *Lines) flush(w *bufio.Writer) error {
	if l.failed != nil {
		return nil
	}
	if err := w.Flush(); err != nil {
		return err
	}
	l.book.Hold(-l.ahead)
	l.book.Out(l.ahead)
	l.ahead = 0
	return nil
}

// fail returns the error of a write when there is no other destination.
func (l *Lines) fail(err error) error {
	if err = wrap(err); err == nil || l.failed != nil {
		return nil
	}
	if l.Alone {
		return err
	}
	l.failed = err
	l.drop(dropLinesWrite, l.ahead)
	l.ahead = 0
	if l.faults.begin(err); l.Log != nil {
		l.Log.Warn("flow records cannot be written to standard output and are lost; the other destinations go on", "error", err)
	}
	return nil
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
