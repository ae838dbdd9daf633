package decode

// What a message's sequence number counts differs between protocols, and between the exporters of one. All known ways are
// followed, and the one that foretells the next message best is believed.

const (
	reorderWindow = 1 << 14 // records: a number this far behind is a late message, further a restart
	jumpLimit     = 1 << 24 // records: a number this far ahead is a restart, not a loss
)

// gap is a run of missing records that may still come late: [from, to) in the arithmetic of RFC 1982.
type gap struct{ from, to uint32 }

// Line follows the sequence numbers of one stream.
type Line struct {
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
func (l *Line) judge(seq uint32) verdict {
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
func (l *Line) advance(seq, n uint32, v verdict, counted bool) (found uint64) {
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
func (l *Line) restarted(seq, n uint32) bool {
	if l.backs > 0 && seq == l.back {
		l.backs++
	} else {
		l.backs = 1
	}
	l.back = seq + n
	return l.backs > 2 && n > 0
}

// Follow takes in a message of n units by itself and returns how many are missing before it.
func (l *Line) Follow(seq, n uint32) uint64 {
	v := l.judge(seq)
	l.advance(seq, n, v, true)
	return v.lost
}

// open notes a gap; the oldest is given up for lost when there are too many.
func (l *Line) open(g gap) {
	if l.ngaps == len(l.gaps) {
		copy(l.gaps[:], l.gaps[1:])
		l.ngaps--
	}
	l.gaps[l.ngaps] = g
	l.ngaps++
}

// fill takes n records from seq on out of the gaps and returns how many were missing.
func (l *Line) fill(seq, n uint32) uint64 {
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

// Step is what one way of counting says of a message: it is expected at the number at, and the next
// one n further. Where counted is false, n is not certain.
type Step struct {
	Line    *Line
	At, N   uint32
	Counted bool
	Unit    Unit
}

// ways is how many ways of counting are followed at once.
const ways = 3

// certain is the lead in trust by which one way of counting is believed against another that foretold a number.
const certain = 3

// Domain is what is kept of one observation domain.
type Domain struct {
	Line, Other Line
	bootNS      int64 // when the exporter started, as an options record said; 0 for unknown
}

// Session returns the sequence numbers over all domains.
func (s *Decoder) Session() *Line { return &s.session }

// Counted reports whether every record of the open message could be counted.
func (s *Decoder) Counted() bool { return s.counted }

// Account finishes the open message: it follows its number in each way that the protocol's exporters are known to count, and adds
// what is missing before it, and what missing ones it brings late, by the way that foretells best.
// Of two equally good ones the first is believed.
func (s *Decoder) Account(steps ...Step) {
	best, rival := 0, -certain // rival is the trust of the best way that foretold this number
	var v [ways]verdict
	var late [ways]uint64
	for i, st := range steps {
		v[i] = st.Line.judge(st.At)
		late[i] = st.Line.advance(st.At, st.N, v[i], st.Counted)
		if v[i].exact {
			rival = max(rival, s.trust[i])
		}
		if s.trust[i] > s.trust[best] {
			best = i
		}
	}
	lead := s.trust[best] - rival
	s.learn(v)
	s.res.Unit = steps[best].Unit
	if lead < certain {
		return
	}
	s.res.Lost += v[best].lost
	s.res.Found += late[best]
	if v[best].lost > 0 {
		s.markGap()
	}
}

// learn changes the trust by what each way foretold.
func (s *Decoder) learn(v [ways]verdict) {
	for i := range v {
		if v[i].exact {
			s.trust[i] = min(s.trust[i]+1, 2*certain)
		} else {
			s.trust[i] = max(s.trust[i]-1, 0)
		}
	}
}
