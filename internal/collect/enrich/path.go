package enrich

import (
	"cmp"
	"slices"

	"crosstap/internal/flow"
)

// Hop orders the observers of one direction as its packets pass them: out of the sender's port, into the tunnel, along the
// network, out of the tunnel, into the receiver's port. Places of unknown kind stand where their direction says.
func Hop(r *flow.Record) int {
	egress := r.Direction == 1
	switch r.Role {
	case flow.RoleTunnel:
		if egress {
			return 2 // the sender's host wraps the packet
		}
		return 4
	case flow.RoleUnderlay:
		return 3
	}
	switch {
	case egress:
		return 5
	case r.Direction == 0:
		return 0
	}
	return 1
}

// Elect decides anew which rows are canonical, for records that are all there: of the observers of a flow the best one counts, and
// the next best ones where it has nothing.
func Elect(recs []flow.Record) {
	flows := make(map[uint64][]*flow.Record)
	for i := range recs {
		r := &recs[i]
		r.Marks &^= flow.MarkCanonical
		flows[r.FlowID] = append(flows[r.FlowID], r)
	}
	for _, rows := range flows {
		electFlow(rows)
	}
}

// span is a stretch of time that an observer covers.
type span struct{ from, to int64 }

// electFlow elects among the rows of one flow.
func electFlow(rows []*flow.Record) {
	byObserver := make(map[uint64][]*flow.Record)
	var order []uint64
	packets := make(map[uint64]uint64)
	for _, r := range rows {
		if byObserver[r.ObserverID] == nil {
			order = append(order, r.ObserverID)
		}
		byObserver[r.ObserverID] = append(byObserver[r.ObserverID], r)
		packets[r.ObserverID] += r.Packets
	}
	slices.SortStableFunc(order, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(rankOf(byObserver[a][0]), rankOf(byObserver[b][0])), cmp.Compare(packets[b], packets[a]))
	})
	var taken []span
	for _, o := range order {
		own := byObserver[o]
		slices.SortStableFunc(own, func(a, b *flow.Record) int { return cmp.Compare(a.StartNS, b.StartNS) })
		covers := cover(own)
		for _, r := range own {
			if !overlaps(taken, r) {
				r.Marks |= flow.MarkCanonical
			}
		}
		taken = append(taken, covers...)
	}
}

// cover joins an observer's rows to stretches: a pause shorter than its usual step, and some grace, is no gap.
func cover(rows []*flow.Record) (out []span) {
	step := int64(0)
	for _, r := range rows {
		step = max(step, r.EndNS-r.StartNS)
	}
	slack := 2*step + graceNS
	for _, r := range rows {
		if n := len(out); n > 0 && r.StartNS <= out[n-1].to+slack {
			out[n-1].to = max(out[n-1].to, r.EndNS)
			continue
		}
		out = append(out, span{r.StartNS, r.EndNS})
	}
	for i := range out {
		out[i].from, out[i].to = out[i].from-slack, out[i].to+slack
	}
	return out
}

func overlaps(taken []span, r *flow.Record) bool {
	for _, s := range taken {
		if r.StartNS < s.to && r.EndNS > s.from || r.StartNS == r.EndNS && r.StartNS >= s.from && r.StartNS <= s.to {
			return true
		}
	}
	return false
}
