package report

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// counterSlack is how much of a range may be without counters before an answer says so, in ms: agents tell their counters seldom less often.
const counterSlack = 60_000

// countedSpan is the part of the range that counters tell of: flows of another time have nothing to be compared with.
func (a *ask) countedSpan(counted []Counted) span {
	all := span{a.sinceMS, a.untilMS}
	of := span{all.to, all.from}
	for i := range counted {
		own := counted[i].span(all)
		if own.from >= own.to {
			continue
		}
		of.from, of.to = min(of.from, own.from), max(of.to, own.to)
	}
	if of.from >= of.to {
		return all
	}
	if of.from-all.from > counterSlack || all.to-of.to > counterSlack {
		a.notes = append(a.notes, fmt.Sprintf("counters of the range are known from %s to %s: flows of that time are compared", msTime(of.from).Format(time.RFC3339), msTime(of.to).Format(time.RFC3339)))
	}
	return of
}

// span is the time of a counter within a range; the whole range when it does not say.
func (c *Counted) span(all span) span {
	if c.From.IsZero() || c.To.IsZero() {
		return all
	}
	return span{max(c.From.UnixMilli(), all.from), min(c.To.UnixMilli(), all.to)}
}

// is reports whether it counts the machine of an end.
func (c *Counted) is(e *observedEnd) bool {
	if cmp.Or(c.Fabric, "default") != e.fabric {
		return false
	}
	if c.VMID != "" && e.id != "" {
		return c.VMID == e.id
	}
	return c.VM != "" && c.VM == e.vm
}

const (
	// sameSpan is the part of the time of a machine's counters by which it may differ from that of others without being asked for apart: agents
	// do not tell their counters all at once.
	sameSpan = 128
	// mostSpans are asked for: each is a question to the store.
	mostSpans = 8

	reasonOtherTime = "its counters are of a shorter time than the flows compared"
)

// ownSpans has the ends of machines whose counters begin later or end earlier than those of others say what flows tell of that time: those of an agent that came
// later, or of a machine that moved away. An end whose time is one too many is marked.
func (a *ask) ownSpans(ctx context.Context, ends []observedEnd, counted []Counted, when span) error {
	apart := map[span][]int{} // ends, by the time of their counters
	for i := range ends {
		own := span{when.to, when.from}
		for j := range counted {
			if c := &counted[j]; c.is(&ends[i]) {
				s := c.span(when)
				own.from, own.to = min(own.from, s.from), max(own.to, s.to)
			}
		}
		if own.from >= own.to {
			continue
		}
		near := int64(1) << (bits.Len64(uint64(own.to-own.from)/sameSpan|1) - 1) // a power of two, so that times that are nearly the same are rounded to the same
		if own.from-when.from <= near && when.to-own.to <= near {
			continue
		}
		own = span{own.from - (own.from-when.from)%near, own.to + (when.to-own.to)%near}
		apart[own] = append(apart[own], i)
	}
	all := make([]span, 0, len(apart))
	for s := range apart {
		all = append(all, s)
	}
	slices.SortFunc(all, func(x, y span) int {
		return cmp.Or(cmp.Compare(len(apart[y]), len(apart[x])), cmp.Compare(x.from, y.from), cmp.Compare(x.to, y.to))
	})
	for n, s := range all {
		if n >= mostSpans {
			for _, i := range apart[s] {
				ends[i].otherTime = true
			}
			continue
		}
		then, _, _, _, err := a.observedEnds(ctx, s)
		if err != nil {
			return err
		}
		for _, i := range apart[s] {
			e := &ends[i]
			e.octets, e.sampled, e.assumed = 0, false, false
			for j := range then {
				if o := &then[j]; o.fabric == e.fabric && (e.id != "" && o.id == e.id || e.id == "" && o.id == "" && o.vm == e.vm) {
					e.octets, e.sampled, e.assumed = e.octets+o.octets, e.sampled || o.sampled, e.assumed || o.assumed
				}
			}
		}
	}
	return nil
}
