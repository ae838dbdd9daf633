package session

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/flowproto/decode"
)

// exporterKey is what an operator calls an exporter: an address, a protocol and an observation domain. It outlives transport
// sessions, whose source ports change when the exporter restarts.
type exporterKey struct {
	addr     flow.Addr
	protocol flowproto.Protocol
	domain   uint32
}

// exporter is the account of one observation domain of one exporting process.
type exporter struct {
	key  exporterKey
	gone atomic.Bool // no longer in the table

	mu        sync.Mutex
	stats     Exporter
	problems  [flowproto.NumReasons]uint64
	clock     clock
	join      joiner
	rate      rate
	fields    fields
	loss      Loss  // of the minute under way
	minute    int64 // its number
	done      []Loss
	toldNS    int64 // silence is told up to here, 0 when the exporter is not silent
	nextNS    int64 // when to tell the next piece
	restart   Loss  // a restart that is not certain yet, ToNS 0 when there is none
	notSentNS int64 // when the exporter last told what it could not send
	parallel  bool  // several transport sessions speak in turn: a new one is no restart
}

// exporter returns the account of a session's domain. Beyond the limit the account heard of least recently goes.
// The session is locked.
func (t *Table) exporter(s *session, k exporterKey, recvNS int64) *exporter {
	if s.last != nil && s.last.key == k && !s.last.gone.Load() {
		return s.last
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.exporters[k]
	if e == nil {
		if len(t.exporters) >= t.cfg.MaxExporters {
			t.forgetExporter()
		}
		e = &exporter{key: k, stats: Exporter{Address: k.addr, Protocol: k.protocol, Domain: k.domain, FirstNS: recvNS}}
		t.exporters[k] = e
	}
	s.last = e
	return e
}

// forgetExporter drops one account: of a few taken at random, the one silent for longest. The table is locked.
func (t *Table) forgetExporter() {
	var oldest *exporter
	n := 0
	for _, e := range t.exporters {
		if oldest == nil || e.lastNS() < oldest.lastNS() {
			oldest = e
		}
		if n++; n == 16 {
			break
		}
	}
	oldest.mu.Lock()
	oldest.flush()
	t.found = append(t.found, oldest.done...)
	oldest.mu.Unlock()
	delete(t.exporters, oldest.key)
	oldest.gone.Store(true)
	t.forgotten++
}

func (e *exporter) lastNS() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats.LastNS
}

// account enters one decoded datagram, joins its records with what else is known, and returns by how much to shift their times.
// The session is locked.
func (e *exporter) account(t *Table, s *session, recvNS int64, h flowproto.Header, recs []flow.Record, res flowproto.Result, err error) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &e.stats
	e.heard(recvNS)
	e.restarted(s.key, recvNS, res)
	e.lose(x.LastNS, recvNS, res)
	x.LastNS = max(x.LastNS, recvNS)
	e.count(s, len(recs), res)
	e.session(s.key, recvNS)
	d := s.told[domainKey{e.key.protocol, e.key.domain}]
	e.tell(d, recvNS)
	if d == nil { // domain 0 stands for the whole exporting process (RFC 7011, section 3.1)
		d = s.told[domainKey{e.key.protocol, 0}]
	}
	e.join.look(t, e.key, recvNS)
	if len(recs) > 0 {
		x.Sampling = e.join.join(e.key, d, recs)
		if name := recs[len(recs)-1].Observer; name != "" {
			x.Observer = name
		}
	}
	if err != nil {
		x.Errors++
		for r, n := range res.Problems {
			e.problems[r] += uint64(n)
		}
	}
	if h.ExportTime.IsZero() {
		return 0
	}
	e.clock.see(recvNS, recvNS-h.ExportTime.UnixNano())
	if !t.cfg.CorrectSkew {
		return 0
	}
	return e.clock.shift()
}

