package ipfix

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
)

var kinds = [...]string{"record", "option", "template", "options-template", "withdrawal"}

// String returns the kind's name.
func (k Kind) String() string { return kinds[k] }

// Item is one record or template of a message. It is reused: valid until the visit returns.
type Item struct {
	Kind     Kind
	Domain   uint32
	ID       uint16    // of the template
	Sequence uint32    // of the message
	Export   time.Time // of the message
	RecvNS   int64
	Template *Template // nil for a withdrawal
	Data     []byte    // the record's bytes, nil for templates
	Borrowed bool      // the template belongs to another domain
	Late     bool      // the record waited for its template
}

// Walk decodes as Decode does, but shows every template and every record, options too, to visit instead of
// making flow records.
func (s *Session) Walk(b []byte, recvNS int64, visit func(*Item)) (Result, error) {
	s.begin(recvNS)
	s.visit = visit
	s.messages(b)
	s.visit, s.item = nil, Item{}
	return s.res, s.err
}

func (s *Session) showTemplate(h Header, t *Template) {
	if s.visit == nil {
		return
	}
	k := KindTemplate
	if t.options {
		k = KindOptionsTemplate
	}
	s.item = Item{Kind: k, Domain: h.Domain, ID: t.ID, Sequence: h.Sequence, Export: h.ExportTime, RecvNS: s.recvNS, Template: t}
	s.visit(&s.item)
}

func (s *Session) showWithdrawal(h Header, id uint16, _ bool) {
	if s.visit == nil {
		return
	}
	s.item = Item{Kind: KindWithdrawal, Domain: h.Domain, ID: id, Sequence: h.Sequence, Export: h.ExportTime, RecvNS: s.recvNS}
	s.visit(&s.item)
}

// item returns the item of a record of a set, without its bytes.
func (m meta) item(t *Template) Item {
	k := KindRecord
	if t.options {
		k = KindOption
	}
	return Item{
		Kind: k, Domain: m.domain, ID: t.ID, Sequence: m.sequence, Export: time.Unix(0, m.exportNS).UTC(),
		RecvNS: m.recvNS, Template: t, Borrowed: m.borrowed, Late: m.late,
	}
}

func (s *Session) visitRecords(t *Template, m meta, body []byte) (n int) {
	s.item = m.item(t)
	for len(body) >= t.minLen {
		size, ok := t.recordLen(body)
		if !ok {
			s.cut(t, m, size, len(body))
			return n
		}
		s.item.Data = body[:size:size]
		s.visit(&s.item)
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
}

// Fields yields the fields of a record in the order of its template, padding too.
func (it *Item) Fields() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if it.Template == nil {
			return
		}
		b := it.Data
		for _, f := range it.Template.Fields {
			size, head := int(f.Len), 0
			if f.Len == ie.Variable {
				size, head = variableLen(b)
			}
			if head+size > len(b) {
				return
			}
			v := Value{Field: f, Bytes: b[head : head+size]}
			v.Element, _ = f.Element()
			if !yield(v) {
				return
			}
			b = b[head+size:]
		}
	}
}

// Flow decodes the record of an item as Decode would have, biflows as their forward half. It is for showing
// a record both ways; it returns false for anything but a flow record.
func (it *Item) Flow() (flow.Record, bool) {
	if it.Kind != KindRecord {
		return flow.Record{}, false
	}
	r := flow.Record{RecvNS: it.RecvNS, Domain: it.Domain, Direction: 255}
	c := context{exportNS: it.Export.UnixNano()}
	if _, ok := it.Template.plan.runRecord(&r, &c, it.Data); !ok {
		return flow.Record{}, false
	}
	it.Template.plan.settle(&r, &c)
	return r, true
}
