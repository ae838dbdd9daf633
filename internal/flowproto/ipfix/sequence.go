package ipfix

// A message's sequence number is the count of data records sent before it, in its observation domain (RFC
// 7011, section 3.1). Exporters count in other ways, too; all are followed, and the one that
// foretells the next message best is believed.

const (
	reorderWindow = 1 << 14 // records: a number this far behind is a late message, further a restart
	jumpLimit     = 1 << 24 // records: a number this far ahead is a restart, not a loss
)

// gap is a run of missing records that may still come late: [from, to) in the arithmetic of RFC 1982.
type gap struct{ from, to uint32 }

// line follows the sequence numbers of one stream.
type line struct {
	next    uint32 // number expected of the next message
	started bool
	blind   bool // the last message held records that could not be counted
	gaps    [8]gap
	ngaps   int
	back    uint32 // the number that the last message behind the others foretold
	backs   int    // messages in a row that were behind and each foretold the next
}

// verdict is what a message's number means.
type verdict struct {
	exact bool // just the number expected
	late  bool // the message comes after later ones
	lost  uint64
}

// judge compares a message's number with what is expected, without changing the line.
func (l *line) judge(seq uint32) verdict {
	ahead := int32(seq - l.next)
	switch {
	case !l.started, l.blind:
		return verdict{}
	case ahead == 0:
		return verdict{exact: true}
	case ahead > 0 && ahead < jumpLimit:
		return verdict{lost: uint64(ahead)}
	case ahead < 0 && ahead > -reorderWindow:
		return verdict{late: true}
	}
	return verdict{}
}

// advance moves on over a message of n records. counted is false when the message held sets whose records could
// not be counted. found is how many of the records that were missing it brings.
func (l *line) advance(seq, n uint32, v verdict, counted bool) (found uint64) {
	if v.late && !l.restarted(seq, n) {
		return l.fill(seq, n) // behind what was seen already: the expectation stays
	}
	switch {
	case v.lost > 0:
		l.open(gap{l.next, seq})
	case !v.exact:
		l.ngaps = 0 // a new start
	}
	l.next, l.started, l.blind, l.backs = seq+n, true, !counted, 0
	return 0
}

// restarted reports whether a message that is behind belongs to a run of such messages, which a late
// one does not.
func (l *line) restarted(seq, n uint32) bool {
	if l.backs > 0 && seq == l.back {
		l.backs++
	} else {
		l.backs = 1
	}
	l.back = seq + n
	return l.backs > 2 && n > 0
}

// open notes a gap; the oldest is given up for lost when there are too many.
func (l *line) open(g gap) {
	if l.ngaps == len(l.gaps) {
		copy(l.gaps[:], l.gaps[1:])
		l.ngaps--
	}
	l.gaps[l.ngaps] = g
	l.ngaps++
}

// fill takes n records from seq on out of the gaps and returns how many were missing.
func (l *line) fill(seq, n uint32) uint64 {
	if n == 0 {
		return 0
	}
	for i := range l.ngaps {
		g := &l.gaps[i]
		size, off := g.to-g.from, seq-g.from
		if off >= size {
			continue
		}
		found := min(n, size-off)
		end := g.to
		g.to = seq
		switch {
		case off == 0:
			g.from, g.to = seq+found, end
		case seq+found != end:
			l.open(gap{seq + found, end})
		}
		return uint64(found)
	}
	return 0
}

// The ways in which exporters count.
const (
	perDomain  = iota // as RFC 7011 says
	perSession        // over all domains: Open vSwitch
	inclusive         // the flow records of the message itself are in its number already: softflowd
	ways
)

// certain is the lead in trust by which one way of counting is believed against another that foretold a number.
const certain = 3

// sequencer is the accounting of one transport session.
type sequencer struct {
	session line
	trust   [ways]int
}

// domain is what is kept of one observation domain.
type domain struct {
	line      line
	inclusive line
	bootNS    int64 // when the exporter started, as an options record said; 0 for unknown
}

// account takes in a message of so many flow and option records. counted is false when it held more that could
// not be counted. It returns how many records are missing before it, and how many missing ones it
// brings late.
func (q *sequencer) account(seq uint32, flows, options int, d *domain, counted bool) (lost, found uint64) {
	all, own := uint32(flows+options), uint32(flows)
	lines := [ways]*line{&d.line, &q.session, &d.inclusive}
	best, rival := perDomain, -certain // rival is the trust of the best way that foretold this number
	var v [ways]verdict
	var late [ways]uint64
	for i, l := range lines {
		at, n := seq, all
		if i == inclusive {
			at, n = seq-own, own
		}
		v[i] = l.judge(at)
		late[i] = l.advance(at, n, v[i], counted)
		if v[i].exact {
			rival = max(rival, q.trust[i])
		}
		if q.trust[i] > q.trust[best] {
			best = i
		}
	}
	lead := q.trust[best] - rival
	q.learn(v)
	if lead < certain {
		return 0, 0
	}
	return v[best].lost, late[best]
}

// learn changes the trust by what each way foretold.
func (q *sequencer) learn(v [ways]verdict) {
	for i := range v {
		if v[i].exact {
			q.trust[i] = min(q.trust[i]+1, 2*certain)
		} else {
			q.trust[i] = max(q.trust[i]-1, 0)
		}
	}
}
