package decode

import (
	"bytes"
	"cmp"
	"slices"
)

// FirstDataSet is where the set identifiers that are template identifiers begin, in NetFlow v9 and IPFIX.
const FirstDataSet = 256

// setHeader is the length of a set's header, in NetFlow v9 and IPFIX.
const setHeader = 4

// Spec is a template record cut out of its set, not yet compiled. It borrows the message's bytes.
type Spec struct {
	ID      uint16
	Scope   int    // leading fields that are the scope, of an options template
	Count   int    // fields
	Def     []byte // the field specifiers
	Options bool
}

// Define takes in one template of the open message; off is its offset. The same definition again only refreshes it.
func (s *Decoder) Define(r Spec, off int) {
	s.res.Templates++
	k := tkey{s.msg.Domain, r.ID}
	old := s.templates[k]
	if old != nil && old.options == r.Options && old.Scope == r.Scope && bytes.Equal(old.def, r.Def) {
		old.usedNS = s.recvNS
		s.showTemplate(old)
		return
	}
	t := s.compile(r)
	if t == nil {
		s.Problem(BadTemplate, r.ID, off, 1, 0)
		return
	}
	if old != nil {
		s.res.Redefined++
		s.forget(k, old)
	}
	for len(s.templates) > 0 && (len(s.templates) >= s.lim.Templates || s.fields+len(t.Fields) > s.lim.Fields) {
		s.forgetOldest(r.ID, off)
	}
	t.usedNS = s.recvNS
	s.templates[k], s.last = t, nil
	s.fields += len(t.Fields)
	s.res.UnknownFields += t.unknown
	s.showTemplate(t)
	s.retry(t)
}

// compile makes the template of a record in a message.
func (s *Decoder) compile(r Spec) *Template {
	def := bytes.Clone(r.Def)
	fields := s.parse(make([]Field, 0, r.Count), def, r.Scope)
	t := New(s.msg.Protocol, s.msg.Domain, r.ID, fields, r.Scope, r.Options)
	if t != nil {
		t.def = def
	}
	return t
}

// forgetOldest makes room for a template: it forgets the oldest of a few that the map's random order shows
// first, so that a flood of templates costs no more than its bytes.
func (s *Decoder) forgetOldest(id uint16, off int) {
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
	s.Problem(TemplateLimit, id, off, 0, 0)
}

func (s *Decoder) forget(k tkey, t *Template) {
	delete(s.templates, k)
	s.fields -= len(t.Fields)
}

// Withdraw takes back one template of the open message's domain.
func (s *Decoder) Withdraw(id uint16) {
	s.res.Withdrawals++
	s.last = nil
	k := tkey{s.msg.Domain, id}
	if t := s.templates[k]; t != nil {
		s.forget(k, t)
	}
	s.showWithdrawal(id)
}

// WithdrawAll takes back all templates, or all options templates, of the open message's domain. id is the number under which
// it is shown.
func (s *Decoder) WithdrawAll(id uint16, options bool) {
	s.res.Withdrawals++
	s.last = nil
	for k, t := range s.templates {
		if k.domain == s.msg.Domain && t.options == options {
			s.forget(k, t)
		}
	}
	s.showWithdrawal(id)
}

// Find returns a template of the domain itself, nil when it is not known.
func (s *Decoder) Find(domain uint32, id uint16) *Template {
	if t := s.last; t != nil && t.ID == id && t.Domain == domain {
		return t
	}
	t := s.templates[tkey{domain, id}]
	if t != nil {
		s.last = t
	}
	return t
}

// Data decodes a data set of the open message now, or keeps it for when its template comes.
func (s *Decoder) Data(id uint16, off int, body []byte) {
	m := meta{Message: s.msg, recvNS: s.recvNS, off: off}
	t := s.Find(s.msg.Domain, id)
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

// Rows decodes records of the open message whose layout is known beforehand; off is where they begin.
func (s *Decoder) Rows(t *Template, off int, body []byte) {
	s.records(t, meta{Message: s.msg, recvNS: s.recvNS, off: off - setHeader}, body)
}

// borrow looks for a template of the same identifier in the session's other domains. Open vSwitch up
// to 3.1 sends each template in one domain only and uses it in all. It must fit to the byte, and
// the other domains must agree on it.
func (s *Decoder) borrow(id uint16, body []byte) *Template {
	if t := s.agreed(id); t != nil && t.fits(body) {
		return t
	}
	return s.lent(id, body)
}

// scansPerCall bounds how often one datagram makes us look through all templates.
const scansPerCall = 64

// agreed returns the template of an identifier when every domain that has one has the same. It is for domains that
// have none.
func (s *Decoder) agreed(id uint16) (found *Template) {
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

// DomainTemplates returns the number of templates known of one observation domain.
func (s *Decoder) DomainTemplates(domain uint32) int {
	n := 0
	for k := range s.templates {
		if k.domain == domain {
			n++
		}
	}
	return n
}

// All returns every template, in the order of domain and identifier.
func (s *Decoder) All() []*Template {
	all := make([]*Template, 0, len(s.templates))
	for _, t := range s.templates {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Template) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.ID, b.ID))
	})
	return all
}
