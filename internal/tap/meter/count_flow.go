package meter

import (
	"math"

	"crosstap/internal/flow"
	"crosstap/internal/wire"
)

// latestNS is a time beyond which a frame's time stamp does not move the clock: sums with timeouts
// must not overflow.
const latestNS = math.MaxInt64 / 2

// setClock moves the clock of a capture to a frame's time. It never goes back, except where
// the capture itself begins anew at an earlier time: then all flows end first.
func (m *shard) setClock(ns int64) {
	ns = min(max(ns, 0), latestNS)
	if ns >= m.nextTick || ns < m.clock-int64(m.cfg.ActiveTimeout) {
		if ns < m.clock {
			m.flush(flow.EndForced)
			m.jumped()
			m.wheel.tick = ns / m.wheel.tickNS
			m.nextTick = 0
			m.clock = ns
		}
		m.advance(ns)
	} else if ns > m.clock {
		m.clock = ns
	}
}

// advance moves the clock forward and ends the flows whose time has come. Fragments that waited in vain are counted at the moment when
// their wait ends, however far the clock moves at once.
func (m *shard) advance(ns int64) {
	ns = max(m.clock, ns)
	for len(m.frags.held) > 0 && m.frags.held[0].deadline <= ns {
		m.turn(max(m.clock, m.frags.held[0].deadline))
		m.orphan(1)
	}
	m.turn(ns)
	m.nextTick = (ns/m.wheel.tickNS + 1) * m.wheel.tickNS
	if len(m.frags.held) > 0 {
		m.nextTick = min(m.nextTick, m.frags.held[0].deadline)
	}
}

// turn turns the wheel to a moment.
func (m *shard) turn(ns int64) {
	m.clock = ns
	w := &m.wheel
	last := ns / w.tickNS
	if m.cache.n > 0 && last-w.tick > wheelSlots {
		w.tick = last - wheelSlots
	}
	for m.cache.n > 0 && w.tick < last {
		w.tick++
		m.slot(uint32(w.tick & wheelMask))
	}
	w.tick = last
}

// jumped counts a step back in time, once for all workers.
func (m *shard) jumped() {
	if m.number == 0 {
		m.stats.jumps.Add(1)
	}
}

// slot looks at all flows of a slot: the ones whose time has come end, the others go to the slot of
// their next moment. So does a flow that ended because of the active timeout: it may go on.
func (m *shard) slot(slot uint32) {
	at := m.wheel.heads[slot]
	m.wheel.heads[slot] = 0
	for at != 0 {
		number := at - 1
		e := m.cache.at(number)
		at = e.next
		ends, reason := m.ends(e)
		if ends <= m.clock {
			m.emit(e, reason)
			if reason != flow.EndActive {
				m.forget(number)
				continue
			}
			e.deadline = noDeadline
			ends, _ = m.ends(e)
		}
		m.wheel.put(&m.cache, number, ends)
	}
}

// ends returns the earliest moment at which the flow may end, and why. e is the half that leads.
func (m *shard) ends(e *entry) (int64, flow.EndReason) {
	ends, reason := e.deadline, flow.EndActive
	if e.state&sClosing != 0 {
		reason = flow.EndDetected
	}
	if t := e.lastClock + int64(m.cfg.IdleTimeout); t < ends {
		ends, reason = t, flow.EndIdle
	}
	return ends, reason
}

// count adds a packet to its flow.
func (m *shard) count(a *arrival) {
	number := a.likely
	if !m.cache.is(number, &a.key) {
		var ok bool
		if number, ok = m.cache.find(a.hash, &a.key); !ok {
			m.begin(a)
			return
		}
	}
	e := m.cache.at(number)
	lead := e
	if e.state&sFollows != 0 {
		lead = m.cache.at(e.peer - 1)
	}
	if ends, reason := m.ends(lead); ends <= m.clock || lead.state&sClosing != 0 && a.tcpFlags&tcpSYN != 0 {
		if ends > m.clock {
			reason = flow.EndDetected // the ports are used again
		}
		m.emit(lead, reason)
		lead.deadline = noDeadline
		if reason != flow.EndActive {
			m.fresh(number)
			if e.peer != 0 {
				m.fresh(e.peer - 1)
			}
		}
	}
	if e.packets == 0 {
		m.open(e, lead, a)
	} else {
		e.add(a)
	}
	lead.lastClock = m.clock
	m.follow(number, lead, a)
}

// add counts a packet that is not its record's first.
func (e *entry) add(a *arrival) {
	e.packets += a.size.packets
	e.octets += a.size.octets
	e.l2Octets += a.size.l2Octets
	e.at(a.timeNS)
	e.minTTL = min(e.minTTL, a.ttl)
	e.maxTTL = max(e.maxTTL, a.ttl)
	e.minLen = min(e.minLen, a.size.minLen)
	e.maxLen = max(e.maxLen, a.size.maxLen)
	e.tcpFlags |= a.tcpFlags
}

// at notes the time of a packet that is not its record's first.
func (e *entry) at(ns int64) {
	if ns >= e.lastNS {
		e.lastNS = ns
	} else {
		e.firstNS = min(e.firstNS, ns)
	}
}

