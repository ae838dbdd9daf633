// Package elect decides which rows of a flow are canonical: those that sums read, each packet once. The best observer of a flow keeps all
// its rows; another one's row counts only where no better observer was (docs/adr/0004-canonical-rows.md).
package elect

import (
	"cmp"
	"math"
	"slices"
)

// Row is what decides about a row of a flow. Times are milliseconds since the Unix epoch.
type Row struct {
	FlowID     uint64
	ObserverID uint64
	TStart     int64
	TEnd       int64
	Packets    uint64
	Octets     uint64
	Sampling   uint32
	Marks      uint16
	Direction  uint8
	Role       uint8
	Known      uint32 // of the caller
	File, At   int32  // where the row is, for the caller. File < 0: a canonical row of a neighbouring hour; it is settled
	Was        bool   // the row is canonical by now
}

// SlackMS bridges what clocks and timers of two observers differ.
const SlackMS = 1000

// place is one observer's view of one direction: what can be elected as a whole.
type place struct {
	sampled   bool
	role      uint8
	direction uint8
	observer  uint64
}

func (c *Row) place() place {
	return place{c.Sampling > 1, roleRank(c.Role), directionRank(c.Direction), c.ObserverID}
}

// same reports whether one observer looked at one direction in both places: such rows never cover each other.
func (p place) same(q place) bool { return p.observer == q.observer && p.direction == q.direction }

// comparePlaces: unsampled first, then the best role, ingress before egress.
func comparePlaces(a, b place) int {
	if a.sampled != b.sampled {
		if b.sampled {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.direction, b.direction), cmp.Compare(a.observer, b.observer))
}

// roleRank: roles are numbered best first, except that the unknown one is last.
func roleRank(r uint8) uint8 { return r - 1 }

// directionRank: ingress, then not known, then egress.
func directionRank(d uint8) uint8 {
	switch d {
	case 0:
		return 0
	case 1:
		return 2
	}
	return 1
}

// Decision is about one row. Rows count whole or not at all; Uncertain are those of its packets that are therefore counted twice, when it is canonical, or left
// out, when it is not: a better observer's rows begin or end within its time. Packets are taken to be spread evenly over their row's time.
type Decision struct {
	Canonical bool
	Uncertain uint64
}

// Octets are those of the uncertain packets.
func (d Decision) Octets(r *Row) uint64 {
	if r.Packets == 0 {
		return 0
	}
	return uint64(math.Round(float64(r.Octets) * float64(d.Uncertain) / float64(r.Packets)))
}

// Flow decides about the rows of one flow, best place first.
func Flow(rows []Row, decide func(*Row, Decision)) {
	if len(rows) == 1 { // most flows
		if rows[0].File >= 0 {
			decide(&rows[0], Decision{Canonical: true})
		}
		return
	}
	slices.SortFunc(rows, func(a, b Row) int {
		if (a.File < 0) != (b.File < 0) {
			return cmp.Compare(min(a.File, 0), min(b.File, 0)) // what is settled comes first
		}
		return cmp.Or(comparePlaces(a.place(), b.place()), cmp.Compare(a.TStart, b.TStart), cmp.Compare(a.TEnd, b.TEnd), cmp.Compare(a.File, b.File), cmp.Compare(a.At, b.At))
	})
	var settled map[place]cover // by place, without what samples differently
	var elected cover
	var better []Row // canonical, of other places
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && (rows[n].File < 0) == (rows[0].File < 0) && rows[n].place() == rows[0].place() {
			n++
		}
		if rows[0].File < 0 {
			if settled == nil {
				settled = map[place]cover{}
			}
			settled[rows[0].place()] = cover(nil).with(rows[:n])
			better = append(better, rows[:n]...)
		} else if kept := electPlace(rows[:n], elected.and(settled, rows[0].place()), better, decide); n < len(rows) {
			elected, better = elected.with(kept), append(better, kept...)
		}
		rows = rows[n:]
	}
}

// electPlace keeps the rows of one place that better ones have not covered, and returns them. A row is covered when better observers' rows cover half of its time or more,
// or count half of its packets or more in its time: who cuts records where a flow pauses covers less time than who does not, with the same packets.
func electPlace(rows []Row, covered cover, better []Row, decide func(*Row, Decision)) []Row {
	kept := rows[:0:0]
	var sums counter // made when a row needs it
	for i := range rows {
		c := &rows[i]
		part, span := covered.of(c.TStart, c.TEnd), max(c.TEnd-c.TStart, 1)
		d := Decision{Canonical: 2*part < span}
		if part < span && len(better) > 0 && c.TEnd > c.TStart {
			if sums == nil {
				sums = countOf(better, c.place())
			}
			counted := sums.in(c)
			d.Canonical = d.Canonical && (len(sums) == 0 || 2*counted < float64(max(c.Packets, 1)))
			d.Uncertain = uint64(math.Round(min(counted, float64(c.Packets))))
			if !d.Canonical {
				d.Uncertain = c.Packets - d.Uncertain
			}
		}
		if d.Canonical {
			kept = append(kept, *c)
		}
		decide(c, d)
	}
	return kept
}

