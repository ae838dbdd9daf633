// Package session keeps what is known of each exporter between its datagrams: templates, sequence
// numbers, clock, silence. It decodes datagrams to flow records and accounts for those that never
// came.
package session

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/ledger"
)

// Key is a transport session: the two ends of the datagrams, and over TCP, TLS and DTLS the connection.
type Key struct {
	Exporter, Local netip.AddrPort
	Conn            uint64 // 0 for UDP
}

// Config bounds what exporters may make us keep.
type Config struct {
	MaxSessions  int              // transport sessions; beyond it the one idle for longest is forgotten
	MaxExporters int              // observation domains of exporters with their own account
	Limits       flowproto.Limits // of one session
	SilentAfter  time.Duration    // an exporter that says nothing for so long is silent
	CorrectSkew  bool             // shift flow times by an exporter's clock error when it exceeds a second

	Rules    []Rule   // what operators say of exporters
	Platform Platform // what platforms say of them; nil for none

	Counters func(*flowproto.Counters) // gets every counter sample of sFlow; nil for nobody. Safe for concurrent use

	// MaxHeldBytes bounds what all sessions together hold: templates, and data that waits for one.
	MaxHeldBytes int
}

// DefaultConfig is enough for some ten thousand hypervisors.
func DefaultConfig() Config {
	return Config{MaxSessions: 16384, MaxExporters: 65536, SilentAfter: 5 * time.Minute, CorrectSkew: true, MaxHeldBytes: 256 << 20}
}

// Validate reports the first mistake.
func (c Config) Validate() error {
	if c.MaxSessions < 1 || c.MaxExporters < 1 {
		return fmt.Errorf("session: limits of %d sessions and %d exporters: want at least 1", c.MaxSessions, c.MaxExporters)
	}
	if c.MaxHeldBytes < 1<<16 {
		return fmt.Errorf("session: %d bytes for templates and waiting data: want at least 65536", c.MaxHeldBytes)
	}
	if c.SilentAfter < time.Second {
		return fmt.Errorf("session: silent after %v: want at least 1s", c.SilentAfter)
	}
	return checkRules(c.Rules)
}

