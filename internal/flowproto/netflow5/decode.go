package netflow5

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// layout is one of the formats that have neither templates nor variable lengths: a header with a count, then records.
type layout struct {
	protocol  decode.Protocol
	headerLen int
	recordLen int
	engine    bool // the header has engine and sampling
	sequence  bool // the header has a sequence number
	record    *decode.Template
}

// The records of version 1, 5, 6 and 7 differ in a few bytes only. Elements are IANA's; what has no element is padding (210).
var (
	addresses = []decode.Field{{ID: 8, Len: 4}, {ID: 12, Len: 4}, {ID: 15, Len: 4}, {ID: 10, Len: 2}, {ID: 14, Len: 2}}
	counters  = []decode.Field{{ID: 2, Len: 4}, {ID: 1, Len: 4}, {ID: 22, Len: 4}, {ID: 21, Len: 4}, {ID: 7, Len: 2}, {ID: 11, Len: 2}}
	transport = []decode.Field{{ID: 210, Len: 1}, {ID: 6, Len: 1}, {ID: 4, Len: 1}, {ID: 5, Len: 1}, {ID: 16, Len: 2}, {ID: 17, Len: 2}, {ID: 9, Len: 1}, {ID: 13, Len: 1}}

	layouts = map[decode.Protocol]*layout{
		decode.NetFlow1: newLayout(decode.NetFlow1, 16, addresses, counters,
			[]decode.Field{{ID: 210, Len: 2}, {ID: 4, Len: 1}, {ID: 5, Len: 1}, {ID: 6, Len: 1}, {ID: 210, Len: 11}}),
		decode.NetFlow5: newLayout(decode.NetFlow5, HeaderLen, addresses, counters, transport, []decode.Field{{ID: 210, Len: 2}}),
		// version 6 adds the sizes of the encapsulations and the next router's own address
		decode.NetFlow6: newLayout(decode.NetFlow6, HeaderLen, addresses, counters, transport, []decode.Field{{ID: 210, Len: 6}}),
		// version 7 adds flags that say which fields hold, and the router that the switch cut short
		decode.NetFlow7: newLayout(decode.NetFlow7, HeaderLen, addresses, counters, transport, []decode.Field{{ID: 210, Len: 6}}),
	}
)

func newLayout(p decode.Protocol, headerLen int, parts ...[]decode.Field) *layout {
	var fields []decode.Field
	for _, part := range parts {
		fields = append(fields, part...)
	}
	t := decode.New(p, 0, 0, fields, 0, false)
	return &layout{
		protocol: p, headerLen: headerLen, recordLen: t.MinLen(), record: t,
		engine: p == decode.NetFlow5 || p == decode.NetFlow6, sequence: p != decode.NetFlow1,
	}
}

// Info is what the header of a datagram of version 1, 5, 6 or 7 says.
type Info struct {
	Protocol   decode.Protocol
	Count      int
	UptimeMS   uint32
	ExportTime time.Time
	Sequence   uint32 // 0 in version 1, which has none
	Domain     uint32 // engine type<<8 | engine id; 0 in versions 1 and 7
	Sampling   uint32 // one packet in so many; 0 when not said
	Len        int    // of the datagram, as the count says
}

