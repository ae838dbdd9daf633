package decode

import (
	"slices"
	"strings"

	"crosstap/internal/flow"
)

// meta is what a data set's message says of it.
type meta struct {
	Message
	recvNS         int64
	off            int
	borrowed, late bool
}

// records decodes the records of one data set.
func (s *Decoder) records(t *Template, m meta, body []byte) {
	n := 0
	switch {
	case s.visit != nil:
		n = s.visitRecords(t, m, body)
	case t.options:
		n = s.optionRecords(t, m, body)
	default:
		n = s.flowRecords(t, m, body)
	}
	if t.options {
		s.res.OptionRecords += n
	} else {
		s.res.Records += n
		if m.borrowed {
			s.res.Borrowed += n
		}
	}
	switch {
	case m.late && t.options:
		s.late += n
	case m.late:
		s.res.LateRecords += n
	}
}

// optionRecords counts option records. Of their content only the time the exporter started is used; the rest is for
// the hook.
func (s *Decoder) optionRecords(t *Template, m meta, body []byte) (n int) {
	for len(body) >= t.minLen {
		size, ok := t.RecordLen(body)
		if !ok {
			s.cut(t, m, size, len(body))
			return n
		}
		if t.plan.after&afterUptime != 0 {
			s.learnBoot(t, m, body)
		}
		if s.onOption != nil {
			s.item = m.item(t)
			s.item.Data = body[:size:size]
			s.onOption(Option{&s.item})
		}
		body = body[size:]
		n++
	}
	return n
}

// learnBoot keeps systemInitTimeMilliseconds for the records that tell uptimes.
func (s *Decoder) learnBoot(t *Template, m meta, body []byte) {
	var r flow.Record
	c := context{extra: s.values(t)}
	t.plan.runRecord(&r, &c, body)
	if d := s.domains[m.Domain]; d != nil && c.bootNS != 0 {
		d.bootNS = c.bootNS
	}
}

func (s *Decoder) cut(t *Template, m meta, need, have int) {
	s.Refuse(BadRecord, t.ID, m.off, need, have)
}

// flowRecords runs the template's plan over a set.
func (s *Decoder) flowRecords(t *Template, m meta, body []byte) (n int) {
	marks := flow.Mark(0)
	if m.borrowed {
		marks |= flow.MarkBorrowed
	}
	if t.fixed {
		s.recs = slices.Grow(s.recs, len(body)/t.minLen)
	}
	if m.Sampling > 1 {
		marks |= flow.MarkSampled
	}
	blank := context{exportNS: m.ExportNS, bootNS: s.boot(t, m.Domain), uptime: m.Uptime, uptimeMS: m.UptimeMS, extra: s.values(t), lists: s.lists[:0]}
	s.ctx = blank
	for len(body) >= t.minLen {
		r := s.record()
		r.RecvNS, r.Domain, r.Marks, r.Direction, r.Sampling = m.recvNS, m.Domain, marks, 255, m.Sampling
		size, ok := t.plan.runRecord(r, &s.ctx, body)
		if !ok {
			s.recs = s.recs[:len(s.recs)-1]
			s.cut(t, m, size, len(body))
			return n
		}
		if !t.plan.simple {
			s.settle(t, r, m.Domain)
			if t.plan.after != 0 {
				s.ctx = blank
			}
		}
		body = body[size:]
		n++
	}
	return n
}

// record appends an empty record. It is emptied where it lies: a record is long to be copied.
func (s *Decoder) record() *flow.Record {
	n := len(s.recs)
	s.recs = slices.Grow(s.recs, 1)[:n+1]
	r := &s.recs[n]
	*r = flow.Record{}
	return r
}

// values returns the place for the values of a template's kept fields.
func (s *Decoder) values(t *Template) [][]byte {
	n := len(t.plan.extra)
	if n > cap(s.kept) {
		s.kept = make([][]byte, n)
	}
	return s.kept[:n]
}

// settle finishes a record whose fields depend on each other, and may append the other half of a biflow and the records of its
// lists.
func (s *Decoder) settle(t *Template, r *flow.Record, domain uint32) {
	at := len(s.recs) - 1
	p := &t.plan
	if p.after&afterFrame != 0 {
		s.setFrame(r)
	}
	p.settle(r, &s.ctx)
	if p.after&afterNames != 0 {
		r.Observer = s.observer(r.Direction)
	}
	if p.after&afterTwice != 0 {
		s.setTexts(r)
	}
	if p.after&afterApp != 0 {
		s.setApp(r)
	}
	if p.after&afterExtra != 0 {
		s.setExtra(p, r)
	}
	if p.after&afterLists != 0 {
		s.lists = s.ctx.lists
		s.sublists(at, domain, &s.ctx, 1)
	}
	if (p.after&(afterBiflow|afterLists)) != 0 && (s.ctx.back.packets != 0 || s.ctx.back.octets != 0) {
		s.recs = append(s.recs, flow.Record{})
		copy(s.recs[at+2:], s.recs[at+1:])
		s.recs[at+1] = s.ctx.other(&s.recs[at])
	}
}

// boot returns when the exporter started, where the template's records tell uptimes and an options record told that.
func (s *Decoder) boot(t *Template, id uint32) int64 {
	if t.plan.after&afterUptime == 0 {
		return 0
	}
	if d := s.domains[id]; d != nil {
		return d.bootNS
	}
	return 0
}

// observer names the place that saw the packets: the virtual observation point, else the port on whose side the
// record was made.
func (s *Decoder) observer(direction uint8) string {
	c := &s.ctx
	switch {
	case len(c.observer) > 0:
		return s.intern(c.observer)
	case c.names == 2 && direction == 1 && len(c.name[1]) > 0:
		return s.intern(c.name[1])
	case c.names > 0:
		return s.intern(c.name[0])
	}
	return ""
}

// MaxName is the longest name of an observer, as for virtualObsID in Open vSwitch.
const MaxName = 254

// intern returns b as a string that is shared with earlier records. The number of strings kept is bounded; beyond
// it the collection starts anew.
func (s *Decoder) intern(b []byte) string {
	b = b[:min(len(b), MaxName)]
	if string(b) == s.lastName {
		return s.lastName
	}
	name, ok := s.names[string(b)]
	if !ok {
		if len(s.names) >= s.lim.Names {
			clear(s.names)
		}
		name = strings.ToValidUTF8(string(b), "\uFFFD")
		s.names[string(b)] = name
	}
	s.lastName = name
	return name
}
