package meter

import (
	"math"

	"crosstap/internal/flow"
)

// TCP control bits (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
)

// latestNS is a time beyond which a frame's time stamp does not move the clock: sums with timeouts
// must not overflow.
const latestNS = math.MaxInt64 / 2

// setClock moves the clock of a capture to a frame's time. It never goes back, except where
// the capture itself begins anew at an earlier time: then all flows end first.
func (m *Meter) setClock(ns int64) {
	ns = min(max(ns, 0), latestNS)
	if ns >= m.nextTick || ns < m.clock-int64(m.cfg.ActiveTimeout) {
		if ns < m.clock {
			m.flush(flow.EndForced)
			m.stats.jumps.Add(1)
			m.wheel.tick = ns / m.wheel.tickNS
			m.nextTick = 0
			m.clock = ns
		}
		m.advance(ns)
	} else if ns > m.clock {
		m.clock = ns
	}
}

// advance moves the clock forward and ends the flows whose time has come.
func (m *Meter) advance(ns int64) {
	m.clock = max(m.clock, ns)
	w := &m.wheel
	last := m.clock / w.tickNS
	m.nextTick = (last + 1) * w.tickNS
	if m.cache.n > 0 && last-w.tick > wheelSlots {
		w.tick = last - wheelSlots
	}
	for m.cache.n > 0 && w.tick < last {
		w.tick++
		m.slot(uint32(w.tick & wheelMask))
	}
	w.tick = last
	m.frags.expire(m)
	if len(m.frags.held) > 0 {
		m.nextTick = min(m.nextTick, m.frags.held[0].deadline)
	}
}

// slot looks at all flows of a slot: the ones whose time has come end, the others go to the slot of
// their next moment.
func (m *Meter) slot(slot uint32) {
	at := m.wheel.heads[slot]
	m.wheel.heads[slot] = 0
	for at != 0 {
		number := at - 1
		e := m.cache.at(number)
		at = e.next
		ends, reason := m.ends(e)
		if ends <= m.clock {
			m.emit(e, reason)
			m.forget(number)
		} else {
			m.wheel.put(&m.cache, number, ends)
		}
	}
}

// ends returns the earliest moment at which the flow may end, and why.
func (m *Meter) ends(e *entry) (int64, flow.EndReason) {
	ends, reason := e.closeClock, flow.EndDetected
	if t := e.startClock + int64(m.cfg.ActiveTimeout); t < ends {
		ends, reason = t, flow.EndActive
	}
	if t := e.lastClock + int64(m.cfg.IdleTimeout); t < ends {
		ends, reason = t, flow.EndIdle
	}
	return ends, reason
}

// count adds a packet to its flow.
func (m *Meter) count(a *arrival) {
	number := a.likely
	if !m.cache.is(number, &a.key) {
		var ok bool
		if number, ok = m.cache.find(a.hash, &a.key); !ok {
			m.begin(a)
			return
		}
	}
	e := m.cache.at(number)
	if ends, reason := m.ends(e); ends <= m.clock || e.closeClock != noClose && a.tcpFlags&tcpSYN != 0 {
		if ends > m.clock {
			reason = flow.EndDetected // the ports are used again
		}
		m.emit(e, reason)
		m.restart(e, a)
		m.wheel.take(&m.cache, number)
		ends, _ = m.ends(e)
		m.wheel.put(&m.cache, number, ends)
		return
	}
	e.packets += a.size.packets
	e.octets += a.size.octets
	e.l2Octets += a.size.l2Octets
	e.lastClock = m.clock
	e.firstNS = min(e.firstNS, a.timeNS)
	e.lastNS = max(e.lastNS, a.timeNS)
	e.minTTL = min(e.minTTL, a.ttl)
	e.maxTTL = max(e.maxTTL, a.ttl)
	e.tcpFlags |= a.tcpFlags
	e.marks |= a.marks
	if a.tcpFlags&(tcpFIN|tcpRST) != 0 && e.closeClock == noClose && a.key.proto() == protoTCP {
		e.closeClock = m.clock + int64(m.cfg.CloseLinger)
		m.wheel.take(&m.cache, number)
		ends, _ := m.ends(e)
		m.wheel.put(&m.cache, number, ends)
	}
}

const protoTCP = 6

