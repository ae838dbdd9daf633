package tap

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/kernel"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/deliver/tunnel"
	"crosstap/internal/tap/export"
)

// Destination is the account of one destination: In = Sent + Filtered + Shed + Errors + Queued.
type Destination struct {
	URL      string
	Unit     ledger.Unit
	In       uint64 // with what a groom step of its own has made
	Sent     uint64
	Filtered uint64 // by its own filter, groom steps and sampling
	Shed     uint64 // found no room, is beyond a rate or the budget, or nobody was there to take it
	Errors   uint64 // could not be sent or written
	Queued   int64

	LastError string    // "" for none
	ErrorAt   time.Time // zero where that is not known
	Recovered time.Time // when it went well again; zero while it does not
}

// Failing reports whether the destination does not take anything at present.
func (d *Destination) Failing() bool { return d.LastError != "" && d.Recovered.IsZero() }

// Error returns the last error with its time and, when it is over, since when.
func (d *Destination) Error() string { return errorText(d.LastError, d.ErrorAt, d.Recovered) }

func errorText(text string, at, recovered time.Time) string {
	if text == "" || at.IsZero() {
		return text
	}
	text += " at " + at.UTC().Format(time.RFC3339)
	if !recovered.IsZero() {
		text += ", recovered at " + recovered.UTC().Format(time.RFC3339)
	}
	return text
}

// troubled is a destination of frames that remembers its last failure.
type troubled interface{ Trouble() deliver.Trouble }

// blame notes the last failure of a sink.
func (d *Destination) blame(f any) {
	if b, ok := f.(*branch); ok {
		f = b.frameSink
	}
	var last deliver.Trouble
	switch x := f.(type) {
	case troubled:
		last = x.Trouble()
	case *tunnel.Sink:
		last.At, last.Recovered, last.Err = x.Failure()
	}
	if last.Err != nil {
		d.LastError, d.ErrorAt, d.Recovered = last.Err.Error(), last.At, last.Recovered
	}
}

// Incomplete returns why destinations lack what could not be written to them; those are left out that ended the tap.
func (t *Tap) Incomplete() error {
	var errs []error
	for _, f := range t.frames {
		if b, ok := f.(*branch); ok {
			f = b.frameSink
		}
		if x, ok := f.(troubled); ok {
			if n, why := unwritten(f.Book().Read()), x.Trouble().Err; n > 0 && why != nil {
				errs = append(errs, fmt.Errorf("%d frames are missing: %w", n, why))
			}
		}
	}
	return errors.Join(errs...)
}

// unwritten returns how many frames were lost to errors of files.
func unwritten(s ledger.Statement) (n uint64) {
	for _, d := range s.Dropped {
		if d.Reason == "disk_full" || d.Reason == "write_failed" {
			n += d.N
		}
	}
	return n
}

// Destinations returns the accounts of all destinations, those of flow records first.
func (t *Tap) Destinations() (all []Destination) {
	for _, f := range t.flows {
		switch x := f.(type) {
		case *export.Exporter:
			status := x.Status()
			for i, b := range x.Books() {
				d := account(status[i].Target, b.Read())
				d.LastError, d.ErrorAt, d.Recovered = status[i].LastError, status[i].LastErrAt, status[i].Recovered
				all = append(all, d)
			}
		case interface{ Book() *ledger.Book }:
			d := account("flows:-", x.Book().Read())
			d.blame(f)
			all = append(all, d)
		}
	}
	if c := t.path.copies.Load(); c != nil {
		for i, s := range c.statements() {
			all = append(all, account(c.to[i], s))
		}
		return all
	}
	for _, f := range t.frames {
		d := Destination{}
		if b, ok := f.(*branch); ok {
			d = account(b.to, b.statements()...)
		} else {
			d = account(f.Where(), f.Book().Read())
		}
		d.blame(f)
		all = append(all, d)
	}
	return all
}

// account adds up the books of a destination, from its queue on.
func account(url string, books ...ledger.Statement) Destination {
	d := Destination{URL: url, Unit: books[0].Unit, In: books[0].In, Sent: books[len(books)-1].Out}
	left := int64(d.In) - int64(d.Sent)
	for _, s := range books {
		d.In += s.Made
		left += int64(s.Made)
		for _, x := range s.Dropped {
			*d.of(s.Stage, x.Reason) += x.N
			left -= int64(x.N)
		}
	}
	d.Queued = max(left, 0)
	return d
}

// Reasons of queues, sinks and exporters that are no errors.
var (
	unwanted = []string{"filtered", "sampled_out", "not_sampled", "not_asked_for", "no_place_in_format"}
	shed     = []string{"queue_full", "shed_for_budget", "no_buffers", "over_rate", "refused", "receiver_away", "client_slow", "spool_full", "stopped"}
)

// of returns the sum that a reason belongs to.
func (d *Destination) of(stage, reason string) *uint64 {
	switch {
	case !slices.Contains([]string{"queue", "deliver", kernel.Stage, export.Stage}, stage): // a groom step of its own
		return &d.Filtered
	case slices.Contains(unwanted, reason):
		return &d.Filtered
	case slices.Contains(shed, reason):
		return &d.Shed
	}
	return &d.Errors
}
