package tap

import (
	"slices"

	"crosstap/internal/kernel"
	"crosstap/internal/ledger"
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
	Errors   uint64 // could not be sent
	Queued   int64

	LastError string // of collectors, "" for none
}

// Destinations returns the accounts of all destinations, those of flow records first.
func (t *Tap) Destinations() (all []Destination) {
	for _, f := range t.flows {
		switch x := f.(type) {
		case *export.Exporter:
			status := x.Status()
			for i, b := range x.Books() {
				d := account(status[i].Target, b.Read())
				d.LastError = status[i].LastError
				all = append(all, d)
			}
		case interface{ Book() *ledger.Book }:
			all = append(all, account("flows:-", x.Book().Read()))
		}
	}
	if c := t.path.copies.Load(); c != nil {
		for i, s := range c.statements() {
			all = append(all, account(c.to[i], s))
		}
		return all
	}
	for _, f := range t.frames {
		if b, ok := f.(*branch); ok {
			all = append(all, account(b.to, b.statements()...))
			continue
		}
		all = append(all, account(f.Where(), f.Book().Read()))
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
	shed     = []string{"queue_full", "shed_for_budget", "no_buffers", "over_rate", "refused", "receiver_away", "client_slow", "disk_full", "spool_full", "stopped"}
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
