package netflow9

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// Session is the decoding state of one transport session: its templates, the sets that wait for one, and its sequence
// numbers. One goroutine at a time.
type Session struct{ *decode.Decoder }

// NewSession returns a session without templates.
func NewSession(l decode.Limits) *Session { return &Session{decode.NewDecoder(l, parseFields)} }

// Decode decodes one datagram and appends its flow records to recs. recvNS is the time of receipt. Records that
// waited for a template which now came are appended too. The error is of type *decode.Error and tells the first
// problem; what could be decoded is returned all the same.
func (s *Session) Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, decode.Result, error) {
	s.Begin(recvNS, recs, nil)
	s.datagram(b)
	return s.End()
}

// Walk decodes as Decode does, but shows every template and every record, options too, to visit instead of making flow
// records.
func (s *Session) Walk(b []byte, recvNS int64, visit func(*decode.Item)) (decode.Result, error) {
	s.Begin(recvNS, nil, visit)
	s.datagram(b)
	_, res, err := s.End()
	return res, err
}

func (s *Session) datagram(b []byte) {
	h, err := ParseHeader(b)
	if err != nil {
		s.Reject(err.(*decode.Error))
		return
	}
	s.Open(decode.Message{
		Protocol: decode.NetFlow9, Domain: h.Source, Sequence: h.Sequence, ExportNS: h.ExportTime.UnixNano(),
		Uptime: true, UptimeMS: h.UptimeMS,
	})
	d := s.Domain(h.Source)
	s.sets(h, b)
	s.account(h, d)
}

// account follows the sequence number. It counts datagrams of the source (RFC 3954, section 5.1); there are exporters that
// count them over all sources, and others that count flow records as version 5 did.
func (s *Session) account(h Header, d *decode.Domain) {
	flows, _ := s.Counts()
	s.Account(
		decode.Step{Line: &d.Line, At: h.Sequence, N: 1, Counted: true, Unit: decode.Datagrams},
		decode.Step{Line: s.Decoder.Session(), At: h.Sequence, N: 1, Counted: true, Unit: decode.Datagrams},
		decode.Step{Line: &d.Other, At: h.Sequence, N: uint32(flows), Counted: s.Counted(), Unit: decode.Flows},
	)
}

// sets walks the flow sets of a datagram. The header's count is of records (RFC 3954, section 5.1), or of flow sets as some
// exporters have it. There is a record in every set, so that sets beyond the count are wrong by either: they are
// refused, as others do.
func (s *Session) sets(h Header, b []byte) {
	n := 0
	for off := HeaderLen; off < len(b); n++ {
		left := len(b) - off
		if left < flowSetHeader || decode.AllZero(b[off:]) {
			if !decode.AllZero(b[off:]) {
				s.Refuse(decode.BadSet, 0, off, flowSetHeader, left)
			}
			return
		}
		id, size := binary.BigEndian.Uint16(b[off:]), int(binary.BigEndian.Uint16(b[off+2:]))
		if size < flowSetHeader || size > left {
			s.Refuse(decode.BadSet, id, off, size, left)
			return
		}
		if h.Count > 0 && n >= h.Count {
			s.Refuse(decode.BadCount, id, off, len(b), off)
			return
		}
		s.set(id, off, b[off+flowSetHeader:off+size])
		off += size
	}
}

func (s *Session) set(id uint16, off int, body []byte) {
	switch {
	case id == setTemplates:
		s.templates(off, body, nextTemplate)
	case id == setOptions:
		s.templates(off, body, nextOptions)
	case id < decode.FirstDataSet:
		s.Refuse(decode.UnknownSet, id, off, 0, 0)
	default:
		s.Data(id, off, body)
	}
}

// templates takes in the template records of a flow set.
func (s *Session) templates(off int, body []byte, next func([]byte) (decode.Spec, int, bool)) {
	for at := off + flowSetHeader; len(body) >= 4; {
		r, size, ok := next(body)
		if !ok || r.ID < decode.FirstDataSet || r.Count == 0 {
			if !decode.AllZero(body) {
				s.Problem(decode.BadTemplate, r.ID, at, size, len(body))
			}
			return
		}
		s.Define(r, at)
		body, at = body[size:], at+size
	}
}

const specifier = 4 // bytes: type and length

// nextTemplate cuts the first template record out of b, RFC 3954, section 5.2. It returns false when b does not hold a
// whole one; size is the number of bytes that it takes.
func nextTemplate(b []byte) (r decode.Spec, size int, ok bool) {
	r = decode.Spec{ID: binary.BigEndian.Uint16(b), Count: int(binary.BigEndian.Uint16(b[2:]))}
	size = 4 + r.Count*specifier
	if size > len(b) {
		return r, size, false
	}
	r.Def = b[4:size]
	return r, size, true
}

// nextOptions does so for an options template record, section 6.1: its header tells bytes, not fields.
func nextOptions(b []byte) (r decode.Spec, size int, ok bool) {
	if len(b) < 6 {
		return r, 6, false
	}
	r = decode.Spec{ID: binary.BigEndian.Uint16(b), Options: true}
	scope, fields := int(binary.BigEndian.Uint16(b[2:])), int(binary.BigEndian.Uint16(b[4:]))
	size = 6 + scope + fields
	if size > len(b) || scope%specifier != 0 || fields%specifier != 0 {
		return r, size, false
	}
	r.Scope, r.Count, r.Def = scope/specifier, (scope+fields)/specifier, b[6:size]
	return r, size, true
}