func checkRules(rules []Rule) error {
	for i := range rules {
		if err := rules[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Loss is a stretch of time in which records of an exporter may be missing. Times are nanoseconds
// since the Unix epoch.
type Loss struct {
	FromNS, ToNS int64
	Exporter     flow.Addr
	Domain       uint32
	Reason       string
	Records      uint64 // 0 when not countable
}

// Reasons of a Loss.
const (
	ReasonSequence  = "records lost on the way from the exporter (sequence numbers)"
	ReasonDatagrams = "datagrams lost on the way from the exporter (sequence numbers; the number of records is estimated)"
	ReasonNotSent   = "flows that the exporter could not send, by its own account"
	ReasonSilent    = "exporter silent"
	ReasonRestart   = "exporter restarted: what it held may be lost"
)

// Table holds the sessions. Its methods are safe for concurrent use; datagrams of one session must
// be given in their order.
type Table struct {
	cfg  Config
	book *ledger.Book // datagrams

	rules    atomic.Pointer[ruleSet]
	platform atomic.Pointer[Platform]
	offers   offers

	mu        sync.Mutex
	sessions  map[Key]*session
	used      lru // least recently used first; sessions that never gave a record in their own list
	unproven  lru
	exporters map[exporterKey]*exporter
	held      int // bytes of all sessions
	evicted   uint64
	forgotten uint64
	found     []Loss // losses that are complete, for the next Tick
}

// session is one transport session. Its decoder is used under its own lock.
type session struct {
	key        Key
	prev, next *session // in its list
	list       *lru
	seenNS     int64

	mu       sync.Mutex
	dec      *flowproto.Session
	told     map[domainKey]*told            // what option records said
	names    int                            // entries of told
	asks     [flowproto.Unknown]bool        // it may borrow templates of this protocol
	traits   map[*flowproto.Template]traits // of the templates looked at
	lookedNS int64                          // when its templates were looked through
	last     *exporter                      // of the last datagram
	proven   bool                           // has given a template or a record
	held     int                            // bytes, as counted in the table
}

// domainKey is an observation domain within a transport session: an exporter may speak several protocols.
type domainKey struct {
	protocol flowproto.Protocol
	domain   uint32
}

// ruleSet is the rules in use.
type ruleSet struct{ rules []Rule }

// New returns an empty table.
func New(cfg Config) (*Table, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Table{
		cfg: cfg, book: ledger.New("session", ledger.Datagrams, flowproto.Reasons()...),
		sessions: make(map[Key]*session), exporters: make(map[exporterKey]*exporter),
	}
	t.rules.Store(&ruleSet{cfg.Rules})
	t.SetPlatform(cfg.Platform)
	return t, nil
}

// SetRules replaces the rules for the datagrams to come.
func (t *Table) SetRules(rules []Rule) error {
	if err := checkRules(rules); err != nil {
		return err
	}
	t.rules.Store(&ruleSet{rules})
	return nil
}

// SetPlatform replaces what platforms say of exporters. f is asked now and then, for each exporter; nil for nobody.
func (t *Table) SetPlatform(f Platform) {
	if f == nil {
		f = func(flow.Addr, uint32) (Sampled, bool) { return Sampled{}, false }
	}
	t.platform.Store(&f)
}

// Book returns the account of datagrams: a datagram without a single whole message is dropped.
func (t *Table) Book() ledger.Statement { return t.book.Read() }

// Decode decodes one datagram, received at recvNS, and appends its flow records to recs. Nothing of
// data is kept. Datagrams of no known protocol open no session.
func (t *Table) Decode(k Key, recvNS int64, data []byte, recs []flow.Record) []flow.Record {
	t.book.In(1)
	h, err := flowproto.ParseHeader(data)
	if err != nil {
		t.reject(k, err)
		return recs
	}
	s := t.session(k, recvNS)
	before := len(recs)
	s.mu.Lock()
	defer s.mu.Unlock()
	addr := flow.FromNetip(k.Exporter.Addr())
	if !h.Agent.IsZero() {
		addr = h.Agent
	}
	t.borrow(s, addr, h.Protocol)
	recs, res, err := s.dec.Decode(data, recvNS, recs)
	e := t.exporter(s, exporterKey{addr, h.Protocol, h.Domain}, recvNS)
	if res.Templates+res.Withdrawals > 0 {
		t.templatesChanged(s, e, recvNS)
	}
	fresh := recs[before:]
	shift := e.account(t, s, recvNS, h, fresh, res, err)
	finish(fresh, e.key.addr, shift)
	t.settle(s, !s.proven && res.Templates+res.Records+res.CounterSamples > 0)
	t.book.Out(1)
	return recs
}

// Close forgets a connection: its templates end with it (RFC 7011, section 8.1).
func (t *Table) Close(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.sessions[k]; s != nil {
		t.remove(s)
	}
}

// Shed counts a datagram that was dropped before it was decoded.
func (t *Table) Shed(k Key) {
	if last := t.lastOf(k); last != nil {
		last.shed()
	}
}

// lastOf returns the exporter of the last datagram of a session; nil when there was none.
func (t *Table) lastOf(k Key) *exporter {
	t.mu.Lock()
	s := t.sessions[k]
	t.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// open makes the state of a session.
func (t *Table) open(k Key) *session {
	s := &session{key: k, dec: flowproto.NewSession(t.cfg.Limits)}
	s.dec.OnOption(s.option)
	s.dec.OnCounters(t.cfg.Counters)
	return s
}

// option takes in an option record. The session is locked.
func (s *session) option(o flowproto.Option) {
	k := domainKey{o.Protocol, o.Domain}
	d := s.told[k]
	if d == nil {
		if len(s.told) >= maxToldDomains {
			return
		}
		if s.told == nil {
			s.told = make(map[domainKey]*told)
		}
		d = new(told)
		s.told[k] = d
	}
	s.names += d.option(o)
}

// maxToldDomains bounds the domains of a session whose options are kept.
const maxToldDomains = 1024

// finish fills in what the datagram says of its records.
func finish(recs []flow.Record, exporter flow.Addr, shiftNS int64) {
	for i := range recs {
		r := &recs[i]
		if r.Exporter.IsZero() {
			r.Exporter = exporter
		}
		if shiftNS != 0 {
			r.StartNS, r.EndNS = r.StartNS+shiftNS, r.EndNS+shiftNS
		}
	}
}

// reject counts a datagram that is no IPFIX message, at its exporter too when that is known.
func (t *Table) reject(k Key, err error) {
	reason := reasonOf(err)
	t.book.Drop(int(reason), 1)
	if last := t.lastOf(k); last != nil {
		last.reject(reason)
	}
}

// session returns the session of a key; a new one may cost another one its place.
func (t *Table) session(k Key, recvNS int64) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sessions[k]
	if s == nil {
		t.makeRoom()
		s = t.open(k)
		t.sessions[k] = s
		t.unproven.push(s)
	}
	s.seenNS = recvNS
	s.list.touch(s)
	return s
}

// makeRoom forgets a session when the table is full: first those that never gave anything, so that a
// flood of forged sources does not cost real exporters their templates.
func (t *Table) makeRoom() {
	if len(t.sessions) >= t.cfg.MaxSessions {
		t.forget(t.victim())
	}
}

func (t *Table) victim() *session {
	if t.unproven.first != nil {
		return t.unproven.first
	}
	return t.used.first
}

func (t *Table) forget(s *session) {
	t.remove(s)
	t.evicted++
}

func (t *Table) remove(s *session) {
	s.list.remove(s)
	delete(t.sessions, s.key)
	t.held -= s.held
	t.offers.forget(s.key)
}

// What is counted for a field of a template, with its place in the compiled plan, and for a name that an option told.
const (
	fieldBytes = 40
	nameBytes  = 64
)

// heldBytes is about what the session holds.
func (s *session) heldBytes() int {
	_, held := s.dec.Pending()
	return held + s.dec.Fields()*fieldBytes + s.names*nameBytes
}

// settle keeps the table's figures of a session after a datagram: what it holds, and whether it has proven
// to be an exporter. The session is locked.
func (t *Table) settle(s *session, proves bool) {
	held := s.heldBytes()
	if held == s.held && !proves {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.list == nil {
		return // forgotten meanwhile
	}
	t.held += held - s.held
	s.held = held
	if proves {
		s.proven = true
		t.unproven.remove(s)
		t.used.push(s)
	}
	for t.held > t.cfg.MaxHeldBytes && t.victim() != s {
		t.forget(t.victim())
	}
}

// lru is a list of sessions, the one used least recently first. It has no lock of its own.
type lru struct{ first, last *session }

func (l *lru) push(s *session) {
	s.list, s.prev, s.next = l, l.last, nil
	if l.last != nil {
		l.last.next = s
	} else {
		l.first = s
	}
	l.last = s
}

func (l *lru) remove(s *session) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.list, s.prev, s.next = nil, nil, nil
}

func (l *lru) touch(s *session) {
	if l.last != s {
		l.remove(s)
		l.push(s)
	}
}