// open begins a record with a packet.
func (m *shard) open(e, lead *entry, a *arrival) {
	e.packets, e.octets, e.l2Octets = a.size.packets, a.size.octets, a.size.l2Octets
	e.firstNS, e.lastNS = a.timeNS, a.timeNS
	e.minLen, e.maxLen = a.size.minLen, a.size.maxLen
	e.fragments, e.rttUS, e.retransmits, e.zeroWindows = 0, 0, 0, 0
	e.tcpFlags, e.outerPorts, e.vifs = a.tcpFlags, a.outerPorts, a.vifs
	e.tos, e.minTTL, e.maxTTL = a.tos, a.ttl, a.ttl
	e.firstFlags = uint8(a.tcpFlags)
	e.state &^= sTruncated | sSyn
	if lead.deadline == noDeadline {
		lead.deadline = m.clock + int64(m.cfg.ActiveTimeout)
	}
	m.flows.In(1)
	m.flows.Hold(1)
}

// follow does for a packet what only some flows need: marks, the metrics of TCP, the search for the application, the end of
// a connection.
func (m *shard) follow(number uint32, lead *entry, a *arrival) {
	e := m.cache.at(number)
	if a.marks != 0 {
		if a.marks&flow.MarkFragments != 0 {
			e.fragments += uint32(a.size.packets)
		}
		if a.marks&flow.MarkTruncated != 0 {
			e.state |= sTruncated
		}
	}
	if a.key.proto() == wire.ProtoTCP {
		if a.tcpFlags&tcpSYN != 0 && e.packets == a.size.packets {
			e.openTCP(a)
		}
		e.tcp(a)
		if a.tcpFlags&(tcpFIN|tcpRST) != 0 {
			m.close(number, lead, a)
		}
	}
	if e.state&sLook != 0 && len(a.payload) > 0 {
		m.look(number, a)
	}
}

// close ends a TCP flow a little later: after a reset, after its own FIN, or, in a biflow, after the FINs of both directions.
func (m *shard) close(number uint32, lead *entry, a *arrival) {
	e := m.cache.at(number)
	e.state |= sFin
	if e.peer != 0 && a.tcpFlags&tcpRST == 0 && m.cache.at(e.peer-1).state&sFin == 0 || lead.state&sClosing != 0 {
		return
	}
	lead.state |= sClosing
	lead.deadline = min(lead.deadline, m.clock+int64(m.cfg.CloseLinger))
	at := number
	if e.state&sFollows != 0 {
		at = e.peer - 1
	}
	m.wheel.take(&m.cache, at)
	ends, _ := m.ends(lead)
	m.wheel.put(&m.cache, at, ends)
}

// begin makes a flow of its first packet.
func (m *shard) begin(a *arrival) {
	if m.room.take() {
		m.evict()
	}
	number := m.cache.add(a.hash, &a.key)
	e := m.cache.at(number)
	e.peer, e.state, e.about, e.packets = 0, sLive, 0, 0
	e.deadline, e.lastClock = noDeadline, m.clock
	m.fresh(number)
	lead := e
	if m.cfg.Biflow {
		lead = m.pair(number)
	}
	m.open(e, lead, a)
	if lead.lastClock = m.clock; lead == e {
		ends, _ := m.ends(e)
		m.wheel.put(&m.cache, number, ends)
	}
	m.follow(number, lead, a)
}

// fresh forgets what a flow knows of the conversation that has ended.
func (m *shard) fresh(number uint32) {
	e := m.cache.at(number)
	m.names.give(e.about.name())
	m.dropPart(number)
	e.about, e.app = 0, 0
	e.state &^= sClosing | sSeq | sSyn | sFin | sLook
	e.gapAt = 0
	if p := e.brief.proto(); p == wire.ProtoTCP || p == wire.ProtoUDP {
		e.state |= sLook
	}
}

// evict ends the flow that was quiet for longest among the next few: close to the oldest of all, at
// a fixed price.
func (m *shard) evict() {
	const few = 8
	best := uint32(none)
	for seen := 0; seen < few && seen < m.cache.n; {
		m.hand++
		if m.hand >= m.cache.used {
			m.hand = 0
		}
		e := m.cache.at(m.hand)
		if e.state&sLive == 0 {
			continue
		}
		seen++
		number := m.hand
		if e.state&sFollows != 0 {
			number = e.peer - 1
			e = m.cache.at(number)
		}
		if best == none || e.lastClock < m.cache.at(best).lastClock {
			best = number
		}
	}
	if best == none { // the other workers have all the room
		return
	}
	e := m.cache.at(best)
	m.stats.evicted.Add(m.halves(e))
	m.emit(e, flow.EndResource)
	m.wheel.take(&m.cache, best)
	m.forget(best)
}

// halves returns how many records the flow would give now.
func (m *shard) halves(e *entry) (n uint64) {
	if e.packets > 0 {
		n++
	}
	if e.peer != 0 && m.cache.at(e.peer-1).packets > 0 {
		n++
	}
	return n
}

// forget takes a flow, which is in no slot of the wheel any more, out of the cache, with its other half.
func (m *shard) forget(number uint32) {
	e := m.cache.at(number)
	if e.peer != 0 {
		m.remove(e.peer - 1)
	}
	m.remove(number)
}

func (m *shard) remove(number uint32) {
	e := m.cache.at(number)
	m.names.give(e.about.name())
	m.dropPart(number)
	e.state, e.peer = 0, 0
	k := e.key()
	m.cache.remove(m.hasher.hash(&k), number)
	m.room.release()
}

// flush ends all flows, for that reason unless their time has come anyhow.
func (m *shard) flush(reason flow.EndReason) {
	m.frags.flush(m)
	for number := range m.cache.used {
		if e := m.cache.at(number); e.state&(sLive|sFollows) == sLive {
			why := reason
			if ends, due := m.ends(e); ends <= m.clock {
				why = due
			}
			m.emit(e, why)
			m.wheel.take(&m.cache, number)
			m.forget(number)
		}
	}
}
