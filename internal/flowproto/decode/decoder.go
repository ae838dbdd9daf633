package decode

import (
	"time"

	"crosstap/internal/dissect"
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

// Unit is what a protocol's sequence numbers count.
type Unit uint8

// The units of loss.
const (
	Records   Unit = iota // IPFIX: data records
	Datagrams             // NetFlow v9 and sFlow
	Flows                 // NetFlow v5
)

// String returns the unit's name in the plural.
func (u Unit) String() string { return [...]string{"records", "datagrams", "flows"}[u%3] }

// Result is what one Decode did.
type Result struct {
	Protocol   Protocol
	Domain     uint32    // of the last message: observation domain, source id, engine type<<8|id, sub-agent
	ExportTime time.Time // of the last message; zero when the protocol does not tell (sFlow)
	Sequence   uint32    // of the last message
	Agent      flow.Addr // sFlow: the agent's own address

	Messages       int
	Records        int // flow records decoded; a biflow is one and gives two flow records
	OptionRecords  int
	CounterSamples int // sFlow
	LateRecords    int // of Records, those from sets that had waited for their template
	Borrowed       int // of Records, those decoded with a template of another domain
	Templates      int // template records, refreshed ones too
	Redefined      int // of Templates, those that changed a known template
	Withdrawals    int
	MissingSets    int    // data sets whose template is not known; they wait
	UnknownFields  int    // fields of new templates that the element tables do not name
	Unit           Unit   // of Lost and Found
	Lost           uint64 // missing before these messages, by their sequence numbers
	Found          uint64 // counted as lost earlier and come late
	LostSamples    uint64 // sFlow: samples missing by the numbers of their sources, those of lost datagrams too
	AgentDrops     uint64 // sFlow: packets that the agent should have sampled and could not

	Problems [NumReasons]int // what could not be decoded, by reason
}

// Decoder is what the decoders of all protocols share: the state of one transport session and the call in
// progress. The framing of a protocol drives it: Begin, then for each message Open, Define, Withdraw, Data
// and Account, at last End. One goroutine at a time.
type Decoder struct {
	lim       Limits
	parse     Parse
	templates map[tkey]*Template
	fields    int       // of all templates
	last      *Template // the template found last
	domains   map[uint32]*Domain
	session   Line
	trust     [ways]int
	waiting   []pending
	waitBytes int
	names     map[string]string
	lastName  string
	extras    map[string]string
	text      []byte    // an Extra in the making
	kept      [][]byte  // values for it
	lists     []listRef // of the record in the making
	packet    dissect.Packet
	onOption  func(Option)
	onMissing func(domain uint32, id uint16) *Template

	// the call in progress
	res     Result
	err     error
	recs    []flow.Record
	visit   func(*Item)
	item    Item
	ctx     context
	msg     Message
	recvNS  int64
	scans   int  // looks through all templates
	counted bool // every record of this message could be counted
	late    int  // option records in this message's call that had waited for their template
	mark    marks
}

// marks are the counts as they stood when the message was opened.
type marks struct{ recs, flows, options, late int }

type tkey struct {
	domain uint32
	id     uint16
}

// Message is what a message's header says of its records.
type Message struct {
	Protocol Protocol
	Domain   uint32
	Sequence uint32
	ExportNS int64
	Uptime   bool   // UptimeMS is told
	UptimeMS uint32 // of the exporter when it made the message, modulo 2³²
	Sampling uint32 // one packet in so many, for every record; 0 when the header does not say
}

// Parse appends the fields of a template's definition, scope leading ones of which are its scope.
type Parse func(fields []Field, def []byte, scope int) []Field

// NewDecoder returns a decoder without templates; parse may be nil for protocols without any.
func NewDecoder(l Limits, parse Parse) *Decoder {
	return &Decoder{
		lim: l.withDefaults(), parse: parse, templates: make(map[tkey]*Template),
		domains: make(map[uint32]*Domain), names: make(map[string]string), extras: make(map[string]string),
	}
}

// Begin starts a call: flow records are appended to recs, or every item is shown to visit when that is not nil.
func (s *Decoder) Begin(recvNS int64, recs []flow.Record, visit func(*Item)) {
	s.res, s.err, s.recvNS, s.scans = Result{}, nil, recvNS, 0
	s.recs, s.visit = recs, visit
}

// End finishes a call. The error is of type *Error and tells the first problem; Result.Problems counts every
// one.
func (s *Decoder) End() ([]flow.Record, Result, error) {
	recs := s.recs
	s.recs, s.visit, s.item = nil, nil, Item{}
	return recs, s.res, s.err
}

// Result returns the account of the call in progress, for the framing to add to.
func (s *Decoder) Result() *Result { return &s.res }

// Templates returns the number of templates known.
func (s *Decoder) Templates() int { return len(s.templates) }

// Fields returns the number of field specifiers of all templates known: what they cost.
func (s *Decoder) Fields() int { return s.fields }

// Names returns the number of names kept in memory.
func (s *Decoder) Names() int { return len(s.names) }

// Domains returns the number of observation domains whose sequence numbers are followed.
func (s *Decoder) Domains() int { return len(s.domains) }

// Pending returns the number of data sets that wait for their template, and their bytes.
func (s *Decoder) Pending() (sets, bytes int) { return len(s.waiting), s.waitBytes }

// OnOption makes Decode show every option record to f: sampling rates, names of interfaces and applications.
func (s *Decoder) OnOption(f func(Option)) { s.onOption = f }

// Problem counts what could not be decoded. The first one becomes the error of the call.
func (s *Decoder) Problem(r Reason, set uint16, offset, need, have int) {
	s.res.Problems[r]++
	if s.err == nil {
		s.err = &Error{Protocol: s.msg.Protocol, Reason: r, Set: set, Offset: offset, Need: need, Have: have}
	}
}

// Refuse counts a problem that keeps records of the message from being counted, too: its sequence number foretells nothing.
func (s *Decoder) Refuse(r Reason, set uint16, offset, need, have int) {
	s.Problem(r, set, offset, need, have)
	s.counted = false
}

// Reject counts what is not a message at all. e is what the header's reader said.
func (s *Decoder) Reject(e *Error) {
	s.res.Problems[e.Reason]++
	if s.err == nil {
		s.err = e
	}
}

// Open begins a message.
func (s *Decoder) Open(m Message) {
	s.msg = m
	s.res.Messages++
	s.res.Protocol, s.res.Domain, s.res.Sequence = m.Protocol, m.Domain, m.Sequence
	s.res.ExportTime = time.Unix(0, m.ExportNS).UTC()
	s.counted, s.late = true, 0
	s.mark = marks{len(s.recs), s.res.Records, s.res.OptionRecords, s.res.LateRecords}
}

// Counts returns the flow and option records that the open message brought itself.
func (s *Decoder) Counts() (flows, options int) {
	return s.res.Records - s.mark.flows - (s.res.LateRecords - s.mark.late), s.res.OptionRecords - s.mark.options - s.late
}

// markGap marks this message's records, not those that waited since an earlier one.
func (s *Decoder) markGap() {
	for i := range s.recs[s.mark.recs:] {
		if r := &s.recs[s.mark.recs+i]; r.RecvNS == s.recvNS {
			r.Marks |= flow.MarkGap
		}
	}
}

// Domain returns the state of an observation domain; a throw-away one beyond the limit.
func (s *Decoder) Domain(id uint32) *Domain {
	if l, ok := s.domains[id]; ok {
		return l
	}
	l := new(Domain)
	if len(s.domains) >= s.lim.Domains {
		s.res.Problems[DomainLimit]++
		return l
	}
	s.domains[id] = l
	return l
}

// Forget forgets all sequence numbers, as after reading templates from a file.
func (s *Decoder) Forget() {
	s.session, s.trust = Line{}, [ways]int{}
	clear(s.domains)
}
