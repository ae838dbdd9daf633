package decode

import (
	"iter"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/ie"
)

// Kind says what an Item is.
type Kind uint8

// The kinds of item.
const (
	KindRecord          Kind = iota // a flow data record
	KindOption                      // a data record of an options template
	KindTemplate                    // a template came
	KindOptionsTemplate             // an options template came
	KindWithdrawal                  // a template was taken back
	KindCounters                    // a counter sample of sFlow
	KindDiscard                     // a packet that the switch threw away, of sFlow
)

var kinds = [...]string{"record", "option", "template", "options-template", "withdrawal", "counters", "discard"}

// String returns the kind's name.
func (k Kind) String() string { return kinds[k] }

// Item is one record or template of a message. It is reused: valid until the visit returns.
type Item struct {
	Kind     Kind
	Protocol Protocol
	Domain   uint32
	ID       uint16    // of the template
	Sequence uint32    // of the message
	Export   time.Time // of the message
	RecvNS   int64
	Template *Template // nil for a withdrawal and for sFlow
	Data     []byte    // the record's bytes, nil for templates
	Values   []Value   // the fields where there is no template: sFlow
	Offset   int       // of Data in the message
	Borrowed bool      // the template belongs to another domain
	Late     bool      // the record waited for its template

	meta meta
	flow *flow.Record // of a record without a template
	find func(id uint16) *Template
}

func (s *Decoder) showTemplate(t *Template) {
	k := KindTemplate
	if t.options {
		k = KindOptionsTemplate
	}
	s.show(k, t.ID, t)
}

func (s *Decoder) showWithdrawal(id uint16) { s.show(KindWithdrawal, id, nil) }

func (s *Decoder) show(k Kind, id uint16, t *Template) {
	if s.visit == nil {
		return
	}
	s.item = meta{Message: s.msg, recvNS: s.recvNS}.item(t)
	s.item.Kind, s.item.ID = k, id
	s.visit(&s.item)
}

// item returns the item of a record of a set, without its bytes.
func (m meta) item(t *Template) Item {
	it := Item{
		Protocol: m.Protocol, Domain: m.Domain, Sequence: m.Sequence, Export: time.Unix(0, m.ExportNS).UTC(),
		RecvNS: m.recvNS, Template: t, Borrowed: m.borrowed, Late: m.late, meta: m,
	}
	if t != nil {
		it.ID = t.ID
		if t.options {
			it.Kind = KindOption
		}
	}
	return it
}

func (s *Decoder) visitRecords(t *Template, m meta, body []byte) (n int) {
	s.item = m.item(t)
	s.item.Offset, s.item.find = m.off+setHeader, func(id uint16) *Template { return s.Find(m.Domain, id) }
	for len(body) >= t.minLen {
		size, ok := t.RecordLen(body)
		if !ok {
			s.cut(t, m, size, len(body))
			return n
		}
		s.item.Data = body[:size:size]
		s.visit(&s.item)
		s.item.Offset += size
		body = body[size:]
		n++
	}
	return n
}

// Value is one field of a record.
type Value struct {
	Field
	Element *ie.Element // nil when the tables do not name it
	Bytes   []byte      // the value as it came, without the length of a variable-length field
	Offset  int         // of Bytes in the message

	find func(id uint16) *Template // of the value's session and domain, for lists of records
}

// Fields yields the fields of a record in the order of its template, padding too.
func (it *Item) Fields() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if it.Template == nil {
			for _, v := range it.Values {
				if !yield(v) {
					return
				}
			}
			return
		}
		b, off := it.Data, it.Offset
		for _, f := range it.Template.Fields {
			size, head := int(f.Len), 0
			if f.Len == ie.Variable {
				size, head = variableLen(b)
			}
			if head+size > len(b) {
				return
			}
			v := Value{Field: f, Bytes: b[head : head+size], Offset: off + head, find: it.find}
			v.Element, _ = f.Element()
			if !yield(v) {
				return
			}
			b, off = b[head+size:], off+head+size
		}
	}
}

// Flow decodes the record of an item as Decode would have, biflows as their forward half. It is for showing
// a record both ways; it returns false for anything but a flow record.
func (it *Item) Flow() (flow.Record, bool) {
	if it.flow != nil {
		return *it.flow, true
	}
	if it.Kind != KindRecord {
		return flow.Record{}, false
	}
	r := flow.Record{RecvNS: it.RecvNS, Domain: it.Domain, Direction: 255, Sampling: it.meta.Sampling}
	c := context{extra: make([][]byte, len(it.Template.plan.extra)), exportNS: it.meta.ExportNS, uptime: it.meta.Uptime, uptimeMS: it.meta.UptimeMS}
	if _, ok := it.Template.plan.runRecord(&r, &c, it.Data); !ok {
		return flow.Record{}, false
	}
	it.Template.plan.settle(&r, &c)
	return r, true
}

// Showing reports whether the call in progress shows items instead of making flow records.
func (s *Decoder) Showing() bool { return s.visit != nil }

// Sample takes in one sample that has no template: it shows it, or appends its record. Counter samples have none.
func (s *Decoder) Sample(kind Kind, it Item, r *flow.Record) {
	if kind != KindCounters {
		s.res.Records++
	}
	switch {
	case s.visit != nil:
		s.item = it
		if kind != KindCounters {
			s.item.flow = r
		}
		s.visit(&s.item)
	case kind != KindCounters:
		s.recs = append(s.recs, *r)
	}
}
