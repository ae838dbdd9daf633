package export

import (
	"time"

	"crosstap/internal/flowproto/about"
)

// Status is the state of one collector.
type Status struct {
	Target     string // URL
	Local      string // address of the socket, "" when there is none
	Peer       string // name in the collector's certificate, over TLS
	MaxMessage int    // bytes of the largest message sent
	Messages   uint64
	Bytes      uint64 // of messages, without the headers of the transport
	Templates  uint64 // times that all templates were sent
	Refused    uint64 // messages after which the collector's host said that nobody listens
	TooBig     uint64 // times the path turned out narrower than thought
	Failed     uint64 // messages that the system did not take
	Omitted    uint64 // records whose VTEPs could not be told
	LastError  string
	LastErrAt  time.Time
	Recovered  time.Time // when messages went well again after it; zero before

	// connections
	Connected     bool
	Connections   uint64 // made so far
	Repeated      uint64 // records sent again because a connection broke before they were acknowledged
	Waiting       int    // messages in memory that the collector has not acknowledged
	SpoolMessages uint64 // on the disk
	SpoolBytes    int64
	SpoolRecords  uint64
}

// recover notes that what went wrong does so no longer.
func (st *Status) recover() {
	if st.LastError != "" && st.Recovered.IsZero() {
		st.Recovered = time.Now()
	}
}

// interval makes differences of the stages' accounts from one time they are told to the next.
type interval struct {
	at     time.Time
	stages map[string]about.Stage
}

// fill writes the interval and its differences into x.
func (v *interval) fill(x *about.Exporter, now time.Time) {
	if v.stages == nil {
		v.at, v.stages = now, make(map[string]about.Stage)
	}
	x.From, x.To = v.at, now
	for i := range x.Stages {
		s := &x.Stages[i]
		old := v.stages[s.Name]
		s.InDelta = s.In - old.In
		for j := range s.Dropped {
			d := &s.Dropped[j]
			d.Delta = d.Total - total(old, d.Reason)
			s.DropDelta += d.Delta
		}
		v.stages[s.Name] = *s
	}
	v.at = now
}

func total(s about.Stage, reason string) uint64 {
	for _, d := range s.Dropped {
		if d.Reason == reason {
			return d.Total
		}
	}
	return 0
}
