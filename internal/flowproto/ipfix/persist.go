package ipfix

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// DomainTemplates returns the number of templates known of one observation domain.
func (s *Session) DomainTemplates(domain uint32) int {
	n := 0
	for k := range s.templates {
		if k.domain == domain {
			n++
		}
	}
	return n
}

// AppendTemplates appends messages that define every template of the session to b, in the order of domain
// and identifier. They are well-formed IPFIX messages with sequence number 0, so that what is kept of a session is
// itself a file that any IPFIX reader understands (RFC 5655).
func (s *Session) AppendTemplates(b []byte) []byte {
	all := make([]*Template, 0, len(s.templates))
	for _, t := range s.templates {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Template) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.ID, b.ID))
	})
	for _, t := range all {
		b = t.appendMessage(b)
	}
	return b
}

// appendMessage appends a message with the template alone.
func (t *Template) appendMessage(b []byte) []byte {
	set, fixed := uint16(setTemplate), 4
	if t.options {
		set, fixed = setOptionsTemplate, 6
	}
	size := HeaderLen + setHdrLen + fixed + len(t.def)
	head := make([]byte, HeaderLen)
	Header{Length: size, ExportTime: time.Unix(0, t.usedNS), Domain: t.Domain}.put(head)
	b = append(b, head...)
	b = binary.BigEndian.AppendUint16(b, set)
	b = binary.BigEndian.AppendUint16(b, uint16(size-HeaderLen))
	b = binary.BigEndian.AppendUint16(b, t.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Fields)))
	if t.options {
		b = binary.BigEndian.AppendUint16(b, uint16(t.Scope))
	}
	return append(b, t.def...)
}

// Restore takes in the templates of messages that AppendTemplates made. A new session does so before its
// first Decode. The messages count in no sequence; data sets in them wait or are decoded as ever, but
// their records are thrown away.
func (s *Session) Restore(b []byte, recvNS int64) (Result, error) {
	_, res, err := s.Decode(b, recvNS, nil)
	s.seq = sequencer{}
	clear(s.domains)
	return res, err
}
