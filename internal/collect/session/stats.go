package session

import (
	"cmp"
	"slices"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/flowproto/decode"
)

// Exporter is the state of one observation domain of one exporting process. Counts are since the collector
// started. A datagram counts at the domain of its first message.
type Exporter struct {
	Address          flow.Addr // of the datagrams; of sFlow the agent's own
	Protocol         flowproto.Protocol
	Domain           uint32
	Observer         string // last name that the records gave their observer
	Silent           bool
	FirstNS          int64 // receive times
	LastNS           int64
	Datagrams        uint64
	Records          uint64
	RecordsPerSecond float64 // mean over the last minute
	OptionRecords    uint64
	CounterSamples   uint64 // sFlow
	Unit             flowproto.Unit
	Lost             uint64 // by sequence numbers, in units
	LostRecords      uint64 // the same in records; estimated where datagrams are numbered
	Shed             uint64 // datagrams that we dropped because it sent more than was decoded
	NotSent          uint64 // flows that it could not send, by its own account
	AgentDrops       uint64 // sFlow: packets that it should have sampled and could not
	Templates        int    // of the session heard last
	Withdrawals      uint64
	Redefined        uint64
	Conflicts        uint64 // templates of one number that differ between its sessions: each counts for its own session only
	MissingSets      uint64 // data sets that came before their template
	PendingSets      int    // of them, those that still wait, over all domains of the session heard last
	LateRecords      uint64 // records decoded after such a wait
	Borrowed         uint64 // records decoded with a template of another domain or session
	UnknownFields    uint64
	Unknown          []string // elements without a name, as enterprise/identifier, at most 32
	Feeds            []string // what its fields are enough for
	Sampling         Sampling
	Names            int       // interfaces, VRFs, applications, points that it has named
	Errors           uint64    // datagrams with a problem
	Rejects          []Reject  // problems by reason, those that occurred
	SkewNS           int64     // our clock minus the exporter's, the least over ten minutes; Skewed tells whether it is known
	Skewed           bool      //
	Sessions         []Session // transport sessions heard last, at most eight, newest first
}

// ForProcess reports whether this is domain 0 of an exporting process that only describes itself there: "the entire exporting process"
// (RFC 7011, section 3.1). Its options join the records of its domains.
func (x *Exporter) ForProcess() bool {
	return x.Protocol == flowproto.IPFIX && x.Domain == 0 && x.OptionRecords > 0 && x.Records == 0 && x.MissingSets == 0
}

// LossShare is the part of what it sent that did not come, from 0 to 1.
func (x *Exporter) LossShare() float64 {
	got := x.Records
	if x.Unit == decode.Datagrams {
		got = x.Datagrams
	}
	if x.Lost == 0 {
		return 0
	}
	return float64(x.Lost) / float64(x.Lost+got)
}

// Session is one transport session of an exporter.
type Session struct {
	Key    Key
	LastNS int64
}

// Reject is a count of problems under one reason.
type Reject struct {
	Reason string
	N      uint64
}

const sessionsShown = 8

// Stats are the table's own figures.
type Stats struct {
	Sessions  int
	Evicted   uint64 // sessions forgotten to make room
	Exporters int
	Forgotten uint64 // exporters' accounts forgotten to make room
	HeldBytes int    // templates, and data that waits for them
}

// Stats returns the table's figures.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{Sessions: len(t.sessions), Evicted: t.evicted, Exporters: len(t.exporters), Forgotten: t.forgotten, HeldBytes: t.held}
}

// Exporters returns the state of every exporter at nowNS, in the order of address, protocol and domain. Domain 0 is left out where an exporting
// process only describes itself there, without loss or mistake: it is no exporter beside those of its records.
func (t *Table) Exporters(nowNS int64) []Exporter {
	t.mu.Lock()
	all := t.list()
	t.mu.Unlock()
	out := make([]Exporter, len(all))
	for i, e := range all {
		out[i] = e.read(nowNS, t.cfg.SilentAfter)
	}
	slices.SortFunc(out, func(a, b Exporter) int {
		return cmp.Or(slices.Compare(a.Address[:], b.Address[:]), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Domain, b.Domain))
	})
	return withoutProcesses(out)
}

// withoutProcesses leaves out the domains that ForProcess tells, where another domain of the same address follows.
func withoutProcesses(list []Exporter) []Exporter {
	out := list[:0]
	for i, x := range list {
		follows := i+1 < len(list) && list[i+1].Address == x.Address && list[i+1].Protocol == x.Protocol
		if !follows || !x.ForProcess() || x.Errors > 0 || x.Lost > 0 || x.Shed > 0 || x.NotSent > 0 {
			out = append(out, x)
		}
	}
	return out
}

func (e *exporter) read(nowNS int64, silentAfter time.Duration) Exporter {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.stats
	x.Sessions = slices.Clone(x.Sessions)
	x.Silent = nowNS-x.LastNS >= int64(silentAfter)
	x.RecordsPerSecond = e.rate.read()
	x.Unknown, x.Feeds = slices.Clone(e.fields.unknown), e.fields.feeds(x.Protocol)
	x.SkewNS, x.Skewed = e.clock.read()
	for r, n := range e.problems {
		if n > 0 {
			x.Rejects = append(x.Rejects, Reject{flowproto.Reason(r).String(), n})
		}
	}
	return x
}