// cover is time covered by canonical rows, widened by the slack: disjoint stretches in order.
type cover []stretch

type stretch struct{ from, to int64 }

// with adds the time of rows.
func (v cover) with(rows []Row) cover {
	all := slices.Clone(v)
	for i := range rows {
		all = append(all, stretch{rows[i].TStart - SlackMS, max(rows[i].TEnd, rows[i].TStart) + SlackMS})
	}
	return all.joined()
}

// and adds what other places have settled; a place does not cover its own rows.
func (v cover) and(settled map[place]cover, own place) cover {
	if len(settled) == 0 {
		return v
	}
	all := slices.Clone(v)
	for p, c := range settled {
		if !p.same(own) {
			all = append(all, c...)
		}
	}
	return all.joined()
}

// joined sorts the stretches and joins those that touch.
func (v cover) joined() cover {
	slices.SortFunc(v, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	out := v[:0]
	for _, s := range v {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// of is how much of a time is covered; 1 of a moment that is.
func (v cover) of(from, to int64) (sum int64) {
	i, _ := slices.BinarySearchFunc(v, from, func(s stretch, t int64) int { return cmp.Compare(s.to, t) })
	for ; i < len(v) && v[i].from <= to; i++ {
		if from >= to {
			return 1
		}
		sum += min(to, v[i].to) - max(from, v[i].from)
	}
	return sum
}

// counter says how many packets of a flow are counted by a time: the packets of each row are spread evenly over its time.
type counter []counted

// counted are the packets up to a time, and those of rows that end right then.
type counted struct {
	at     int64
	sum    float64
	single float64
}

// countOf adds up rows, without those of a place itself; it is never nil.
func countOf(rows []Row, own place) counter {
	type change struct {
		at           int64
		rate, single float64
	}
	var changes []change
	for i := range rows {
		switch r := &rows[i]; {
		case r.place().same(own):
		case r.TEnd <= r.TStart:
			changes = append(changes, change{at: r.TStart, single: float64(r.Packets)})
		default:
			rate := float64(r.Packets) / float64(r.TEnd-r.TStart)
			changes = append(changes, change{at: r.TStart, rate: rate}, change{at: r.TEnd, rate: -rate})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	out := make(counter, 0, len(changes))
	rate := 0.0
	for _, c := range changes {
		n := len(out)
		if n == 0 || out[n-1].at != c.at {
			next := counted{at: c.at}
			if n > 0 {
				next.sum = out[n-1].sum + out[n-1].single + rate*float64(c.at-out[n-1].at)
			}
			out, n = append(out, next), n+1
		}
		out[n-1].single += c.single
		rate += c.rate
	}
	return out
}

// by is how many packets are counted before a time, or with it.
func (v counter) by(at int64, with bool) float64 {
	i, found := slices.BinarySearchFunc(v, at, func(c counted, t int64) int { return cmp.Compare(c.at, t) })
	switch {
	case found && with:
		return v[i].sum + v[i].single
	case found:
		return v[i].sum
	case i == 0:
		return 0
	case i == len(v):
		return v[i-1].sum + v[i-1].single
	}
	a, b := v[i-1], v[i]
	return a.sum + a.single + (b.sum-a.sum-a.single)*float64(at-a.at)/float64(b.at-a.at)
}

// in is how many packets are counted in a row's time.
func (v counter) in(r *Row) float64 {
	if len(v) == 0 {
		return 0
	}
	return v.by(r.TEnd, true) - v.by(r.TStart, false)
}

// Rank orders the rows of which one tells what is known, as store.Recency does.
type Rank struct {
	TEnd     int64
	Observer uint64
	Rest     uint64
}

// RankOf is the rank of a row.
func RankOf(tEnd int64, observer, flow, packets uint64, direction uint8) Rank {
	return Rank{min(max(tEnd, 0), 8e12), observer, (flow ^ packets ^ uint64(direction)<<16) & (1<<20 - 1)}
}

// After reports whether a is the later row.
func (a Rank) After(b Rank) bool {
	return cmp.Or(cmp.Compare(a.TEnd, b.TEnd), cmp.Compare(a.Observer, b.Observer), cmp.Compare(a.Rest, b.Rest)) > 0
}