// ParseInfo reads the header of the datagram in b. It fails when b is not of these versions or holds less than the count
// says; the error is of type *decode.Error.
func ParseInfo(b []byte) (Info, error) {
	l := layouts[decode.Detect(b)]
	if l == nil {
		return Info{}, &decode.Error{Protocol: decode.NetFlow5, Reason: decode.BadVersion, Need: Version, Have: version(b)}
	}
	if len(b) < l.headerLen {
		return Info{}, &decode.Error{Protocol: l.protocol, Reason: decode.ShortMessage, Need: l.headerLen, Have: len(b)}
	}
	i := Info{
		Protocol: l.protocol, Count: int(binary.BigEndian.Uint16(b[2:])), UptimeMS: binary.BigEndian.Uint32(b[4:]),
		ExportTime: time.Unix(int64(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint32(b[12:]))).UTC(),
	}
	i.Len = l.headerLen + i.Count*l.recordLen
	if l.sequence {
		i.Sequence = binary.BigEndian.Uint32(b[16:])
	}
	if l.engine {
		i.Domain, i.Sampling = uint32(binary.BigEndian.Uint16(b[20:])), uint32(binary.BigEndian.Uint16(b[22:])&MaxSamplingInterval)
	}
	if i.Len > len(b) {
		return i, &decode.Error{Protocol: l.protocol, Reason: decode.BadCount, Need: i.Len, Have: len(b)}
	}
	return i, nil
}

func version(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(b))
}

// Session is the decoding state of one transport session: sequence numbers alone. One goroutine at a time.
type Session struct{ *decode.Decoder }

// NewSession returns a new session for versions 1, 5, 6 and 7.
func NewSession(l decode.Limits) *Session { return &Session{decode.NewDecoder(l, nil)} }

// AppendTemplates appends nothing: there are no templates.
func (s *Session) AppendTemplates(b []byte) []byte { return b }

// Decode decodes the datagram in b, and any that follow it back to back, and appends their flow records to recs. A datagram whose
// length is not what its count says gives no record. The error is of type *decode.Error.
func (s *Session) Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, decode.Result, error) {
	s.Begin(recvNS, recs, nil)
	s.datagrams(b)
	return s.End()
}

// Walk decodes as Decode does, but shows every record to visit instead of making flow records.
func (s *Session) Walk(b []byte, recvNS int64, visit func(*decode.Item)) (decode.Result, error) {
	s.Begin(recvNS, nil, visit)
	s.datagrams(b)
	_, res, err := s.End()
	return res, err
}

// datagrams decodes nothing before the lengths of all of b are known to be right.
func (s *Session) datagrams(b []byte) {
	n := 0
	for rest := b; len(rest) > 0; n++ {
		i, err := ParseInfo(rest)
		switch {
		case err == nil:
			rest = rest[i.Len:]
			continue
		case n > 0 && decode.AllZero(rest): // padding
		case n > 0: // the first count says less than there is
			s.Reject(&decode.Error{Protocol: decode.Detect(b), Reason: decode.BadCount, Need: len(b) - len(rest), Have: len(b)})
			return
		default:
			s.Reject(err.(*decode.Error))
			return
		}
		break
	}
	for ; n > 0; n-- {
		i, _ := ParseInfo(b) // it was right above
		s.datagram(i, b[:i.Len])
		b = b[i.Len:]
	}
}

func (s *Session) datagram(i Info, b []byte) {
	s.Open(decode.Message{
		Protocol: i.Protocol, Domain: i.Domain, Sequence: i.Sequence, ExportNS: i.ExportTime.UnixNano(),
		Uptime: true, UptimeMS: i.UptimeMS, Sampling: i.Sampling,
	})
	l := layouts[i.Protocol]
	d := s.Domain(i.Domain)
	if i.Count > 0 {
		s.Rows(l.record, l.headerLen, b[l.headerLen:])
	}
	if l.sequence {
		s.account(i, d)
	}
}

// account follows the sequence number: flows sent before by the engine. Some exporters count over all engines; Open vSwitch
// sends the number of the datagram's last record.
func (s *Session) account(i Info, d *decode.Domain) {
	n := uint32(i.Count)
	s.Account(
		decode.Step{Line: &d.Line, At: i.Sequence, N: n, Counted: true, Unit: decode.Flows},
		decode.Step{Line: s.Decoder.Session(), At: i.Sequence, N: n, Counted: true, Unit: decode.Flows},
		decode.Step{Line: &d.Other, At: i.Sequence - max(n, 1) + 1, N: n, Counted: true, Unit: decode.Flows},
	)
}