// begin makes a flow of its first packet.
func (m *Meter) begin(a *arrival) {
	if m.cache.n >= m.cfg.MaxFlows {
		m.evict()
	}
	number := m.cache.add(a.hash, &a.key)
	e := m.cache.at(number)
	m.restart(e, a)
	ends, _ := m.ends(e)
	m.wheel.put(&m.cache, number, ends)
}

// restart sets an entry to one packet.
func (m *Meter) restart(e *entry, a *arrival) {
	e.packets, e.octets, e.l2Octets = a.size.packets, a.size.octets, a.size.l2Octets
	e.firstNS, e.lastNS = a.timeNS, a.timeNS
	e.startClock, e.lastClock, e.closeClock = m.clock, m.clock, noClose
	e.tcpFlags, e.marks, e.outerPorts = a.tcpFlags, a.marks, a.outerPorts
	e.tos, e.minTTL, e.maxTTL = a.tos, a.ttl, a.ttl
	e.firstFlags = uint8(a.tcpFlags)
	e.live = true
	if a.tcpFlags&(tcpFIN|tcpRST) != 0 && a.key.proto() == protoTCP {
		e.closeClock = m.clock + int64(m.cfg.CloseLinger)
	}
	m.flows.In(1)
	m.flows.Hold(1)
}

// evict ends the flow that was quiet for longest among the next few: close to the oldest of all, at
// a fixed price.
func (m *Meter) evict() {
	const few = 8
	best := uint32(0)
	var bestEntry *entry
	for seen := 0; seen < few && seen < m.cache.n; {
		m.hand++
		if m.hand >= m.cache.used {
			m.hand = 0
		}
		e := m.cache.at(m.hand)
		if !e.live {
			continue
		}
		seen++
		if bestEntry == nil || e.lastClock < bestEntry.lastClock {
			best, bestEntry = m.hand, e
		}
	}
	m.emit(bestEntry, flow.EndResource)
	m.wheel.take(&m.cache, best)
	m.forget(best)
	m.stats.evicted.Add(1)
}

// forget takes a flow, which is in no slot of the wheel any more, out of the cache.
func (m *Meter) forget(number uint32) {
	e := m.cache.at(number)
	e.live = false
	m.cache.remove(m.hasher.hash(&e.key), number)
}

// flush ends all flows, for that reason unless their time has come anyhow.
func (m *Meter) flush(reason flow.EndReason) {
	m.frags.flush(m)
	for number := range m.cache.used {
		if e := m.cache.at(number); e.live {
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

// emit appends the flow's record to the finished ones.
func (m *Meter) emit(e *entry, reason flow.EndReason) {
	if m.out == nil && !m.cfg.Live {
		m.out = make([]flow.Record, 0, recordsPerSlice)
	}
	m.out = append(m.out, flow.Record{})
	r := &m.out[len(m.out)-1]
	e.key.put(r)
	r.StartNS, r.EndNS = e.firstNS, e.lastNS
	r.Packets, r.Octets, r.L2Octets = e.packets, e.octets, e.l2Octets
	r.TCPFlags, r.ToS, r.MinTTL, r.MaxTTL = e.tcpFlags, e.tos, e.minTTL, e.maxTTL
	r.FirstTCPFlags = e.firstFlags
	r.Marks, r.EndReason = e.marks, reason
	r.Tunnel.SrcPort, r.Tunnel.DstPort = uint16(e.outerPorts>>16), uint16(e.outerPorts)
	r.Domain, r.Sampling = m.cfg.Domain, max(m.cfg.Sampling, 1)
	if r.Sampling > 1 {
		r.Marks |= flow.MarkSampled
	}
	m.place(r, e.key.point())
	if len(m.out) == recordsPerSlice {
		m.pass()
	}
}

// place says where the flow was observed.
func (m *Meter) place(r *flow.Record, index uint32) {
	p := Point{ID: uint64(index)}
	if m.cfg.Point != nil {
		p = m.cfg.Point(index)
	}
	r.Point, r.Role, r.Observer, r.ObserverHost = p.ID, p.Role, p.Name, p.Host
	switch r.Direction {
	case 0:
		r.InIf = p.IfIndex
	case 1:
		r.OutIf = p.IfIndex
	}
}
