package meter

import (
	"sync/atomic"

	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// Reasons under which the meter leaves a frame out of every record.
const (
	DropNonIP          = iota // ARP, LLDP, spanning tree …
	DropTruncated             // cut before the end of its IP header
	DropMalformed             // its headers contradict one another
	DropUnsupported           // a link type or protocol below IP that has no reader
	DropTunnelFragment        // a later fragment of a tunnel's packet: the first one counted the tenant's packet whole
)

// Meter is the metering stage. Its methods but Run are safe for concurrent use.
type Meter struct {
	cfg    Config
	frames *ledger.Book
	flows  *ledger.Book
	stats  *counters
	hasher hasher
}

// New returns a meter for c.
func New(c Config) (*Meter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Meter{
		cfg:    c,
		frames: ledger.New("meter", ledger.Frames, "non_ip", "truncated", "malformed", "unsupported", "tunnel_fragment"),
		flows:  ledger.New("flow_cache", ledger.Records),
		stats:  new(counters),
		hasher: newHasher(),
	}, nil
}

// Sampled returns a meter whose records say that one packet in n reaches it. It has the same books and figures: the two are for frames that
// were chosen differently, one after the other.
func (m *Meter) Sampled(n uint32) *Meter {
	other := *m
	other.cfg.Sampling = n
	return &other
}

// Single reports whether the meter has one worker, so that Begin is another way to run it.
func (m *Meter) Single() bool { return m.cfg.workers() == 1 }

// Books returns the accounts of frames and of flow records.
func (m *Meter) Books() []*ledger.Book { return []*ledger.Book{m.frames, m.flows} }

// counters are the meter's own figures beside the books.
type counters struct {
	packets, octets, evicted, orphans, jumps, hintsShed, namesShed atomic.Uint64
}

// Stats are figures of the meter since its start.
type Stats struct {
	Packets         uint64 // wire segments metered
	Octets          uint64 // their IP total lengths
	Flows           int64  // records under way in the cache now
	Evicted         uint64 // records that ended early because the cache was full
	FragmentOrphans uint64 // later fragments whose first one was not seen: metered with ports 0
	ClockJumps      uint64 // captures in which time went back by more than the active timeout
	HintsShed       uint64 // first messages that were not looked into: too many at a time
	NamesShed       uint64 // names that were not kept: too many
}

// Stats returns the present figures.
func (m *Meter) Stats() Stats {
	c := m.stats
	return Stats{
		Packets: c.packets.Load(), Octets: c.octets.Load(), Flows: m.flows.Read().Held,
		Evicted: c.evicted.Load(), FragmentOrphans: c.orphans.Load(), ClockJumps: c.jumps.Load(),
		HintsShed: c.hintsShed.Load(), NamesShed: c.namesShed.Load(),
	}
}

// shard is a flow cache and all that belongs to it. One goroutine owns it: all packets of its flows come to it, in their order.
type shard struct {
	cfg    *Config
	frames *ledger.Book
	flows  *ledger.Book
	stats  *counters
	hasher *hasher
	number int
	room   room

	cache cache
	wheel wheel
	frags fragments
	names names
	hints hints

	touched  uint64 // keeps the compiler from leaving the look-ahead out
	clock    int64  // nanoseconds, by which idle and active times are measured
	nextTick int64  // the wheel has nothing to do before
	hand     uint32 // where the search for a flow to evict goes on
	out      []flow.Record
	deliver  func([]flow.Record) error // to the next stage
	err      error                     // why deliver failed; nothing is delivered after
}

// newShard returns one of several workers' caches, with shared the count of the flows of all.
func (m *Meter) newShard(number int, shared *atomic.Int64) *shard {
	s := &shard{
		cfg: &m.cfg, frames: m.frames, flows: m.flows, stats: m.stats, hasher: &m.hasher, number: number,
		cache: newCache(m.cfg.MaxFlows), frags: newFragments(), names: newNames(), hints: newHints(),
	}
	s.room = room{most: int64(m.cfg.MaxFlows), used: shared}
	s.wheel.tickNS = tickNS(&m.cfg)
	return s
}

// room is what is left of the bound on flows, which workers share.
type room struct {
	most int64
	used *atomic.Int64 // written for each new flow, not for each packet
}

// take takes room for one flow, and reports whether another one must go for it.
func (r *room) take() bool { return r.used.Add(1) > r.most }
func (r *room) release()   { r.used.Add(-1) }

// blockFrames is how many packets are looked up before the first of them is counted, so that
// the memory of their flows arrives meanwhile.
const blockFrames = 32

// arrivals counts packets. It looks their places in the table up all at once, and then their flows: the processor waits for several
// of them at the same time.
func (m *shard) arrivals(all []arrival, pieces []piece) {
	var sum uint64
	for i := range all {
		sum ^= m.cache.index[m.cache.home(all[i].hash)]
	}
	for i := range all {
		sum += m.near(&all[i])
	}
	m.touched ^= sum
	var n counted
	for i := range all {
		m.one(&all[i], pieces, &n)
	}
	m.sum(&n)
}

// near finds an arrival's likely flow and brings its memory nearer. The result has no meaning.
func (m *shard) near(a *arrival) uint64 {
	number, touched := m.cache.likely(a.hash)
	if a.likely = number; number != none {
		e := m.cache.at(number)
		touched += e.rest[0] + e.rest[restWords-1] // what the lines between hold is on these
	}
	return touched
}

// counted is what a run of packets adds to the figures.
type counted struct {
	frames          int
	packets, octets uint64
}

// one counts an arrival.
func (m *shard) one(a *arrival, pieces []piece, n *counted) {
	if !m.cfg.Live {
		m.setClock(a.timeNS)
	}
	if a.pieceAt != noPiece {
		if a.learn {
			m.learn(pieces[a.pieceAt].around, fragPorts{tunnel: true})
			return
		}
		if !m.join(a, &pieces[a.pieceAt]) {
			return
		}
	}
	m.count(a)
	n.frames++
	n.packets += a.size.packets
	n.octets += a.size.octets
}

// sum puts what was counted into the figures.
func (m *shard) sum(n *counted) {
	m.frames.Out(n.frames)
	m.stats.packets.Add(n.packets)
	m.stats.octets.Add(n.octets)
}
