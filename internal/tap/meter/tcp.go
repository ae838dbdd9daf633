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
	end := a.seq + a.seqLen
	if e.state&sSeq == 0 || a.tcpFlags&tcpSYN != 0 && end != e.nextSeq { // a SYN of other numbers: the ports are used again
		e.state |= sSeq
		if e.packets != a.size.packets {
			e.state &^= sSyn
		}
		e.nextSeq, e.gapAt = end, 0
		return
	}
	if e.state&sSyn != 0 && a.tcpFlags&(tcpSYN|tcpACK) == tcpACK {
		e.state &^= sSyn
		if a.seq == e.nextSeq && a.timeNS > e.firstNS {
			e.rttUS = uint32(min((a.timeNS-e.firstNS)/1000, 1<<32-1))
		}
	}
	switch ahead := int32(a.seq - e.nextSeq); {
	case ahead > 0:
		if !e.inGap(e.nextSeq, a.timeNS) {
			e.gapStart = e.nextSeq
		}
		e.gapAt = max(uint16(a.timeNS>>gapUnit), 1)
		e.nextSeq = end
	case ahead == 0:
		e.nextSeq = end
	case a.seqLen > 0:
		e.late(a, ahead)
	}
}

// late judges a segment that begins below the highest sequence number: overtaken by others on its way, a keep-alive, or
// sent again.
func (e *entry) late(a *arrival, ahead int32) {
	behind := int32(a.seq + a.seqLen - e.nextSeq)
	if behind > 0 {
		e.nextSeq += uint32(behind)
	}
	switch {
	case ahead == -1 && a.seqLen == 1 && a.tcpFlags&(tcpSYN|tcpFIN) == 0: // RFC 9293, section 3.8.4
	case e.inGap(a.seq, a.timeNS):
	case behind > 0:
		e.retransmits++
	default:
		e.retransmits += uint32(a.size.packets)
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
