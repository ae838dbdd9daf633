package meter

import (
	"context"
	"sync/atomic"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
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
	stats  counters

	hasher hasher
	cache  cache
	wheel  wheel
	frags  fragments
	packet dissect.Packet
	ahead  [blockFrames]arrival
	pieces [blockFrames]piece // of the arrivals that are fragments

	touched  uint64 // keeps the compiler from leaving the look-ahead out
	clock    int64  // nanoseconds, by which idle and active times are measured
	nextTick int64  // the wheel has nothing to do before
	hand     uint32 // where the search for a flow to evict goes on
	out      []flow.Record
	deliver  func([]flow.Record) error // to the next stage; called from Run alone
	err      error                     // why deliver failed; nothing is delivered after
}

// blockFrames is how many frames are dissected before the first of them is counted, so that
// the memory of their flows arrives meanwhile.
const blockFrames = 32

// arrival is one packet on its way into the cache.
type arrival struct {
	key        key
	hash       uint64
	size       size
	timeNS     int64
	outerPorts uint32
	likely     uint32 // number of its flow, when nothing changes until its turn
	tcpFlags   uint16
	marks      flow.Mark
	tos        uint8
	ttl        uint8
	piece      bool // it is a fragment, or inside one
}

// New returns a meter for c.
func New(c Config) (*Meter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Meter{
		cfg:    c,
		frames: ledger.New("meter", ledger.Frames, "non_ip", "truncated", "malformed", "unsupported", "tunnel_fragment"),
		flows:  ledger.New("flow_cache", ledger.Records),
		hasher: newHasher(),
		frags:  newFragments(),
	}
	// Fine enough that a record leaves soon after its time, coarse enough that a full wheel covers
	// the usual timeouts.
	m.wheel.tickNS = int64(min(max(min(c.IdleTimeout, c.ActiveTimeout)/64, time.Millisecond), 250*time.Millisecond))
	return m, nil
}

// Books returns the accounts of frames and of flow records.
func (m *Meter) Books() []*ledger.Book { return []*ledger.Book{m.frames, m.flows} }

// counters are the meter's own figures beside the books.
type counters struct {
	packets, octets, evicted, orphans, jumps atomic.Uint64
}

// Stats are figures of the meter since its start.
type Stats struct {
	Packets         uint64 // wire segments metered
	Octets          uint64 // their IP total lengths
	Flows           int64  // in the cache now
	Evicted         uint64 // flows ended early because the cache was full
	FragmentOrphans uint64 // later fragments whose first one was not seen: metered with ports 0
	ClockJumps      uint64 // captures in which time went back by more than the active timeout
}

// Stats returns the present figures.
func (m *Meter) Stats() Stats {
	return Stats{
		Packets: m.stats.packets.Load(), Octets: m.stats.octets.Load(), Flows: m.flows.Read().Held,
		Evicted: m.stats.evicted.Load(), FragmentOrphans: m.stats.orphans.Load(), ClockJumps: m.stats.jumps.Load(),
	}
}

