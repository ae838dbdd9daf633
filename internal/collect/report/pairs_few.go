package report

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/elect"
	"crosstap/internal/flow"
)

// Pairs of few rows are added up here: the engine would plan for longer than that takes.

// mostFewRows is how many rows that may be.
const mostFewRows = 50_000

// fewPairs answers from rows that the store reads by itself; ok is false where it does not.
func (a *ask) fewPairs(ctx context.Context, r *Reports) (out Pairs, ok bool, err error) {
	v, can := a.view.(store.FewView)
	numbers, only := a.cond.expr.Numbers()
	if !storedPairs || !can || a.step != 0 || !a.ordersByNumbers() || !only && !a.cond.expr.Empty() {
		return out, false, nil
	}
	rows, err := v.FewRows(ctx, clampNS(a.sinceMS), clampNS(a.untilMS), numbers, mostFewRows)
	if errors.Is(err, store.ErrNotSummed) {
		return out, false, nil
	}
	if err != nil {
		return out, false, fmt.Errorf("report: %w", err)
	}
	f := fewPairs{byName: map[pairName]*fewPair{}}
	if !f.add(rows) {
		return out, false, nil
	}
	total, sampled, ambiguous := f.pick(a.Sort, a.Limit)
	f.detail(rows, span{a.sinceMS, a.untilMS})
	out.Rows = make([]Pair, len(f.first))
	for i, p := range f.first {
		out.Rows[i] = p.pair(total.Octets)
	}
	out.Meta, err = a.meta(ctx, r, "pairs", total, sampled, ambiguous)
	return out, err == nil, err
}

// fewPairs are the pairs of some rows.
type fewPairs struct {
	byName map[pairName]*fewPair
	ofRow  []*fewPair // each row's
	first  []*fewPair // of the answer
}

// pairName tells pairs apart.
type pairName struct {
	segment            uint64
	a, b               [16]byte
	fabric, aWho, bWho string
}

// fewPair is a pair that is being added up.
type fewPair struct {
	store.PairSums // Flows has them all in one number
	canonical      bool
	aID, bID       string
	tenant         newest[string]
	aVM, bVM       newest[string]
	aHost, bHost   newest[string]
	aVTEP, bVTEP   newest[flow.Addr]
	variance       big.Int // of octets
	duplicates     uint64
	marks          flow.Mark
	flows          []uint64

	// of those of the answer
	shown              bool
	apps, seen, others []string
	spark              []uint64
}

// newest is the value of the latest row that has one.
type newest[T comparable] struct {
	v  T
	at elect.Rank
}

func (n *newest[T]) see(v T, at elect.Rank) {
	var none T
	if v != none && (n.v == none || at.After(n.at)) {
		n.v, n.at = v, at
	}
}

// add adds all rows up; false when there is more than a number can say.
func (f *fewPairs) add(rows iter.Seq[*flow.Record]) bool {
	var octets, packets, over, over2 uint64
	var last pairName
	var p *fewPair
	for r := range rows {
		name, swapped := nameOf(r)
		if p == nil || name != last {
			if last, p = name, f.byName[name]; p == nil {
				p = &fewPair{PairSums: store.PairSums{Segment: name.segment, Fabric: name.fabric, A: name.a, B: name.b, AWho: name.aWho, BWho: name.bWho, FirstMS: math.MaxInt64, LastMS: math.MinInt64}}
				f.byName[name] = p
			}
		}
		f.ofRow = append(f.ofRow, p)
		p.add(r, swapped)
		octets, over = bits.Add64(octets, r.Octets, 0)
		packets, over2 = bits.Add64(packets, r.Packets, 0)
		if over+over2 > 0 {
			return false
		}
	}
	return true
}

// nameOf gives the pair of a row; swapped says that the row goes from its second end to the first.
func nameOf(r *flow.Record) (n pairName, swapped bool) {
	n = pairName{uint64(r.Segment), r.Src, r.Dst, r.Fabric, cmp.Or(r.SrcVMID, r.SrcVM), cmp.Or(r.DstVMID, r.DstVM)}
	c := store.CompareEnds(n.a, n.aWho, n.b, n.bWho)
	if swapped = c > 0 || c == 0 && r.SrcPort > r.DstPort; swapped {
		n.a, n.b, n.aWho, n.bWho = n.b, n.a, n.bWho, n.aWho
	}
	return n, swapped
}

