package ipfix

import (
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// What all protocols' decoders share, under the names that this package's users know.
type (
	Limits   = decode.Limits
	Result   = decode.Result
	Reason   = decode.Reason
	Error    = decode.Error
	Field    = decode.Field
	Template = decode.Template
	Item     = decode.Item
	Value    = decode.Value
)

// Session is the decoding state of one transport session: its templates, the sets that wait for
// one, and its sequence numbers. One goroutine at a time.
type Session struct{ *decode.Decoder }

// NewSession returns a session without templates.
func NewSession(l Limits) *Session { return &Session{decode.NewDecoder(l, parseFields)} }

// Decode decodes the message in b and any that follow it back to back, and appends their flow records to recs.
// recvNS is the time of receipt. Records that waited for a template which now came are appended too.
// The error is of type *Error and tells the first problem; what could be decoded is returned all the
// same, and Result.Problems counts every problem. Nothing of b is kept but by copy. A record's
// Exporter is filled only from an element of the record itself.
func (s *Session) Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, Result, error) {
	s.Begin(recvNS, recs, nil)
	s.messages(b)
	return s.End()
}

// Walk decodes as Decode does, but shows every template and every record, options too, to visit instead of
// making flow records.
func (s *Session) Walk(b []byte, recvNS int64, visit func(*Item)) (Result, error) {
	s.Begin(recvNS, nil, visit)
	s.messages(b)
	_, res, err := s.End()
	return res, err
}

func (s *Session) messages(b []byte) {
	for first := true; len(b) > 0; first = false {
		h, err := ParseHeader(b)
		if err != nil {
			if !first && decode.AllZero(b) {
				return // padding of a file or a short Ethernet frame
			}
			s.Reject(err.(*Error))
			return
		}
		s.message(h, b[:h.Length])
		b = b[h.Length:]
	}
}

func (s *Session) message(h Header, b []byte) {
	s.Open(decode.Message{
		Protocol: decode.IPFIX, Domain: h.Domain, Sequence: h.Sequence, ExportNS: h.ExportTime.UnixNano(),
	})
	d := s.Domain(h.Domain)
	s.sets(b)
	s.account(h, d)
}

// account follows the sequence number. It is the count of data records sent before the message, in its observation domain (RFC
// 7011, section 3.1); Open vSwitch counts over all domains, and softflowd's number has the message's own
// flow records in it already.
func (s *Session) account(h Header, d *decode.Domain) {
	flows, options := s.Counts()
	all, own, counted := uint32(flows+options), uint32(flows), s.Counted()
	s.Account(
		decode.Step{Line: &d.Line, At: h.Sequence, N: all, Counted: counted},
		decode.Step{Line: s.Decoder.Session(), At: h.Sequence, N: all, Counted: counted},
		decode.Step{Line: &d.Other, At: h.Sequence - own, N: own, Counted: counted},
	)
}

// Names that the encoder shares with the decoder.
const (
	tunnelGRE = decode.TunnelGRE
	maxName   = decode.MaxName

	certReverse = decode.CERTReverse
)
