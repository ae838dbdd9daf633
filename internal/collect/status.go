package collect

import (
	"time"

	"crosstap/internal/collect/enrich"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/output"
	"crosstap/internal/collect/replicate"
	"crosstap/internal/collect/session"
	"crosstap/internal/identity"
	"crosstap/internal/ledger"
)

// Status is the state of the collect line but for the store's, which knows its own.
type Status struct {
	Listeners []listen.Status
	Books     []ledger.Statement // in the order of the line
	Exporters []Exporter         // in the order of address and domain; silent ones too
	Sessions  session.Stats
	Flows     enrich.Stats
	Outputs   []output.Status
	// Replicators are those that pass on what was received.
	Replicators []replicate.Status
}

// Exporter is one observation domain of an exporter with its name.
type Exporter struct {
	session.Exporter
	Name string // of the observer, from the inventory, or of the host with that tunnel endpoint; "" when that knows neither, or the exporter names itself
}

// Status returns the line's state.
func (c *Collector) Status() Status {
	now := time.Now().UnixNano()
	s := Status{Sessions: c.sessions.Stats(), Flows: c.enricher.Stats(), Outputs: c.outputs(now), Replicators: c.replicators()}
	for _, l := range c.listeners {
		s.Listeners = append(s.Listeners, l.Status())
	}
	if len(s.Listeners) > 0 {
		s.Books = append(s.Books, together(s.Listeners))
	}
	s.Books = append(s.Books, c.dispatch.Read(), c.sessions.Book(), c.counters.Book(), c.decode.Read(), c.enricher.Book(), c.stored.Read())
	book := *c.who.Load()
	for _, x := range c.sessions.Exporters(now) {
		s.Exporters = append(s.Exporters, Exporter{Exporter: x, Name: exporterName(book, &x, now)})
	}
	return s
}

// exporterName is what the inventory calls an exporter: the observer that it is, else the host that has its address as tunnel endpoint, as agents
// that send counters are no observers. One that names itself is not called by its host.
func exporterName(book identity.Book, x *session.Exporter, atNS int64) string {
	if o := book.ObserverOf(x.Address, x.Domain, 0, atNS); o != nil {
		return o.Name
	}
	if x.Observer != "" {
		return ""
	}
	if h := book.HostByVTEP(x.Address, atNS); h != nil {
		return h.Name
	}
	return ""
}

// together adds up the books of all listeners.
func together(all []listen.Status) ledger.Statement {
	sum := all[0].Book
	sum.Dropped = append([]ledger.Count(nil), sum.Dropped...)
	for _, l := range all[1:] {
		sum.In += l.Book.In
		sum.Out += l.Book.Out
		sum.Held += l.Book.Held
		for i, d := range l.Book.Dropped {
			sum.Dropped[i].N += d.N
		}
	}
	return sum
}
