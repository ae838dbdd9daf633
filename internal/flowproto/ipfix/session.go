package ipfix

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// Limits bound what one session may make us keep. Zero values take the defaults.
type Limits struct {
	Templates    int           // templates kept; the one not defined for longest goes first (4096)
	Fields       int           // field specifiers of all templates together, likewise (262144)
	Domains      int           // observation domains whose sequence numbers are followed (1024)
	Names        int           // different observer names kept in memory (4096)
	PendingBytes int           // data sets whose template is missing (1 MiB)
	PendingSets  int           // likewise, in number (1024)
	PendingAge   time.Duration // how long such a set may wait (30 min)
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Templates, 4096)
	set(&l.Fields, 1<<18)
	set(&l.Domains, 1024)
	set(&l.Names, 4096)
	set(&l.PendingBytes, 1<<20)
	set(&l.PendingSets, 1024)
	if l.PendingAge <= 0 {
		l.PendingAge = 30 * time.Minute
	}
	return l
}

// Result is what one Decode did.
type Result struct {
	Domain     uint32    // of the last message
	ExportTime time.Time // of the last message
	Sequence   uint32    // of the last message

	Messages      int
	Records       int // flow data records decoded; a biflow is one and gives two flow records
	OptionRecords int
	LateRecords   int // of Records, those from sets that had waited for their template
	Borrowed      int // of Records, those decoded with a template of another domain
	Templates     int // template records, refreshed ones too
	Redefined     int // of Templates, those that changed a known template
	Withdrawals   int
	MissingSets   int    // data sets whose template is not known; they wait
	UnknownFields int    // fields of new templates that the element tables do not name
	LostRecords   uint64 // records missing before these messages, by their sequence numbers
	FoundRecords  uint64 // records counted as lost earlier that came late

	Problems [NumReasons]int // what could not be decoded, by reason
}

// Session is the decoding state of one transport session: its templates, the sets that wait for
// one, and its sequence numbers. One goroutine at a time.
type Session struct {
	lim       Limits
	templates map[tkey]*Template
	fields    int       // of all templates
	last      *Template // the template found last
	domains   map[uint32]*domain
	seq       sequencer
	waiting   []pending
	waitBytes int
	names     map[string]string
	lastName  string
	onOption  func(*Item)

	// the call in progress
	res     Result
	err     error
	recs    []flow.Record
	visit   func(*Item)
	item    Item
	ctx     context
	recvNS  int64
	scans   int  // looks through all templates
	counted bool // every record of this message could be counted
	late    int  // option records in this message's call that had waited for their template
}

type tkey struct {
	domain uint32
	id     uint16
}

// NewSession returns a session without templates.
func NewSession(l Limits) *Session {
	return &Session{
		lim: l.withDefaults(), templates: make(map[tkey]*Template),
		domains: make(map[uint32]*domain), names: make(map[string]string),
	}
}

// Decode decodes the message in b and any that follow it back to back, and appends their flow records to recs.
// recvNS is the time of receipt. Records that waited for a template which now came are appended too.
// The error is of type *Error and tells the first problem; what could be decoded is returned all the
// same, and Result.Problems counts every problem. Nothing of b is kept but by copy. A record's
// Exporter is filled only from an element of the record itself.
func (s *Session) Decode(b []byte, recvNS int64, recs []flow.Record) ([]flow.Record, Result, error) {
	s.begin(recvNS)
	s.recs = recs
	s.messages(b)
	recs, s.recs = s.recs, nil
	return recs, s.res, s.err
}

func (s *Session) begin(recvNS int64) {
	s.res, s.err, s.recvNS, s.scans = Result{}, nil, recvNS, 0
}

// Templates returns the number of templates known.
func (s *Session) Templates() int { return len(s.templates) }

// Fields returns the number of field specifiers of all templates known: what they cost.
func (s *Session) Fields() int { return s.fields }

// Pending returns the number of data sets that wait for their template, and their bytes.
func (s *Session) Pending() (sets, bytes int) { return len(s.waiting), s.waitBytes }

// problem counts what could not be decoded. The first one becomes the error of the call.
func (s *Session) problem(r Reason, set uint16, offset, need, have int) {
	s.res.Problems[r]++
	if s.err == nil {
		s.err = &Error{Reason: r, Set: set, Offset: offset, Need: need, Have: have}
	}
}

func (s *Session) messages(b []byte) {
	for first := true; len(b) > 0; first = false {
		h, err := ParseHeader(b)
		if err != nil {
			if !first && allZero(b) {
				return // padding of a file or a short Ethernet frame
			}
			e := err.(*Error)
			s.problem(e.Reason, 0, 0, e.Need, e.Have)
			return
		}
		s.message(h, b[:h.Length])
		b = b[h.Length:]
	}
}

