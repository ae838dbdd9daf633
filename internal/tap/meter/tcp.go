package meter

// TCP control bits (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

const (
	gapUnit     = 16      // gapAt counts 1<<16 ns
	reorderedNS = 3000000 // how late a segment may be that was overtaken, when the round-trip time is not known
)

// openTCP notes who opened the connection, by the first segment of a flow.
func (e *entry) openTCP(a *arrival) {
	if a.tcpFlags&tcpSYN == 0 {
		return
	}
	e.about &^= openedHere | openedThere
	if a.tcpFlags&tcpACK != 0 {
		e.about |= openedThere
		return
	}
	e.about |= openedHere
	if a.sequenced {
		e.state |= sSyn
	}
}

// tcp follows the sequence numbers of one direction: the handshake's time, what is sent again, and closed windows.
func (e *entry) tcp(a *arrival) {
	if !a.sequenced {
		e.state &^= sSyn | sSeq
		return
	}
	if a.zeroWindow {
		e.zeroWindows += uint32(a.size.packets)
	}
	if a.tcpFlags&tcpRST != 0 { // its numbers are often of the sender's own making
		e.state &^= sSyn
		return
	}
	e.segment(sequence{seq: a.seq, len: a.seqLen, flags: a.tcpFlags, packets: uint32(a.size.packets), timeNS: a.timeNS})
}

// sequence is what the sequence numbers of one or several segments say.
type sequence struct {
	seq, len uint32 // and how many numbers it takes
	packets  uint32
	flags    uint16
	timeNS   int64
}

// segment follows the sequence numbers of a segment that does not reset the connection.
func (e *entry) segment(s sequence) {
	end := s.seq + s.len
	if e.state&sSeq == 0 || s.flags&tcpSYN != 0 && end != e.nextSeq { // a SYN of other numbers: the ports are used again
		e.state |= sSeq
		if e.packets != uint64(s.packets) {
			e.state &^= sSyn
		}
		e.nextSeq, e.gapAt = end, 0
		return
	}
	if e.state&sSyn != 0 && s.flags&(tcpSYN|tcpACK) == tcpACK {
		e.state &^= sSyn
		if s.seq == e.nextSeq && s.timeNS > e.firstNS {
			e.rttUS = uint32(min((s.timeNS-e.firstNS)/1000, 1<<32-1))
		}
	}
	switch ahead := int32(s.seq - e.nextSeq); {
	case ahead > 0:
		if !e.inGap(e.nextSeq, s.timeNS) {
			e.gapStart = e.nextSeq
		}
		e.gapAt = max(uint16(s.timeNS>>gapUnit), 1)
		e.nextSeq = end
	case ahead == 0:
		e.nextSeq = end
	case s.len > 0:
		e.late(s, ahead)
	}
}

// late judges a segment that begins below the highest sequence number: overtaken by others on its way, a keep-alive, or
// sent again.
func (e *entry) late(s sequence, ahead int32) {
	behind := int32(s.seq + s.len - e.nextSeq)
	if behind > 0 {
		e.nextSeq += uint32(behind)
	}
	switch {
	case ahead == -1 && s.len == 1 && s.flags&(tcpSYN|tcpFIN) == 0: // RFC 9293, section 3.8.4
	case e.inGap(s.seq, s.timeNS):
	case behind > 0:
		e.retransmits++
	default:
		e.retransmits += s.packets
		e.state &^= sSyn // which of the SYNs is answered is not known
	}
}

// inGap reports whether seq is behind the last gap's start, and the gap no older than reordering takes.
func (e *entry) inGap(seq uint32, now int64) bool {
	within := int64(reorderedNS)
	if e.rttUS != 0 {
		within = int64(e.rttUS) * 1000 / 2
	}
	age := uint16(now>>gapUnit) - e.gapAt
	return e.gapAt != 0 && int32(seq-e.gapStart) >= 0 && int64(age) <= within>>gapUnit
}
