package flowproto

import (
	"errors"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/flowproto/netflow5"
	"crosstap/internal/flowproto/netflow9"
	"crosstap/internal/flowproto/sflow"
)

// protocol is the decoder of one protocol in a session.
type protocol interface {
	Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, Result, error)
	Walk(b []byte, recvNS int64, visit func(*Item)) (Result, error)
	OnOption(f func(Option))
	Templates() int
	DomainTemplates(domain uint32) int
	Fields() int
	Pending() (sets, bytes int)
	AppendTemplates(b []byte) []byte
	Forget()
}

// Session is the decoding state of one transport session: templates, sets that wait for one, sequence numbers. An exporter
// that speaks several protocols from one port has a state for each. One goroutine at a time.
type Session struct {
	lim       Limits
	protocols [Unknown]protocol
	onOption  func(Option)

	onCounters func(*Counters)
}

// NewSession returns a session without templates.
func NewSession(l Limits) *Session { return &Session{lim: l} }

// of returns the decoder for a protocol, nil when there is none.
func (s *Session) of(p Protocol) protocol {
	if p >= Unknown {
		return nil
	}
	if s.protocols[p] != nil {
		return s.protocols[p]
	}
	var d protocol
	switch p {
	case IPFIX:
		d = ipfix.NewSession(s.lim)
	case NetFlow9:
		d = netflow9.NewSession(s.lim)
	case SFlow:
		x := sflow.NewSession(s.lim)
		x.OnCounters(s.onCounters)
		d = x
	case NetFlow1, NetFlow5, NetFlow6, NetFlow7:
		d = netflow5.NewSession(s.lim)
	default:
		return nil
	}
	d.OnOption(s.onOption)
	s.protocols[p] = d
	return d
}

// Decode decodes a datagram, or messages back to back, and appends their flow records to recs. recvNS is the time of
// receipt. Records that waited for a template which now came are appended too. The error is of type *Error and tells the
// first problem; what could be decoded is returned all the same, and Result.Problems counts every problem.
// Nothing of b is kept but by copy. A record's Exporter is filled only from an element of the record
// itself.
func (s *Session) Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, Result, error) {
	d := s.of(Detect(b))
	if d == nil {
		res, err := refuse(b)
		return recs, res, err
	}
	return d.Decode(b, recvNS, recs)
}

// Walk decodes as Decode does, but shows every template and every record, options and counters too, to visit instead of
// making flow records.
func (s *Session) Walk(b []byte, recvNS int64, visit func(*Item)) (Result, error) {
	d := s.of(Detect(b))
	if d == nil {
		return refuse(b)
	}
	return d.Walk(b, recvNS, visit)
}

func refuse(b []byte) (res Result, err error) {
	e := notOurs(b)
	res.Protocol = e.Protocol
	res.Problems[e.Reason]++
	return res, e
}

// OnOption makes Decode show every option record of NetFlow v9 and IPFIX to f: sampling rates, names of interfaces and
// applications.
func (s *Session) OnOption(f func(Option)) {
	s.onOption = f
	for _, d := range s.protocols {
		if d != nil {
			d.OnOption(f)
		}
	}
}

// OnCounters makes Decode show every counter sample of sFlow to f.
func (s *Session) OnCounters(f func(*Counters)) {
	s.onCounters = f
	if d, ok := s.protocols[SFlow].(*sflow.Session); ok {
		d.OnCounters(f)
	}
}

// Templates returns the number of templates known.
func (s *Session) Templates() (n int) {
	for _, d := range s.protocols {
		if d != nil {
			n += d.Templates()
		}
	}
	return n
}

// DomainTemplates returns the number of templates known of one observation domain.
func (s *Session) DomainTemplates(domain uint32) (n int) {
	for _, d := range s.protocols {
		if d != nil {
			n += d.DomainTemplates(domain)
		}
	}
	return n
}

// Fields returns the number of field specifiers of all templates known: what they cost.
func (s *Session) Fields() (n int) {
	for _, d := range s.protocols {
		if d != nil {
			n += d.Fields()
		}
	}
	return n
}

// Pending returns the number of data sets that wait for their template, and their bytes.
func (s *Session) Pending() (sets, bytes int) {
	for _, d := range s.protocols {
		if d != nil {
			n, size := d.Pending()
			sets, bytes = sets+n, bytes+size
		}
	}
	return sets, bytes
}

// AppendTemplates appends messages that define every template of the session to b: what Restore reads.
func (s *Session) AppendTemplates(b []byte) []byte {
	for _, d := range s.protocols {
		if d != nil {
			b = d.AppendTemplates(b)
		}
	}
	return b
}

// Restore takes in the templates that AppendTemplates wrote. A new session does so before its first Decode. The
// messages count in no sequence.
func (s *Session) Restore(b []byte, recvNS int64) (Result, error) {
	var sum Result
	var errs error
	for len(b) > 0 {
		n := savedLen(b)
		_, res, err := s.Decode(b[:n], recvNS, nil)
		sum.Protocol = res.Protocol
		sum.Messages += res.Messages
		sum.Templates += res.Templates
		for i, n := range res.Problems {
			sum.Problems[i] += n
		}
		errs, b = errors.Join(errs, err), b[n:]
	}
	for _, d := range s.protocols {
		if d != nil {
			d.Forget()
		}
	}
	return sum, errs
}

// savedLen returns the length of the message at the start of what AppendTemplates wrote.
func savedLen(b []byte) int {
	switch Detect(b) {
	case NetFlow9:
		return netflow9.SavedLen(b)
	case IPFIX:
		if h, err := ipfix.ParseHeader(b); err == nil {
			return h.Length
		}
	}
	return len(b)
}
