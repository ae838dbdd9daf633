package enrich

import "crosstap/internal/flow"

// maxLearned bounds the MAC addresses remembered; beyond it the collection starts anew.
const maxLearned = 1 << 17

// learned remembers in which segment records have put a MAC address, as a bridge learns its ports: a tunnel endpoint
// tells the segment of both ends of a frame, and the ports of the same machines do not. An address seen in two
// segments within the linger time (a router, a cloned machine) tells nothing.
type learned struct {
	lingerNS int64
	macs     map[flow.MAC]learnedMAC
}

type learnedMAC struct {
	segment   flow.Segment
	fabric    string
	seenNS    int64 // receipt of the last record that put it there
	anotherNS int64 // receipt of the last record that put it elsewhere, 0 for none
}

// learn takes in a record that tells its segment itself.
func (l *learned) learn(r *flow.Record) {
	l.put(r.SrcMAC, r)
	l.put(r.DstMAC, r)
}

func (l *learned) put(m flow.MAC, r *flow.Record) {
	if m == 0 || m.Group() {
		return
	}
	have, ok := l.macs[m]
	switch {
	case ok && have.segment == r.Segment && have.fabric == r.Fabric:
		if have.seenNS == r.RecvNS {
			return
		}
		have.seenNS = r.RecvNS
	case ok && r.RecvNS-have.seenNS < l.lingerNS:
		have.anotherNS = r.RecvNS
	default:
		have = learnedMAC{segment: r.Segment, fabric: r.Fabric, seenNS: r.RecvNS}
	}
	if !ok && len(l.macs) >= maxLearned {
		clear(l.macs)
	}
	l.macs[m] = have
}

// segment is where both ends of a record have been seen, 0 when that is not one segment. A group has no place of
// its own.
func (l *learned) segment(r *flow.Record) flow.Segment {
	src, ok := l.of(r.SrcMAC, r)
	if !ok {
		return 0
	}
	if r.DstMAC.Group() {
		return src
	}
	if dst, ok := l.of(r.DstMAC, r); !ok || dst != src {
		return 0
	}
	return src
}

func (l *learned) of(m flow.MAC, r *flow.Record) (flow.Segment, bool) {
	have, ok := l.macs[m]
	if !ok || have.anotherNS != 0 && r.RecvNS-have.anotherNS < l.lingerNS || have.fabric != r.Fabric {
		return 0, false
	}
	return have.segment, true
}
