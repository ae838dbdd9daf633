package ipfix

import (
	"bytes"
	"encoding/binary"
)

// sets walks the sets of a message.
func (s *Session) sets(h Header, b []byte) {
	for off := HeaderLen; off < len(b); {
		left := len(b) - off
		if left < setHdrLen {
			if !allZero(b[off:]) {
				s.badSet(0, off, setHdrLen, left)
			}
			return
		}
		id, size := binary.BigEndian.Uint16(b[off:]), int(binary.BigEndian.Uint16(b[off+2:]))
		if size < setHdrLen || size > left {
			s.badSet(id, off, size, left)
			return
		}
		s.set(h, id, off, b[off+setHdrLen:off+size])
		off += size
	}
}

func (s *Session) badSet(id uint16, off, size, left int) {
	s.problem(BadSet, id, off, size, left)
	s.counted = false
}

func (s *Session) set(h Header, id uint16, off int, body []byte) {
	switch {
	case id == setTemplate, id == setOptionsTemplate:
		s.templateSet(h, off, body, id == setOptionsTemplate)
	case id < minDataSet:
		s.problem(UnknownSet, id, off, 0, 0)
		s.counted = false
	default:
		s.dataSet(h, id, off, body)
	}
}

// templateSet takes in the template records of a set.
func (s *Session) templateSet(h Header, off int, body []byte, options bool) {
	for at := off + setHdrLen; len(body) >= 4; {
		r, need, ok := nextTemplate(body, options)
		if !ok || r.id < minDataSet && !r.withdrawal() {
			if !allZero(body) {
				s.problem(BadTemplate, r.id, at, need, len(body))
			}
			return
		}
		switch {
		case !r.withdrawal():
			s.define(h, r, at, options)
		case r.id >= minDataSet || r.id == setTemplate || r.id == setOptionsTemplate:
			s.withdraw(h, r.id, options)
		case allZero(body):
			return // padding
		default:
			s.problem(BadTemplate, r.id, at, 0, len(body))
			return
		}
		body, at = body[r.size:], at+r.size
	}
}

// define takes in one template. The same definition again only refreshes it.
func (s *Session) define(h Header, r templateRecord, off int, options bool) {
	s.res.Templates++
	k := tkey{h.Domain, r.id}
	old := s.templates[k]
	if old != nil && old.options == options && old.Scope == int(r.scope) && bytes.Equal(old.def, r.def) {
		old.usedNS = s.recvNS
		s.showTemplate(h, old)
		return
	}
	t := newTemplate(h.Domain, r, options)
	if t == nil {
		s.problem(BadTemplate, r.id, off, 1, 0)
		return
	}
	if old != nil {
		s.res.Redefined++
		s.forget(k, old)
	}
	for len(s.templates) > 0 && (len(s.templates) >= s.lim.Templates || s.fields+len(t.Fields) > s.lim.Fields) {
		s.forgetOldest(r.id, off)
	}
	t.usedNS = s.recvNS
	s.templates[k], s.last = t, nil
	s.fields += len(t.Fields)
	s.res.UnknownFields += t.unknown
	s.showTemplate(h, t)
	s.retry(t)
}

// forgetOldest makes room for a template: it forgets the oldest of a few that the map's random order shows
// first, so that a flood of templates costs no more than its bytes.
func (s *Session) forgetOldest(id uint16, off int) {
	const few = 16
	var oldest tkey
	var found *Template
	n := 0
	for k, t := range s.templates {
		if found == nil || t.usedNS < found.usedNS {
			oldest, found = k, t
		}
		if n++; n == few {
			break
		}
	}
	s.forget(oldest, found)
	s.problem(TemplateLimit, id, off, 0, 0)
}

func (s *Session) forget(k tkey, t *Template) {
	delete(s.templates, k)
	s.fields -= len(t.Fields)
}

// withdraw takes back one template, or all of a kind when the identifier is that of their set (RFC 7011, section
// 8.1).
func (s *Session) withdraw(h Header, id uint16, options bool) {
	s.res.Withdrawals++
	s.last = nil
	if k := (tkey{h.Domain, id}); id >= minDataSet {
		if t := s.templates[k]; t != nil {
			s.forget(k, t)
		}
	} else {
		for k, t := range s.templates {
			if k.domain == h.Domain && t.options == (id == setOptionsTemplate) {
				s.forget(k, t)
			}
		}
	}
	s.showWithdrawal(h, id, options)
}

// find returns a template of the domain itself.
func (s *Session) find(domain uint32, id uint16) *Template {
	if t := s.last; t != nil && t.ID == id && t.Domain == domain {
		return t
	}
	t := s.templates[tkey{domain, id}]
	if t != nil {
		s.last = t
	}
	return t
}

// dataSet decodes a data set now, or keeps it for when its template comes.
func (s *Session) dataSet(h Header, id uint16, off int, body []byte) {
	m := meta{domain: h.Domain, exportNS: h.ExportTime.UnixNano(), recvNS: s.recvNS, sequence: h.Sequence, off: off}
	t := s.find(h.Domain, id)
	if t == nil {
		if t = s.borrow(id, body); t == nil {
			s.res.MissingSets++
			s.counted = false
			if len(body) > 0 {
				s.wait(m, id, body)
			}
			return
		}
		m.borrowed = true
	}
	s.records(t, m, body)
}

// borrow looks for a template of the same identifier in the session's other domains. Open vSwitch up
// to 3.1 sends each template in one domain only and uses it in all. It must fit to the byte, and
// the other domains must agree on it.
func (s *Session) borrow(id uint16, body []byte) *Template {
	if t := s.agreed(id); t != nil && t.fits(body) {
		return t
	}
	return nil
}

// scansPerCall bounds how often one datagram makes us look through all templates.
const scansPerCall = 64

// agreed returns the template of an identifier when every domain that has one has the same. It is for domains that
// have none.
func (s *Session) agreed(id uint16) (found *Template) {
	if s.scans++; s.scans > scansPerCall {
		return nil
	}
	for k, t := range s.templates {
		switch {
		case k.id != id:
		case found != nil && (found.options != t.options || !bytes.Equal(found.def, t.def)):
			return nil
		default:
			found = t
		}
	}
	return found
}