// Run meters every batch from in, which it releases, until in is closed; then it ends all flows. Records
// go to out in slices that belong to the receiver. Run does not close out. It returns early, with ctx's error,
// only when ctx ends.
func (m *Meter) Run(ctx context.Context, in <-chan frame.Batch, out chan<- []flow.Record) error {
	m.cache = newCache(m.cfg.MaxFlows)
	defer m.cache.release()
	var tick <-chan time.Time
	started := time.Now()
	if m.cfg.Live {
		t := time.NewTicker(max(time.Duration(m.wheel.tickNS), 20*time.Millisecond))
		defer t.Stop()
		tick = t.C
		m.clock = started.UnixNano()
		m.wheel.tick = m.clock / m.wheel.tickNS
	}
	now := func() int64 { return started.UnixNano() + int64(time.Since(started)) } // steady, unlike the wall clock
	m.deliver = func(records []flow.Record) error {
		select {
		case out <- records:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for m.err == nil {
		select {
		case b, ok := <-in:
			if !ok {
				m.flush(flow.EndForced)
				m.pass()
				return m.err
			}
			if m.cfg.Live {
				m.advance(now())
			}
			m.batch(b.Frames)
			b.Release()
		case <-tick:
			m.advance(now())
		case <-ctx.Done():
			return ctx.Err()
		}
		if m.cfg.Live {
			m.pass()
		}
	}
	return m.err
}

// recordsPerSlice is how many records travel together when there is no hurry.
const recordsPerSlice = 256

// pass sends the finished records on. When that fails, they stay in the books as held.
func (m *Meter) pass() {
	if len(m.out) == 0 || m.err != nil {
		m.out = m.out[:0]
		return
	}
	n := len(m.out)
	if m.err = m.deliver(m.out); m.err == nil {
		m.flows.Hold(-n)
		m.flows.Out(n)
	}
	m.out = nil
}

// batch meters frames.
func (m *Meter) batch(frames []frame.Frame) {
	m.frames.In(len(frames))
	for len(frames) > 0 {
		n := min(len(frames), blockFrames)
		m.block(frames[:n])
		frames = frames[n:]
	}
}

// block dissects frames, then looks their flows up all at once (the processor waits for several of
// them at the same time), then counts them.
func (m *Meter) block(frames []frame.Frame) {
	n := 0
	for i := range frames {
		if m.arrive(&m.ahead[n], &m.pieces[n], &frames[i]) {
			n++
		}
	}
	var sum uint64
	for i := range m.ahead[:n] {
		a := &m.ahead[i]
		number, touched := m.cache.likely(a.hash)
		a.likely = number
		sum += touched
	}
	m.touched ^= sum
	var packets, octets uint64
	waiting := 0
	for i := range m.ahead[:n] {
		a := &m.ahead[i]
		if !m.cfg.Live {
			m.setClock(a.timeNS)
		}
		if a.piece && !m.join(a, &m.pieces[i]) {
			waiting++
			continue
		}
		m.count(a)
		packets += a.size.packets
		octets += a.size.octets
	}
	m.frames.Out(n - waiting)
	m.stats.packets.Add(packets)
	m.stats.octets.Add(octets)
}

// arrive dissects a frame. It returns false for one that is not metered.
func (m *Meter) arrive(a *arrival, pc *piece, f *frame.Frame) bool {
	p := &m.packet
	m.cfg.Dissector.Dissect(p, f.Link, f.Data, f.OrigLen)
	i := p.NLevels - 1
	if !p.Levels[i].HasIP {
		var drop int
		if i, drop = innermostIP(p); i < 0 {
			m.frames.Drop(drop, 1)
			return false
		}
	}
	lv := &p.Levels[i]
	keyOf(&a.key, f, p, i)
	a.size = sizeOf(f, p, i)
	a.timeNS = f.TimeNS
	a.tcpFlags, a.tos, a.ttl = lv.TCPFlags, lv.ToS, lv.TTL
	a.marks, a.outerPorts = 0, 0
	if p.Issues&dissect.Truncated != 0 {
		a.marks = flow.MarkTruncated
	}
	fragmented := lv.MoreFrags || lv.FragOff != 0
	for j := range i {
		out := &p.Levels[j]
		a.outerPorts = uint32(out.SrcPort)<<16 | uint32(out.DstPort)
		fragmented = fragmented || out.MoreFrags
	}
	if a.piece = fragmented; fragmented {
		pc.set(f, p, i)
	}
	a.hash = m.hasher.hash(&a.key)
	m.touched ^= m.cache.index[m.cache.home(a.hash)]
	return true
}

// innermostIP finds what to meter of a frame whose innermost level has no IP packet: nothing when that is
// what the frame carries, the level around it when the frame is cut or damaged there. Without one it
// returns -1 and the reason.
func innermostIP(p *dissect.Packet) (level, drop int) {
	switch {
	case p.Issues&dissect.Truncated != 0:
		drop = DropTruncated
	case p.Issues&(dissect.Malformed|dissect.Deep) != 0:
		drop = DropMalformed
	case p.Issues&dissect.Unsupported != 0 && p.NLayers == 0:
		return -1, DropUnsupported
	default:
		return -1, DropNonIP
	}
	for i := p.NLevels - 2; i >= 0; i-- {
		if p.Levels[i].HasIP {
			return i, drop
		}
	}
	return -1, drop
}
