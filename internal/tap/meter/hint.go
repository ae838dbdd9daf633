package meter

import (
	"crosstap/internal/apphint"
	"crosstap/internal/flow"
)

const (
	maxLooks    = 4    // packets with payload of one direction that are looked at
	maxParts    = 256  // first messages that are put together at a time, of one worker
	quicPerTick = 5000 // QUIC Initial packets opened in one second of the meter's clock, of one worker
)

// part is a message that came in several packets.
type part struct {
	apphint.Part
	looks uint8
}

// hints is what a worker needs to tell applications.
type hints struct {
	inspector *apphint.Inspector
	packet    apphint.Packet
	parts     map[uint32]*part // by the number of the flow
	spare     []*part
	second    int64 // of the clock
	opened    int   // QUIC packets in that second
}

func newHints() hints {
	return hints{inspector: apphint.New(), parts: make(map[uint32]*part)}
}

// look searches a packet's payload for the application of its flow.
func (m *shard) look(number uint32, a *arrival) {
	e, h := m.cache.at(number), &m.hints
	p := &h.packet
	ports := a.key.ports()
	*p = apphint.Packet{Proto: a.key.proto(), SrcPort: uint16(ports >> 16), DstPort: uint16(ports), Seq: a.seq, Payload: a.payload}
	if apphint.Costly(p) && !m.affordable() {
		e.state &^= sLook
		m.stats.hintsShed.Add(1)
		return
	}
	known := e.about.how() != flow.AppUnknown
	var pt *part
	if known { // its message is not complete: there is a part
		pt = h.parts[number]
	}
	got := m.inspect(pt)
	if got.More && pt == nil {
		if pt = m.newPart(number); pt != nil {
			got = m.inspect(pt)
		}
	}
	if got.How != flow.AppUnknown {
		m.tell(e, got)
	}
	switch {
	case pt != nil:
		if pt.looks++; !got.More || pt.looks >= maxLooks {
			m.dropPart(number)
			e.state &^= sLook
		}
	case got.How != flow.AppUnknown:
		e.state &^= sLook
	default:
		if e.app++; e.app >= maxLooks {
			e.state &^= sLook
		}
	}
}

func (m *shard) inspect(pt *part) apphint.Hint {
	if pt == nil {
		return m.hints.inspector.Look(&m.hints.packet, nil)
	}
	return m.hints.inspector.Look(&m.hints.packet, &pt.Part)
}

// tell notes an application, and its name when that could be told.
func (m *shard) tell(e *entry, h apphint.Hint) {
	e.app = uint8(h.App)
	number := e.about.name()
	if len(h.Name) > 0 {
		m.names.give(number)
		number = m.names.take(h.Name)
		if number == 0 {
			m.stats.namesShed.Add(1)
		}
	}
	e.about.tell(h.How, number)
}

// affordable bounds the work on QUIC packets, each of which is to be decrypted.
func (m *shard) affordable() bool {
	h := &m.hints
	if s := m.clock / 1e9; s != h.second {
		h.second, h.opened = s, 0
	}
	h.opened++
	return h.opened <= quicPerTick
}

// newPart returns a place for a message, nil when there is none left.
func (m *shard) newPart(number uint32) *part {
	h := &m.hints
	if len(h.parts) >= maxParts {
		m.stats.hintsShed.Add(1)
		return nil
	}
	pt := (*part)(nil)
	if n := len(h.spare); n > 0 {
		pt, h.spare = h.spare[n-1], h.spare[:n-1]
	} else {
		pt = new(part)
	}
	pt.Reset()
	pt.looks = 0
	h.parts[number] = pt
	return pt
}

// dropPart gives the place of a flow's message back.
func (m *shard) dropPart(number uint32) {
	h := &m.hints
	if len(h.parts) == 0 {
		return
	}
	if pt := h.parts[number]; pt != nil {
		delete(h.parts, number)
		h.spare = append(h.spare, pt)
	}
}
