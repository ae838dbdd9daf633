package ipfix

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flowproto/decode"
)

// AppendTemplates appends messages that define every template of the session to b, in the order of domain
// and identifier. They are well-formed IPFIX messages with sequence number 0, so that what is kept of a session is
// itself a file that any IPFIX reader understands (RFC 5655).
func (s *Session) AppendTemplates(b []byte) []byte {
	for _, t := range s.All() {
		b = appendTemplate(b, t)
	}
	return b
}

// appendTemplate appends a message with the template alone.
func appendTemplate(b []byte, t *decode.Template) []byte {
	set, fixed := uint16(setTemplate), 4
	if t.Options() {
		set, fixed = setOptionsTemplate, 6
	}
	size := HeaderLen + setHdrLen + fixed + len(t.Def())
	head := make([]byte, HeaderLen)
	Header{Length: size, ExportTime: time.Unix(0, t.UsedNS()), Domain: t.Domain}.put(head)
	b = append(b, head...)
	b = binary.BigEndian.AppendUint16(b, set)
	b = binary.BigEndian.AppendUint16(b, uint16(size-HeaderLen))
	b = binary.BigEndian.AppendUint16(b, t.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Fields)))
	if t.Options() {
		b = binary.BigEndian.AppendUint16(b, uint16(t.Scope))
	}
	return append(b, t.Def()...)
}

// Restore takes in the templates of messages that AppendTemplates made. A new session does so before its
// first Decode. The messages count in no sequence; data sets in them wait or are decoded as ever, but
// their records are thrown away.
func (s *Session) Restore(b []byte, recvNS int64) (Result, error) {
	_, res, err := s.Decode(b, recvNS, nil)
	s.Forget()
	return res, err
}
