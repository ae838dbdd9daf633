package meter

import (
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// fragments joins the fragments of IP packets, of which only the first one carries ports, to their
// flow. Both its tables are bounded; what finds no room or no first fragment in time is metered with
// ports 0.
type fragments struct {
	known map[fragKey]fragPorts
	order []fragKey // of known, oldest first: a ring
	next  int       // place in order for the next one
	held  []heldFragment
}

const (
	maxKnown     = 4096             // packets whose first fragment was seen
	knownTimeout = 30 * time.Second // a first fragment's identification is believed for so long
	maxHeld      = 256              // later fragments that wait for their first one
	heldTimeout  = time.Second
)

// fragKey names one fragmented packet (RFC 791, section 3.2) at one place of one segment.
type fragKey struct {
	src, dst           flow.Addr
	outerSrc, outerDst flow.Addr
	segment            flow.Segment
	id                 uint32
	point              uint32
	proto              uint8
	dir                frame.Direction
}

// fragPorts is what the first fragment says of all.
type fragPorts struct {
	ports    uint32 // or the ICMP type and code
	tunnel   bool   // its payload is a tunnel and was metered as the packet inside
	deadline int64
}

type heldFragment struct {
	key      fragKey
	arrival  arrival
	deadline int64
}

func newFragments() fragments {
	return fragments{known: make(map[fragKey]fragPorts)}
}

// piece is what there is to know of a frame with a fragmented packet.
type piece struct {
	own    fragKey // of the metered packet, when it is a fragment itself
	around fragKey // of a first fragment around it
	isOwn  bool
	later  bool // the metered packet is a fragment other than the first
	inside bool
}

// set notes the fragments at level i of a frame and around it.
func (pc *piece) set(f *frame.Frame, p *dissect.Packet, i int, tunnel bool) {
	lv := &p.Levels[i]
	*pc = piece{isOwn: lv.MoreFrags || lv.FragOff != 0, later: lv.FragOff != 0}
	if pc.isOwn {
		pc.own = fragKeyOf(f, p, i)
	}
	if !tunnel {
		return
	}
	for j := range i {
		if p.Levels[j].MoreFrags { // a first fragment, else there would be no level inside
			pc.around, pc.inside = fragKeyOf(f, p, j), true
		}
	}
}

// join completes the key of a fragment. It returns false when the fragment is not to be counted, or
// not yet.
func (m *shard) join(a *arrival, pc *piece) bool {
	if pc.inside {
		m.learn(pc.around, fragPorts{tunnel: true})
	}
	if !pc.isOwn {
		return true
	}
	a.marks |= flow.MarkFragments
	if !pc.later {
		m.learn(pc.own, fragPorts{ports: a.key.ports()})
		return true
	}
	first, ok := m.frags.known[pc.own]
	switch {
	case !ok || first.deadline <= m.clock:
		m.hold(pc.own, a)
		return false
	case first.tunnel:
		m.frames.Drop(DropTunnelFragment, 1)
		return false
	}
	a.key.setPorts(first.ports)
	a.hash, a.likely = m.hasher.hash(&a.key), none
	return true
}

func fragKeyOf(f *frame.Frame, p *dissect.Packet, i int) fragKey {
	lv := &p.Levels[i]
	k := fragKey{
		src: lv.Src, dst: lv.Dst, segment: lv.Segment,
		id: lv.IPID, point: f.Point, dir: f.Dir,
	}
	if lv.EtherType == 0x0800 { // in IPv6 the protocol of a later fragment is not always known
		k.proto = lv.Proto
	}
	if i > 0 {
		k.outerSrc, k.outerDst = p.Levels[i-1].Src, p.Levels[i-1].Dst
	}
	return k
}

// key returns a metering key with the parts that choose the worker.
func (fk *fragKey) key() *key {
	k := key{8: uint64(fk.segment)}
	k[4], k[5] = words(&fk.src)
	k[6], k[7] = words(&fk.dst)
	return &k
}

// learn remembers a first fragment and counts the later ones that came before it.
func (m *shard) learn(k fragKey, first fragPorts) {
	fr := &m.frags
	first.deadline = m.clock + int64(knownTimeout)
	if _, ok := fr.known[k]; !ok {
		if len(fr.order) < maxKnown {
			fr.order = append(fr.order, k)
		} else {
			delete(fr.known, fr.order[fr.next])
			fr.order[fr.next] = k
			fr.next = (fr.next + 1) % maxKnown
		}
	}
	fr.known[k] = first
	kept := fr.held[:0]
	for n := range fr.held {
		h := &fr.held[n]
		if h.key != k {
			kept = append(kept, *h)
			continue
		}
		if first.tunnel {
			m.frames.Hold(-1)
			m.frames.Drop(DropTunnelFragment, 1)
			continue
		}
		h.arrival.key.setPorts(first.ports)
		m.countHeld(&h.arrival)
	}
	fr.held = kept
}

// hold keeps a later fragment until its first one comes.
func (m *shard) hold(k fragKey, a *arrival) {
	fr := &m.frags
	if len(fr.held) == maxHeld {
		m.orphan(1)
	}
	fr.held = append(fr.held, heldFragment{key: k, arrival: *a, deadline: m.clock + int64(heldTimeout)})
	m.nextTick = min(m.nextTick, fr.held[0].deadline)
	m.frames.Hold(1)
}

// orphan counts the n fragments that have waited longest, with ports 0.
func (m *shard) orphan(n int) {
	fr := &m.frags
	for i := range n {
		m.stats.orphans.Add(1)
		m.countHeld(&fr.held[i].arrival)
	}
	fr.held = fr.held[:copy(fr.held, fr.held[n:])]
}

func (m *shard) countHeld(a *arrival) {
	a.hash, a.likely = m.hasher.hash(&a.key), none
	m.count(a)
	m.frames.Hold(-1)
	m.frames.Out(1)
	m.stats.packets.Add(a.size.packets)
	m.stats.octets.Add(a.size.octets)
}

// flush counts all fragments that wait and forgets the rest.
func (fr *fragments) flush(m *shard) {
	m.orphan(len(fr.held))
	clear(fr.known)
	fr.order, fr.next = fr.order[:0], 0
}
