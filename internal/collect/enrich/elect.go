package enrich

import (
	"math"
	"time"

	"crosstap/internal/flow"
)

// election says which observer's rows of a flow are canonical. Its rule: at each moment of the flow one
// observer at most is canonical. Who came first stays while it reports; another takes over only from a time that
// the first one left uncovered, and keeps what lies before it untouched.
type election struct {
	holder     uint64 // observer whose rows are canonical, 0 for none yet
	sinceNS    int64  // rows of the holder that start earlier are not: they may be another's time
	untilNS    int64  // latest end of a canonical row
	intervalNS int64  // usual distance of the ends of the holder's rows

	// the best observer of the batch in which the flow was new
	stands      uint64
	standsRank  uint8
	standsNS    int64 // start of its first row
	standsBatch uint64
}

const (
	graceNS  = int64(5 * time.Second) // added to twice the holder's interval before another takes over
	standsBy = int64(2 * time.Second) // a better observer of the first batch may have begun this much later
)

// rankOf orders observers, best first: unsampled before sampled, then by role, then ingress before egress.
func rankOf(r *flow.Record) uint8 {
	rank := uint8(r.Role) - 1 // an unknown role comes last
	if rank > 15 {
		rank = 15
	}
	rank <<= 2
	switch r.Direction {
	case 0:
	case 1:
		rank |= 2
	default:
		rank |= 1
	}
	if r.Sampling > 1 || r.Marks&flow.MarkSampled != 0 {
		rank |= 0x80
	}
	return rank
}

// stand lets a record's observer compete for a flow that nobody has yet.
func (e *election) stand(r *flow.Record, batch uint64) {
	if e.holder != 0 {
		return
	}
	rank := rankOf(r)
	switch {
	case e.standsBatch != batch:
	case r.ObserverID == e.stands:
		e.standsNS = min(e.standsNS, r.StartNS)
		return
	case rank >= e.standsRank || r.StartNS > e.standsNS+standsBy:
		return
	}
	e.stands, e.standsRank, e.standsNS, e.standsBatch = r.ObserverID, rank, r.StartNS, batch
}

// elect reports whether a row is canonical. Rows of one flow come in the order of receipt.
func (t *table) elect(f *known, r *flow.Record) bool {
	e := &f.election
	switch {
	case e.holder == 0:
		if e.standsBatch == t.batch && e.stands != r.ObserverID {
			return false // a better one of this batch comes
		}
		e.take(r, math.MinInt64)
		return true
	case e.holder == r.ObserverID:
		if r.StartNS < e.sinceNS {
			return false
		}
		e.extend(r)
		return true
	case r.StartNS >= e.untilNS+2*e.intervalNS+graceNS:
		e.take(r, e.untilNS)
		t.takeover++
		return true
	}
	return false
}

// take makes the row's observer the holder for what begins at sinceNS.
func (e *election) take(r *flow.Record, sinceNS int64) {
	e.holder, e.sinceNS, e.untilNS = r.ObserverID, sinceNS, r.EndNS
	e.intervalNS = min(r.EndNS-r.StartNS, int64(time.Hour))
}

// extend enters one more row of the holder.
func (e *election) extend(r *flow.Record) {
	step := r.EndNS - e.untilNS
	if step <= 0 {
		return
	}
	e.untilNS = r.EndNS
	e.intervalNS = min((3*e.intervalNS+step)/4, int64(time.Hour))
}