func (s *Session) message(h Header, b []byte) {
	s.res.Messages++
	s.res.Domain, s.res.ExportTime, s.res.Sequence = h.Domain, h.ExportTime, h.Sequence
	s.counted = true
	d := s.domain(h.Domain)
	first, flows, options, late := len(s.recs), s.res.Records, s.res.OptionRecords, s.res.LateRecords
	s.late = 0
	s.sets(h, b)
	flows, options = s.res.Records-flows-(s.res.LateRecords-late), s.res.OptionRecords-options-s.late
	lost, found := s.seq.account(h.Sequence, flows, options, d, s.counted)
	s.res.LostRecords += lost
	s.res.FoundRecords += found
	if lost > 0 {
		s.markGap(first)
	}
}

// markGap marks this message's records, not those that waited since an earlier one.
func (s *Session) markGap(first int) {
	for i := range s.recs[first:] {
		if r := &s.recs[first+i]; r.RecvNS == s.recvNS {
			r.Marks |= flow.MarkGap
		}
	}
}

// domain returns the accounting of an observation domain; a throw-away one beyond the limit.
func (s *Session) domain(id uint32) *domain {
	if l, ok := s.domains[id]; ok {
		return l
	}
	l := new(domain)
	if len(s.domains) >= s.lim.Domains {
		s.res.Problems[DomainLimit]++
		return l
	}
	s.domains[id] = l
	return l
}

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

// meta is what a data set's message says of it.
type meta struct {
	domain           uint32
	sequence         uint32
	exportNS, recvNS int64
	off              int
	borrowed, late   bool
}

// records decodes the records of one data set.
func (s *Session) records(t *Template, m meta, body []byte) {
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
func (s *Session) optionRecords(t *Template, m meta, body []byte) (n int) {
	for len(body) >= t.minLen {
		size, ok := t.recordLen(body)
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
			s.onOption(&s.item)
		}
		body = body[size:]
		n++
	}
	return n
}

// OnOption makes Decode show every option record to f: sampling rates, names of interfaces and applications. The
// item is valid until f returns.
func (s *Session) OnOption(f func(*Item)) { s.onOption = f }

// learnBoot keeps systemInitTimeMilliseconds for the records that tell uptimes.
func (s *Session) learnBoot(t *Template, m meta, body []byte) {
	var r flow.Record
	var c context
	t.plan.runRecord(&r, &c, body)
	if d := s.domains[m.domain]; d != nil && c.bootNS != 0 {
		d.bootNS = c.bootNS
	}
}

func (s *Session) cut(t *Template, m meta, need, have int) {
	s.problem(BadRecord, t.ID, m.off, need, have)
	s.counted = false
}

// flowRecords runs the template's plan over a set.
func (s *Session) flowRecords(t *Template, m meta, body []byte) (n int) {
	marks := flow.Mark(0)
	if m.borrowed {
		marks |= flow.MarkBorrowed
	}
	if t.fixed {
		s.recs = slices.Grow(s.recs, len(body)/t.minLen)
	}
	blank := context{exportNS: m.exportNS, bootNS: s.boot(t, m.domain)}
	s.ctx = blank
	for len(body) >= t.minLen {
		s.recs = append(s.recs, flow.Record{RecvNS: m.recvNS, Domain: m.domain, Marks: marks, Direction: 255})
		r := &s.recs[len(s.recs)-1]
		size, ok := t.plan.runRecord(r, &s.ctx, body)
		if !ok {
			s.recs = s.recs[:len(s.recs)-1]
			s.cut(t, m, size, len(body))
			return n
		}
		if !t.plan.simple {
			s.settle(t, r)
			if t.plan.after != 0 {
				s.ctx = blank
			}
		}
		body = body[size:]
		n++
	}
	return n
}

// settle finishes a record whose fields depend on each other, and may append the other half of a biflow.
func (s *Session) settle(t *Template, r *flow.Record) {
	t.plan.settle(r, &s.ctx)
	if t.plan.after&afterNames != 0 {
		r.Observer = s.observer(r.Direction)
	}
	if t.plan.after&afterBiflow != 0 && (s.ctx.back.packets != 0 || s.ctx.back.octets != 0) {
		s.recs = append(s.recs, s.ctx.other(r))
	}
}

// boot returns when the exporter started, where the template's records tell uptimes and an options record told that.
func (s *Session) boot(t *Template, id uint32) int64 {
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
func (s *Session) observer(direction uint8) string {
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

// maxName is the longest name of an observer, as for virtualObsID in Open vSwitch.
const maxName = 254

// intern returns b as a string that is shared with earlier records. The number of strings kept is bounded; beyond
// it the collection starts anew.
func (s *Session) intern(b []byte) string {
	b = b[:min(len(b), maxName)]
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
