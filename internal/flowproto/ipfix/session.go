package ipfix

import (
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
