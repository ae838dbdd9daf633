// Package session keeps what is known of each exporter between its datagrams: templates, sequence
// numbers, clock, silence. It decodes datagrams to flow records and accounts for those that never
// came.
package session

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/ledger"
)

// Key is a transport session over UDP: the two ends of the datagrams.
type Key struct {
	Exporter, Local netip.AddrPort
}

// Config bounds what exporters may make us keep.
type Config struct {
	MaxSessions  int           // transport sessions; beyond it the one idle for longest is forgotten
	MaxExporters int           // observation domains of exporters with their own account
	Limits       flowproto.Limits  // of one session
	SilentAfter  time.Duration // an exporter that says nothing for so long is silent
	CorrectSkew  bool          // shift flow times by an exporter's clock error when it exceeds a second

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
	ReasonSequence = "records lost on the way from the exporter (sequence numbers)"
	ReasonSilent   = "exporter silent"
	ReasonRestart  = "exporter restarted: what it held may be lost"
)

// Table holds the sessions. Its methods are safe for concurrent use; datagrams of one session must
// be given in their order.
type Table struct {
	cfg  Config
	book *ledger.Book // datagrams

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

	mu     sync.Mutex
	dec    *flowproto.Session
	last   *exporter // of the last datagram
	proven bool      // has given a template or a record
	held   int       // bytes, as counted in the table
}

// New returns an empty table.
func New(cfg Config) (*Table, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Table{
		cfg: cfg, book: ledger.New("session", ledger.Datagrams, flowproto.Reasons()...),
		sessions: make(map[Key]*session), exporters: make(map[exporterKey]*exporter),
	}, nil
}

// Book returns the account of datagrams: a datagram without a single whole message is dropped.
func (t *Table) Book() ledger.Statement { return t.book.Read() }

// Decode decodes one datagram, received at recvNS, and appends its flow records to recs. Nothing of
// data is kept. Datagrams of no protocol that is decoded open no session.
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
	recs, res, err := s.dec.Decode(data, recvNS, recs)
	e := t.exporter(s, flow.FromNetip(k.Exporter.Addr()), h.Domain, recvNS)
	shift := e.account(s, recvNS, h.ExportTime.UnixNano(), recs[before:], res, err, t.cfg.CorrectSkew)
	finish(recs[before:], e.key.addr, shift)
	t.settle(s, !s.proven && res.Templates+res.Records > 0)
	t.book.Out(1)
	return recs
}

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
	t.mu.Lock()
	s := t.sessions[k]
	t.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != nil {
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
		s = &session{key: k, dec: flowproto.NewSession(t.cfg.Limits)}
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
	s.list.remove(s)
	delete(t.sessions, s.key)
	t.held -= s.held
	t.evicted++
}

// fieldBytes is about what one field of a template costs, with its place in the compiled plan.
const fieldBytes = 40

// settle keeps the table's figures of a session after a datagram: what it holds, and whether it has proven
// to be an exporter. The session is locked.
func (t *Table) settle(s *session, proves bool) {
	_, held := s.dec.Pending()
	held += s.dec.Fields() * fieldBytes
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
