package ipfix

// A message's sequence number is the count of data records sent before it, in its observation domain (RFC
// 7011, section 3.1). Open vSwitch counts over all domains of the transport session instead. Both are
// followed, and the one that foretells the next message better is believed.

const (
	reorderWindow = 1 << 14 // records: a number this far behind is a late message, further a restart
	jumpLimit     = 1 << 24 // records: a number this far ahead is a restart, not a loss
)

// line follows the sequence numbers of one stream.
type line struct {
	next    uint32 // number expected of the next message
	owed    uint64 // records missing so far that may still come late
	started bool
	blind   bool // the last message held records that could not be counted
	back    uint32
	backs   int // messages in a row that were behind and each foretold the next: a restart
}

// verdict is what a message's number means.
type verdict struct {
	exact bool // just the number expected
	lost  uint64
	late  bool // the message comes after later ones
}

// judge compares a message's number with what is expected, without changing the line.
func (l *line) judge(seq uint32) verdict {
	gap := int32(seq - l.next)
	switch {
	case !l.started, l.blind:
		return verdict{}
	case gap == 0:
		return verdict{exact: true}
	case gap > 0 && gap < jumpLimit:
		return verdict{lost: uint64(gap)}
	case gap < 0 && gap > -reorderWindow:
		return verdict{late: true}
	}
	return verdict{}
}

// advance moves on over a message of n records. counted is false when the message held sets whose records could
// not be counted. found is how many of the records that were missing it brings.
func (l *line) advance(seq, n uint32, v verdict, counted bool) (found uint64) {
	if v.late && !l.restarted(seq, n) {
		found = min(uint64(n), l.owed)
		l.owed -= found
		return found // behind what was seen already: the expectation stays
	}
	l.backs = 0
	l.owed = min(l.owed+v.lost, reorderWindow)
	l.next, l.started, l.blind = seq+n, true, !counted
	return found
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

// sequencer is the accounting of one transport session.
type sequencer struct {
	session line
	domains map[uint32]*line
	trust   int // > 0: the session's line foretells better, < 0: the domains' do
}

// see judges a message before its records are known. domain is the line of the message's observation domain.
func (q *sequencer) see(seq uint32, domain *line) (lost uint64, s, d verdict) {
	s, d = q.session.judge(seq), domain.judge(seq)
	switch {
	case s.exact == d.exact:
	case s.exact:
		q.trust = min(q.trust+1, 8)
	default:
		q.trust = max(q.trust-1, -8)
	}
	if s.exact || d.exact {
		return 0, s, d
	}
	if q.trust > 0 {
		return s.lost, s, d
	}
	return d.lost, s, d
}

// done accounts for the message's n records and returns how many of the lost ones came late with it.
func (q *sequencer) done(seq uint32, n int, domain *line, s, d verdict, counted bool) uint64 {
	fs := q.session.advance(seq, uint32(n), s, counted)
	fd := domain.advance(seq, uint32(n), d, counted)
	if s.exact || d.exact {
		return 0
	}
	if q.trust > 0 {
		return fs
	}
	return fd
}
