package netnetflow

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/ledger"
	"crosstap/internal/tap/export"
)

// Status is the state of one switch.
type Status struct {
	Switch     string             `json:"switch"`
	ID         int                `json:"id"`
	Gone       bool               `json:"gone,omitempty"` // deleted; metered again when it is back
	Ports      []PortStatus       `json:"ports"`
	Sent       Sums               `json:"sent"`
	QueueFull  uint64             `json:"queue_full"` // flows lost because the queue was full
	Collectors []CollectorStatus  `json:"collectors"`
	Books      []ledger.Statement `json:"books"`
}

// PortStatus is one captured port.
type PortStatus struct {
	Name   string `json:"name"`
	Number uint32 `json:"number"` // in records
}

// CollectorStatus is one collector.
type CollectorStatus struct {
	URL       string `json:"url"`
	Messages  uint64 `json:"messages"`
	Refused   uint64 `json:"refused"` // answered with "port unreachable"
	Failed    uint64 `json:"failed"`
	LastError string `json:"last_error,omitempty"`
}

// Status returns the state of all switches.
func (m *Meter) Status() (all []Status) {
	for _, l := range m.all() {
		all = append(all, l.status())
	}
	return all
}

func (l *line) status() Status {
	s := Status{Switch: l.name, ID: l.id, QueueFull: l.queue.total.lost.Load(), Books: l.allBooks(),
		Sent: Sums{Flows: l.queue.total.flows.Load(), Packets: l.queue.total.packets.Load(), Octets: l.queue.total.octets.Load()}}
	l.mu.Lock()
	s.Gone = l.gone
	for _, c := range l.ports {
		p := l.places.at(c.point)
		s.Ports = append(s.Ports, PortStatus{p.name, p.number})
	}
	l.mu.Unlock()
	slices.SortFunc(s.Ports, func(a, b PortStatus) int { return strings.Compare(a.Name, b.Name) })
	for _, st := range l.exporter.Status() {
		s.Collectors = append(s.Collectors, CollectorStatus{st.Target, st.Messages, st.Refused, st.Failed, st.LastError})
	}
	return s
}

// statements are the accounts of stages that have ended, summed up by stage.
type statements []ledger.Statement

func (all *statements) add(s ledger.Statement) {
	for i := range *all {
		if t := &(*all)[i]; t.Stage == s.Stage && t.Unit == s.Unit {
			t.In, t.Out, t.Made, t.Held = t.In+s.In, t.Out+s.Out, t.Made+s.Made, t.Held+s.Held
			for j := range s.Dropped {
				t.Dropped[j].N += s.Dropped[j].N
			}
			return
		}
	}
	s.Dropped = slices.Clone(s.Dropped)
	*all = append(*all, s)
}

// captureBooks are those of the ports that are gone.
type captureBooks struct{ ended statements }

// allBooks returns the account of every stage, over all ports and generations.
func (l *line) allBooks() []ledger.Statement {
	l.mu.Lock()
	var all statements
	for _, s := range l.books.ended {
		all.add(s)
	}
	for _, c := range l.ports {
		all.add(c.live.Book().Read())
	}
	all.add(l.enter.Read())
	for _, s := range l.meters {
		all.add(s)
	}
	if l.meter != nil {
		for _, b := range l.meter.Books() {
			all.add(b.Read())
		}
	}
	l.mu.Unlock()
	all.add(l.queue.book.Read())
	for _, b := range l.exporter.Books() {
		all = append(all, b.Read())
	}
	return all
}

// health is what was last said of a collector.
type health struct {
	refused, failed, messages uint64
	lost                      bool
	since                     time.Time
}

// report says what was lost since the last time. It is called from one goroutine.
func (l *line) report() {
	if n := l.queue.total.lost.Load(); n > l.reported {
		l.log.Warn("maximum purgatory size reached: flows were lost; a lower polling period (-s) empties the queue more often",
			"lost", n-l.reported, "lost_in_all", n, "queue", l.cfg.Queue, "period_ms", l.cfg.Period.Milliseconds())
		l.reported = n
	}
	for i, st := range l.exporter.Status() {
		l.health[i].check(l, st)
	}
}

// check says that contact with a collector is lost, as long as it is, and when it is there again. Over UDP nobody knows more than what
// the collector's host answers.
func (h *health) check(l *line, st export.Status) {
	bad := st.Refused > h.refused || st.Failed > h.failed
	good := !bad && st.Messages > h.messages
	switch {
	case bad:
		if !h.lost {
			h.lost, h.since = true, time.Now()
		}
		l.log.Warn("lost contact with the collector; still sending", "collector", st.Target, "error", st.LastError,
			"refused", st.Refused-h.refused, "not_sent", st.Failed-h.failed, "since", h.since.Format(time.TimeOnly))
	case h.lost && good:
		h.lost = false
		l.log.Info("the collector takes datagrams again", "collector", st.Target, "away", time.Since(h.since).Round(time.Second).String())
	}
	h.refused, h.failed, h.messages = st.Refused, st.Failed, st.Messages
}

// Summary is one line on what a switch has sent.
func (s *Status) Summary() string {
	return fmt.Sprintf("%s: %d flows, %d packets, %d bytes sent; %d flows lost in the queue", s.Switch, s.Sent.Flows, s.Sent.Packets, s.Sent.Octets, s.QueueFull)
}