// count adds a datagram's figures.
func (e *exporter) count(s *session, recs int, res flowproto.Result) {
	x := &e.stats
	x.Datagrams++
	x.Records += uint64(recs)
	x.OptionRecords += uint64(res.OptionRecords)
	x.CounterSamples += uint64(res.CounterSamples)
	x.AgentDrops += res.AgentDrops
	x.Withdrawals += uint64(res.Withdrawals)
	x.Redefined += uint64(res.Redefined)
	x.MissingSets += uint64(res.MissingSets)
	x.LateRecords += uint64(res.LateRecords)
	x.Borrowed += uint64(res.Borrowed)
	x.UnknownFields += uint64(res.UnknownFields)
	if res.Templates+res.Withdrawals > 0 || len(x.Sessions) == 0 || x.Sessions[0].Key != s.key {
		x.Templates = s.dec.DomainTemplates(e.key.domain)
	}
	x.PendingSets, _ = s.dec.Pending()
}

// tell takes in what the exporter says of itself.
func (e *exporter) tell(d *told, recvNS int64) {
	if d == nil {
		return
	}
	e.stats.Names = len(d.Ifs) + len(d.VRFs) + len(d.Apps) + len(d.Points)
	if n := d.newlyNot; n > 0 {
		d.newlyNot = 0
		e.stats.NotSent += n
		from := e.stats.FirstNS
		if e.notSentNS > 0 {
			from = e.notSentNS
		}
		e.done = append(e.done, Loss{FromNS: from, ToNS: recvNS, Exporter: e.key.addr, Domain: e.key.domain, Reason: ReasonNotSent, Records: n})
	}
	if d.hasSent {
		e.notSentNS = recvNS
	}
}

// shed counts a datagram that was dropped before it was decoded.
func (e *exporter) shed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Shed++
}

// session moves a transport session to the head of the exporter's list.
func (e *exporter) session(k Key, recvNS int64) {
	list := e.stats.Sessions
	i := slices.IndexFunc(list, func(s Session) bool { return s.Key == k })
	switch {
	case i == 0:
		list[0].LastNS = recvNS
		return
	case i > 0: // the one before speaks on
		e.restart, e.parallel = Loss{}, true
		list = slices.Delete(list, i, i+1)
	case len(list) == sessionsShown:
		list = list[:sessionsShown-1]
	}
	e.stats.Sessions = slices.Insert(list, 0, Session{k, recvNS})
}

func (e *exporter) reject(r flowproto.Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Errors++
	e.problems[r]++
}

// lose adds a datagram's sequence gap to the minute under way.
func (e *exporter) lose(fromNS, recvNS int64, res flowproto.Result) {
	if m := recvNS / int64(time.Minute); m != e.minute {
		e.flush()
		e.minute = m
	}
	x := &e.stats
	x.Unit = res.Unit
	found, lost := e.inRecords(res.Found), e.inRecords(res.Lost)
	e.loss.Records -= min(found, e.loss.Records)
	x.LostRecords -= min(found, x.LostRecords)
	x.Lost -= min(res.Found, x.Lost)
	if res.Lost == 0 {
		return
	}
	x.Lost += res.Lost
	x.LostRecords += lost
	if e.loss.Records == 0 {
		e.loss = Loss{FromNS: cmp.Or(fromNS, recvNS), ToNS: recvNS, Exporter: e.key.addr, Domain: e.key.domain, Reason: ReasonSequence}
		if res.Unit == decode.Datagrams {
			e.loss.Reason = ReasonDatagrams
		}
	}
	e.loss.Records += lost
	e.loss.ToNS = max(e.loss.ToNS, recvNS)
}

// inRecords is about how many records so many units hold.
func (e *exporter) inRecords(n uint64) uint64 {
	x := &e.stats
	if n == 0 || x.Unit != decode.Datagrams || x.Datagrams == 0 {
		return n
	}
	return max(1, uint64(float64(n)*float64(x.Records)/float64(x.Datagrams)+.5))
}