// rowEnd is what a row says of an end.
type rowEnd struct {
	vm, id, host string
	vtep         flow.Addr
	port         uint16
}

// add adds a row.
func (p *fewPair) add(r *flow.Record, swapped bool) {
	a, b, vote := rowEnd{r.SrcVM, r.SrcVMID, r.SrcHost, r.Tunnel.Src, r.SrcPort}, rowEnd{r.DstVM, r.DstVMID, r.DstHost, r.Tunnel.Dst, r.DstPort}, voteOf(r.Client)
	if swapped {
		a, b, vote = b, a, -vote
	}
	at := elect.RankOf(ms(r.EndNS), r.ObserverID, r.FlowID, r.Packets, r.Direction)
	p.tenant.see(r.Tenant, at)
	p.aVM.see(a.vm, at)
	p.bVM.see(b.vm, at)
	p.aHost.see(a.host, at)
	p.bHost.see(b.host, at)
	p.aVTEP.see(a.vtep, at)
	p.bVTEP.see(b.vtep, at)
	p.aID, p.bID = max(p.aID, a.id), max(p.bID, b.id)
	p.FirstMS, p.LastMS = min(p.FirstMS, ms(r.StartNS)), max(p.LastMS, ms(r.EndNS))
	if r.Is(flow.MarkAmbiguous) {
		p.AmbiguousRows++
	}
	if !r.Is(flow.MarkCanonical) {
		p.duplicates += r.Packets
		return
	}
	p.canonical = true
	p.Octets += r.Octets
	p.Packets += r.Packets
	if !swapped {
		p.OctetsAB += r.Octets
		p.PacketsAB += r.Packets
	}
	p.Votes += vote
	p.PortVotes += int64(cmp.Compare(a.port, b.port))
	p.marks |= r.Marks
	if r.Is(flow.MarkSampled) {
		p.SampledRows++
	}
	if r.Sampling > 1 {
		v := new(big.Int).SetUint64(r.Octets)
		v.Mul(v, v).Mul(v, big.NewInt(int64(r.Sampling-1)))
		p.variance.Add(&p.variance, v.Div(v, new(big.Int).SetUint64(max(r.Packets, 1))))
	}
	p.flows = append(p.flows, uint64(r.Proto)<<32|uint64(a.port)<<16|uint64(b.port))
}

// voteOf is 1 for rows from the client, -1 for those to it.
func voteOf(c flow.Client) int64 {
	switch c {
	case flow.ClientSrc:
		return 1
	case flow.ClientDst:
		return -1
	case flow.ClientUnknown:
	}
	return 0
}

// ms gives milliseconds; stored times are whole ones.
func ms(ns int64) int64 { return ns / 1e6 }

// pick finds the first pairs of an order, and adds all up.
func (f *fewPairs) pick(sort string, limit int) (total sums, sampled, ambiguous uint64) {
	for _, p := range f.byName {
		if !p.canonical {
			continue
		}
		slices.Sort(p.flows)
		p.Flows[0] = uint64(len(slices.Compact(p.flows)))
		total.Rows++
		total.Octets, total.Packets, total.Flows = total.Octets+p.Octets, total.Packets+p.Packets, total.Flows+p.Flows[0]
		sampled, ambiguous = sampled+p.SampledRows, ambiguous+p.AmbiguousRows
		f.first = append(f.first, p)
	}
	name, desc := strings.CutPrefix(sort, "-")
	value := pairValue(name)
	slices.SortFunc(f.first, func(x, y *fewPair) int {
		c := cmp.Compare(value(&x.PairSums, x.FromA()), value(&y.PairSums, y.FromA()))
		if desc {
			c = -c
		}
		return cmp.Or(c, x.tie(y))
	})
	f.first = f.first[:min(len(f.first), limit)]
	return total, sampled, ambiguous
}

// tie is the order of pairTie.
func (p *fewPair) tie(o *fewPair) int {
	one, two := p.directed()
	other, another := o.directed()
	return cmp.Or(cmp.Compare(p.Fabric, o.Fabric), cmp.Compare(p.Segment, o.Segment), bytes.Compare(one.addr[:], other.addr[:]), cmp.Compare(one.vm, other.vm),
		bytes.Compare(two.addr[:], another.addr[:]), cmp.Compare(two.vm, another.vm), cmp.Compare(one.id, other.id), cmp.Compare(two.id, another.id))
}

// pairEnd is an end of a pair.
type pairEnd struct {
	addr         flow.Addr
	vm, id, host string
	vtep         flow.Addr
}

