package report

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
)

// storedPairs is set but for tests.
var storedPairs = true

// sumsView is a View that knows how many rows of roll-ups a range may read.
type sumsView interface {
	SumsIn(fromNS, toNS int64) uint64
}

// summing is the view where the store is to add up by itself: over a long range, without a filter.
func (a *ask) summing() (v store.PairsView, ok bool) {
	sums, can := a.view.(sumsView)
	if v, ok = a.view.(store.PairsView); !storedPairs || !ok || !can || a.step == 0 || !a.cond.expr.Empty() || sums.SumsIn(clampNS(a.sinceMS), clampNS(a.untilMS)) < manySums {
		return nil, false
	}
	return v, true
}

// pickStored finds the first pairs of all where the store adds up by pair itself; nil where it does not, or not this time.
func (a *ask) pickStored(ctx context.Context) (*picked, error) {
	v, ok := a.summing()
	if !ok {
		return nil, nil
	}
	from, to := clampNS(a.sinceMS), clampNS(a.untilMS)
	rest, err := a.restOfPairs(ctx, v.PairsRest(from, to))
	if err != nil || len(rest) == mostRest {
		return nil, err
	}
	p := newPairPick(a.Sort, a.Limit)
	switch err := v.SumPairs(ctx, from, to, rest, strings.HasSuffix(a.Sort, "_seen"), p.take); {
	case errors.Is(err, store.ErrNotSummed):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return p.done(), nil
}

// fetch has the store look for the rows of pairs that it found; where it cannot the engine does.
func (p *picked) fetch(ctx context.Context, a *ask) error {
	if !p.stored {
		return nil
	}
	v := a.view.(store.PairsView) //nolint:forcetypeassert // it found them
	table, err := v.PairRows(ctx, clampNS(a.sinceMS), clampNS(a.untilMS), p.at, a.segments)
	if errors.Is(err, store.ErrNotSummed) {
		return nil
	}
	a.table = table
	return err
}

// mostRest are the sums that are taken from elsewhere than stored roll-ups: those of some hours.
var mostRest = 500_000

// restOfPairs adds up what the table of roll-ups has, in the order of segments.
func (a *ask) restOfPairs(ctx context.Context, table string) (rest []store.PairSums, err error) {
	if table == "" {
		return nil, nil
	}
	defer func(was string) { a.table = was }(a.table)
	a.args, a.table = nil, table
	query := a.pairFacts(a.sinceMS, a.untilMS) + `k AS NOT MATERIALIZED (SELECT ` + pairGroup + `, sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, coalesce(sum(octets) FILTER (NOT sw), 0)::UBIGINT AS octets_ab, coalesce(sum(packets) FILTER (NOT sw), 0)::UBIGINT AS packets_ab,
  coalesce(sum(flows) FILTER (opened AND NOT sw), 0)::UBIGINT AS f0, coalesce(sum(flows) FILTER (opened AND sw), 0)::UBIGINT AS f1, coalesce(sum(flows) FILTER (NOT opened AND NOT sw), 0)::UBIGINT AS f2, coalesce(sum(flows) FILTER (NOT opened AND sw), 0)::UBIGINT AS f3,
  epoch_ms(min(t_start)) AS first_ms, epoch_ms(max(t_end)) AS last_ms, sum(vote)::BIGINT AS votes, sum(port_vote)::BIGINT AS port_votes, sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows FROM o GROUP BY ` + pairGroup + `)
SELECT fabric, segment, a::VARCHAR, a_who, b::VARCHAR, b_who, octets, packets, octets_ab, packets_ab, f0, f1, f2, f3, first_ms, last_ms, votes, port_votes, sampled_rows, ambiguous_rows FROM k ORDER BY segment LIMIT ` + fmt.Sprint(mostRest)
	err = a.each(ctx, query, func(rows *sql.Rows) error {
		var s store.PairSums
		var one, other string
		if err := rows.Scan(&s.Fabric, &s.Segment, &one, &s.AWho, &other, &s.BWho, &s.Octets, &s.Packets, &s.OctetsAB, &s.PacketsAB, &s.Flows[0], &s.Flows[1], &s.Flows[2], &s.Flows[3],
			&s.FirstMS, &s.LastMS, &s.Votes, &s.PortVotes, &s.SampledRows, &s.AmbiguousRows); err != nil {
			return err
		}
		a, errA := uuid.Parse(one)
		b, errB := uuid.Parse(other)
		s.A, s.B = a, b
		rest = append(rest, s)
		return errors.Join(errA, errB)
	})
	return rest, err
}

// pairPick keeps the first pairs and adds all up.
type pairPick struct {
	limit int
	desc  bool
	value func(s *store.PairSums, fromA bool) uint64

	mu    sync.Mutex
	first []candidate // more than limit of them at times
	last  *candidate  // that stays of those looked at when there are limit of them
	sum   picked
}

// candidate is one of the pairs that may be among the first.
type candidate struct {
	store.PairSums
	value uint64
	fromA bool
	i     int             // its number in what take looks at
	at    []store.Stretch // where its rows are,
	found bool            // if that is known
}

func newPairPick(sort string, limit int) *pairPick {
	name, desc := strings.CutPrefix(sort, "-")
	return &pairPick{limit: limit, desc: desc, value: pairValue(name)}
}

// pairValue gives the number that an order of byNumbers goes by.
func pairValue(name string) func(s *store.PairSums, fromA bool) uint64 {
	oneWay := func(fwd bool, sums func(*store.PairSums) (all, ab uint64)) func(*store.PairSums, bool) uint64 {
		return func(s *store.PairSums, fromA bool) uint64 {
			all, ab := sums(s)
			if fromA == fwd {
				return ab
			}
			return all - ab
		}
	}
	octets := func(s *store.PairSums) (all, ab uint64) { return s.Octets, s.OctetsAB }
	packets := func(s *store.PairSums) (all, ab uint64) { return s.Packets, s.PacketsAB }
	switch name {
	case "octets_fwd":
		return oneWay(true, octets)
	case "octets_rev":
		return oneWay(false, octets)
	case "packets_fwd":
		return oneWay(true, packets)
	case "packets_rev":
		return oneWay(false, packets)
	case "packets":
		return func(s *store.PairSums, _ bool) uint64 { return s.Packets }
	case "first_seen":
		return func(s *store.PairSums, _ bool) uint64 { return uint64(s.FirstMS) ^ 1<<63 }
	case "last_seen":
		return func(s *store.PairSums, _ bool) uint64 { return uint64(s.LastMS) ^ 1<<63 }
	}
	return func(s *store.PairSums, _ bool) uint64 { return s.Octets }
}

// take looks at pairs.
func (p *pairPick) take(sums []store.PairSums, where func(int) ([]store.Stretch, bool)) {
	var total picked
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	var found []candidate
	for i := range sums {
		s := &sums[i]
		c := candidate{fromA: s.FromA(), i: i}
		c.value = p.value(s, c.fromA)
		total.total.Octets += s.Octets
		total.total.Packets += s.Packets
		total.total.Flows += s.FlowCount()
		total.sampled += s.SampledRows
		total.ambiguous += s.AmbiguousRows
		if last != nil && (p.desc && c.value < last.value || !p.desc && c.value > last.value) {
			continue
		}
		if c.PairSums = *s; last == nil || p.compare(&c, last) < 0 {
			found = append(found, c)
		}
		if len(found) >= 2*p.limit {
			found, last = p.cut(found)
		}
	}
	if len(found) > p.limit {
		found, _ = p.cut(found)
	}
	for i := range found {
		found[i].at, found[i].found = where(found[i].i)
	}
	total.total.Rows = uint64(len(sums))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum.add(&total)
	if p.first = append(p.first, found...); len(p.first) >= 2*p.limit {
		p.first, p.last = p.cut(p.first)
	}
}

// cut leaves the first pairs; last is the one behind which none matters.
func (p *pairPick) cut(all []candidate) (first []candidate, last *candidate) {
	slices.SortFunc(all, func(x, y candidate) int { return p.compare(&x, &y) })
	first = all[:min(len(all), p.limit)]
	at := first[len(first)-1]
	return first, &at
}

// compare is the order of the answer, as picked.cut has it.
func (p *pairPick) compare(x, y *candidate) int {
	c := cmp.Compare(x.value, y.value)
	if p.desc {
		c = -c
	}
	return cmp.Or(c, cmp.Compare(x.Fabric, y.Fabric), cmp.Compare(x.Segment, y.Segment), x.tie(y))
}

// tie is the order of equal pairs of one segment, by their directions.
func (c *candidate) tie(o *candidate) int {
	one, oneWho, two, twoWho := c.ends()
	other, otherWho, another, anotherWho := o.ends()
	return cmp.Or(bytes.Compare(one[:], other[:]), cmp.Compare(oneWho, otherWho), bytes.Compare(two[:], another[:]), cmp.Compare(twoWho, anotherWho))
}

// ends are the client and the server.
func (c *candidate) ends() (src *[16]byte, srcWho string, dst *[16]byte, dstWho string) {
	if c.fromA {
		return &c.A, c.AWho, &c.B, c.BWho
	}
	return &c.B, c.BWho, &c.A, c.AWho
}

// done gives the first pairs, nil for none.
func (p *pairPick) done() *picked {
	if len(p.first) == 0 {
		return nil
	}
	p.first, _ = p.cut(p.first)
	p.sum.stored = !slices.ContainsFunc(p.first, func(c candidate) bool { return !c.found })
	for i := range p.first {
		c := &p.first[i]
		p.sum.at = append(p.sum.at, c.at...)
		p.sum.pairs = append(p.sum.pairs, pickedPair{fabric: c.Fabric, segment: c.Segment, a: uuid.UUID(c.A).String(), aWho: c.AWho, b: uuid.UUID(c.B).String(), bWho: c.BWho})
	}
	return &p.sum
}