// restarted notes the hole that an exporting process leaves when it dies and another takes its place: a transport
// session that was not heard before begins to count from zero. What the old process held is lost; how much
// cannot be known. It is told by tick, unless the old session speaks on. Domain 0, which only describes the process, holds nothing.
func (e *exporter) restarted(k Key, recvNS int64, res flowproto.Result) {
	known := e.stats.Sessions
	if len(known) == 0 || e.parallel || e.stats.ForProcess() || res.Sequence != 0 || slices.ContainsFunc(known, func(s Session) bool { return s.Key == k }) {
		return
	}
	e.restart = Loss{FromNS: e.stats.LastNS, ToNS: recvNS, Exporter: e.key.addr, Domain: e.key.domain, Reason: ReasonRestart}
}

// restartProof is how long the session before must be silent until a restart is certain.
const restartProof = 10 * time.Second

// flush ends the minute's account of losses.
func (e *exporter) flush() {
	if e.loss.Records > 0 {
		e.done = append(e.done, e.loss)
	}
	e.loss = Loss{}
}

// heard ends a silence.
func (e *exporter) heard(recvNS int64) {
	if e.toldNS != 0 && recvNS > e.toldNS {
		e.done = append(e.done, e.silence(recvNS))
		e.toldNS = 0
	}
}

func (e *exporter) silence(toNS int64) Loss {
	return Loss{FromNS: e.toldNS, ToNS: toNS, Exporter: e.key.addr, Domain: e.key.domain, Reason: ReasonSilent}
}

// maxSilence is how long a silence is told. After it the exporter is taken to be gone.
const maxSilence = 24 * time.Hour

// tick ends what is due at nowNS: the minute's losses, and a piece of silence, each twice as long as the one
// before.
func (e *exporter) tick(nowNS int64, silentAfter time.Duration) []Loss {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.minute != nowNS/int64(time.Minute) {
		e.flush()
	}
	e.rate.tick(nowNS, e.stats.Records)
	if e.restart.ToNS != 0 && nowNS-e.restart.ToNS >= int64(restartProof) {
		e.done = append(e.done, e.restart)
		e.restart = Loss{}
	}
	quiet := nowNS - e.stats.LastNS
	if e.stats.ForProcess() { // options come every ten minutes or so; no record is missing between them
		quiet = 0
	}
	if e.toldNS == 0 && quiet >= int64(silentAfter) && quiet < int64(maxSilence) {
		e.toldNS, e.nextNS = e.stats.LastNS, nowNS
	}
	if e.toldNS != 0 && nowNS >= e.nextNS && quiet < int64(maxSilence) {
		e.done = append(e.done, e.silence(nowNS))
		e.toldNS, e.nextNS = nowNS, nowNS+quiet
	}
	done := e.done
	e.done = nil
	return done
}

// Tick returns the losses that are complete at nowNS. Call it every few seconds.
func (t *Table) Tick(nowNS int64) []Loss {
	t.mu.Lock()
	out := t.found
	t.found = nil
	all := t.list()
	t.mu.Unlock()
	for _, e := range all {
		out = append(out, e.tick(nowNS, t.cfg.SilentAfter)...)
	}
	return out
}

// Flush returns all losses not yet returned, also of the minute under way.
func (t *Table) Flush() []Loss {
	t.mu.Lock()
	out := t.found
	t.found = nil
	all := t.list()
	t.mu.Unlock()
	for _, e := range all {
		e.mu.Lock()
		e.flush()
		out = append(out, e.done...)
		e.done = nil
		e.mu.Unlock()
	}
	return out
}

// list returns all exporters. The table is locked.
func (t *Table) list() []*exporter {
	all := make([]*exporter, 0, len(t.exporters))
	for _, e := range t.exporters {
		all = append(all, e)
	}
	return all
}

// reasonOf returns the reason of a decode error.
func reasonOf(err error) flowproto.Reason {
	var e *flowproto.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return flowproto.BadVersion
}