// directed gives the client and the server.
func (p *fewPair) directed() (src, dst pairEnd) {
	a, b := pairEnd{p.A, p.aVM.v, p.aID, p.aHost.v, p.aVTEP.v}, pairEnd{p.B, p.bVM.v, p.bID, p.bHost.v, p.bVTEP.v}
	if p.FromA() {
		return a, b
	}
	return b, a
}

// detail goes through the rows again for what is told of the first pairs only.
func (f *fewPairs) detail(rows iter.Seq[*flow.Record], in span) {
	for _, p := range f.first {
		p.shown, p.spark = true, make([]uint64, sparkParts)
	}
	i := 0
	for r := range rows {
		if p := f.ofRow[i]; p.shown {
			p.show(r, in)
		}
		i++
	}
}

// show adds what a row tells.
func (p *fewPair) show(r *flow.Record, in span) {
	name := r.Observer
	if name == "" {
		name = unnamed + uuid.UUID(r.Exporter).String() + "/" + strconv.FormatUint(uint64(r.Domain), 10)
	}
	note := func(list *[]string, s string) {
		if n := len(*list); s != "" && (n == 0 || (*list)[n-1] != s) {
			*list = append(*list, s)
		}
	}
	note(&p.apps, r.App)
	if !r.Is(flow.MarkCanonical) {
		note(&p.others, name)
		return
	}
	note(&p.seen, name)
	in.spread(p.spark, r)
}

// spread adds a row's octets to equal parts of a range.
func (s span) spread(parts []uint64, r *flow.Record) {
	n, from, to := int64(len(parts)), ms(r.StartNS), ms(r.EndNS)
	length := s.to - s.from
	part := func(at int64) int64 { return ((max(at-s.from, 0)+1)*n - 1) / length }
	before := func(at int64) uint64 {
		switch {
		case at > to:
			return r.Octets
		case at <= from:
			return 0
		}
		high, low := bits.Mul64(r.Octets, uint64(at-from))
		q, _ := bits.Div64(high, low, uint64(to-from))
		return q
	}
	for i := part(from); i <= min(part(to), n-1); i++ {
		parts[i] += before(s.from+length*(i+1)/n) - before(s.from+length*i/n)
	}
}

// pair gives the row of the answer.
func (p *fewPair) pair(all uint64) Pair {
	seg, fromA := flow.Segment(p.Segment), p.FromA()
	src, dst := p.directed()
	out := Pair{
		Ends: Ends{
			Segment: segmentText(seg), VNI: seg.Number(), Fabric: p.Fabric, Tenant: p.tenant.v, SrcVTEP: src.vtep.String(), SrcHost: src.host, SrcVM: src.vm, SrcVMID: src.id, SrcAddr: src.addr.String(),
			DstAddr: dst.addr.String(), DstVM: dst.vm, DstVMID: dst.id, DstHost: dst.host, DstVTEP: dst.vtep.String(), SameHost: src.host == dst.host && src.host != "",
		},
		Counts: Counts{
			OctetsFwd: p.OctetsAB, OctetsRev: p.Octets - p.OctetsAB, PacketsFwd: p.PacketsAB, PacketsRev: p.Packets - p.PacketsAB, Octets: p.Octets, Packets: p.Packets, Flows: p.Flows[0],
			Share: share(p.Octets, all), FirstSeen: msTime(p.FirstMS), LastSeen: msTime(p.LastMS), SeenBy: observerTexts(sortedOnce(p.seen), sortedOnce(p.others)), Duplicates: p.duplicates,
		},
		Conversations: p.Flows[0], Apps: sortedOnce(p.apps), Spark: p.spark,
	}
	if !fromA {
		out.OctetsFwd, out.OctetsRev, out.PacketsFwd, out.PacketsRev = out.OctetsRev, out.OctetsFwd, out.PacketsRev, out.PacketsFwd
	}
	variance, _ := new(big.Float).SetInt(&p.variance).Float64()
	out.OctetsError = uint64(math.Round(z95 * math.Sqrt(variance)))
	if p.Votes == 0 && p.PortVotes != 0 {
		p.marks |= flow.MarkGuess
	}
	out.Marks = markNames(p.marks)
	return out
}

// sortedOnce sorts a list and leaves each value once; it is never nil.
func sortedOnce(list []string) []string {
	if list == nil {
		return []string{}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
