package meter

import (
	"crosstap/internal/apphint"
	"crosstap/internal/flow"
)

// recordsPerSlice is how many records travel together when there is no hurry.
const recordsPerSlice = 256

// emit appends the flow's record to the finished ones, of a biflow both halves: first that of who opened it. The flow has no packets
// after.
func (m *shard) emit(e *entry, reason flow.EndReason) {
	if len(m.out)+2 > recordsPerSlice {
		m.pass()
	}
	if m.out == nil && !m.cfg.Live {
		m.out = make([]flow.Record, 0, recordsPerSlice)
	}
	first, second := e, (*entry)(nil)
	if e.peer != 0 {
		second = m.cache.at(e.peer - 1)
		if second.opened(first) {
			first, second = second, first
		}
	}
	if first.packets == 0 {
		first, second = second, nil
	} else if second != nil && second.packets == 0 {
		second = nil
	}
	if first == nil || first.packets == 0 {
		return
	}
	m.record(first, reason)
	if second == nil {
		return
	}
	m.record(second, reason)
	pair := m.out[len(m.out)-2:]
	pair[1].Marks |= flow.MarkReverse
	shareHint(&pair[0], &pair[1])
}

// opened reports whether e is the half of who opened the conversation: of who sent the SYN, else of who was seen first.
func (e *entry) opened(other *entry) bool {
	switch {
	case (e.about|other.about)&(openedHere|openedThere) == 0:
		return e.packets > 0 && other.packets > 0 && e.firstNS < other.firstNS
	case other.about&openedHere != 0 || e.about&openedThere != 0 && e.about&openedHere == 0:
		return false
	}
	return true
}

// record appends the record of one direction.
func (m *shard) record(e *entry, reason flow.EndReason) {
	m.out = append(m.out, flow.Record{})
	r := &m.out[len(m.out)-1]
	k := e.key()
	k.put(r)
	r.StartNS, r.EndNS = e.firstNS, e.lastNS
	r.Packets, r.Octets, r.L2Octets = e.packets, e.octets, e.l2Octets
	r.TCPFlags, r.ToS, r.MinTTL, r.MaxTTL = e.tcpFlags, e.tos, e.minTTL, e.maxTTL
	r.FirstTCPFlags = e.firstFlags
	r.MinLen, r.MaxLen, r.Fragments = e.minLen, e.maxLen, e.fragments
	r.RTTUS, r.Retransmits, r.ZeroWindows = e.rttUS, e.retransmits, e.zeroWindows
	r.SrcVIF, r.DstVIF = uint16(e.vifs>>16), uint16(e.vifs)
	r.EndReason = reason
	r.Tunnel.SrcPort, r.Tunnel.DstPort = uint16(e.outerPorts>>16), uint16(e.outerPorts)
	r.Domain, r.Sampling = m.cfg.Domain, max(m.cfg.Sampling, 1)
	if r.Sampling > 1 {
		r.Marks |= flow.MarkSampled
	}
	if e.fragments > 0 {
		r.Marks |= flow.MarkFragments
	}
	if e.state&sTruncated != 0 {
		r.Marks |= flow.MarkTruncated
	}
	switch {
	case e.about&openedHere != 0:
		r.Client = flow.ClientSrc
	case e.about&openedThere != 0:
		r.Client = flow.ClientDst
	}
	m.hint(r, e)
	m.place(r, k.point())
	e.packets = 0
}

// hint says which application the record is of, and how that is known.
func (m *shard) hint(r *flow.Record, e *entry) {
	r.AppHow = e.about.how()
	if r.AppHow == flow.AppUnknown {
		r.App, r.AppHow = apphint.ByPort(r.Proto, r.SrcPort, r.DstPort, r.Client)
		return
	}
	r.App = apphint.App(e.app).Service(r.Proto, r.SrcPort, r.DstPort)
	r.AppName = m.names.text(e.about.name())
}

// shareHint gives both halves of a biflow what either of them is known for.
func shareHint(a, b *flow.Record) {
	if b.AppHow > a.AppHow || b.AppHow == a.AppHow && a.AppName == "" {
		a, b = b, a
	}
	b.App, b.AppHow, b.AppName = a.App, a.AppHow, a.AppName
}

// place says where the flow was observed.
func (m *shard) place(r *flow.Record, index uint32) {
	p := Point{ID: uint64(index)}
	if m.cfg.Point != nil {
		p = m.cfg.Point(index)
	}
	r.Point, r.Role, r.Observer, r.ObserverHost = p.ID, p.Role, p.Name, p.Host
	switch r.Direction {
	case 0:
		r.InIf, r.InIfName = p.IfIndex, p.IfName
	case 1:
		r.OutIf, r.OutIfName = p.IfIndex, p.IfName
	}
}

// pass sends the finished records on. When that fails, they stay in the books as held.
func (m *shard) pass() {
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

// pair joins a new flow to the one of the other direction, when it is there and has no partner. It returns the half that keeps the times.
func (m *shard) pair(number uint32) *entry {
	e := m.cache.at(number)
	var k key
	if own := e.key(); !own.reverse(&k) {
		return e
	}
	other, ok := m.cache.find(m.hasher.hash(&k), &k)
	if !ok || other == number {
		return e
	}
	lead := m.cache.at(other)
	if lead.peer != 0 {
		return e
	}
	lead.peer, e.peer = number+1, other+1
	e.state |= sFollows
	return lead
}
