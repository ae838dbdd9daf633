package enrich

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"crosstap/internal/flow"
)

// rec is a record of one fixed 5-tuple as somebody sees it.
func rec(seg flow.Segment, src, dst flow.MAC) flow.Record {
	return flow.Record{
		Segment: seg, SrcMAC: src, DstMAC: dst, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: 6, SrcPort: 40000, DstPort: 80,
		StartNS: 1e9, EndNS: 2e9, RecvNS: 3e9, Packets: 1,
	}
}

// ids enriches records one by one and numbers their flows in the order in which they appear.
func ids(e *Enricher, recs ...flow.Record) string {
	number, out := map[uint64]int{}, ""
	for i := range recs {
		e.Records(recs[i : i+1])
		id := recs[i].FlowID
		if number[id] == 0 {
			number[id] = len(number) + 1
		}
		out += fmt.Sprint(number[id])
		if recs[i].Is(flow.MarkAmbiguous) {
			out += "?"
		}
	}
	return out
}

func TestMerge(t *testing.T) {
	f := func(want string, recs ...flow.Record) {
		t.Helper()
		e := enricher(t, nil)
		if got := ids(e, recs...); got != want {
			t.Errorf("flows %s, want %s", got, want)
		}
		e.flows.check(t)
	}
	blue, red, noSeg := rec(vxlan(1), 1, 2), rec(vxlan(2), 1, 2), rec(0, 1, 2)
	noMAC, bare := rec(vxlan(1), 0, 0), rec(0, 0, 0)
	hop := rec(vxlan(1), 3, 4)

	f("11", blue, blue)
	f("12", blue, red)                  // overlapping tenants never merge, whatever else is alike
	f("12", blue, hop)                  // a routed hop is another flow
	f("1111", blue, noSeg, noMAC, blue) // the one flow that fits the rest
	f("111", noSeg, blue, noSeg)        // the same in another order
	f("111", noMAC, blue, noMAC)
	f("123?", blue, red, noSeg) // two fit: neither
	f("123?3?12", blue, red, noSeg, noSeg, blue, red)
	f("123?", blue, hop, noMAC)
	f("112", noSeg, blue, red) // the first to be told takes what began without
	f("1123?", noSeg, blue, red, noSeg)
	f("12111", noSeg, noMAC, blue, noSeg, noMAC) // two incomplete ones become one
	f("11", noSeg, bare)                         // both without a segment
	f("11", bare, noSeg)
	stranger := bare
	stranger.Exporter = flow.Addr{15: 9}
	f("12", blue, stranger) // another's segment is not bare's
	f("11", blue, bare)     // unless the same exporter reports the flow in another way, as NetFlow v5 beside IPFIX
	f("111", bare, blue, bare)
	f("123?", blue, red, bare) // which of two it was nobody knows
	f("111", bare, bare, bare)
	f("12", red, noMAC) // noMAC knows its segment

	other := noSeg
	other.DstMAC = 9
	f("12", noSeg, other)
	f("123?", noSeg, other, bare)
	f("12", noSeg, func() flow.Record { r := noSeg; r.SrcPort++; return r }())
}

// Within one batch a flow that turns out to be another keeps no record behind.
func TestMergeInOneBatch(t *testing.T) {
	e := enricher(t, nil)
	recs := []flow.Record{rec(0, 1, 2), rec(vxlan(1), 0, 0), rec(vxlan(1), 1, 2), rec(0, 1, 2)}
	for i := range recs {
		recs[i].Domain = uint32(i)
	}
	e.Records(recs)
	canonical := 0
	for i := range recs {
		r := &recs[i]
		if r.FlowID != recs[0].FlowID || r.Segment != vxlan(1) {
			t.Errorf("record %d: flow %x, segment %x", i, r.FlowID, uint64(r.Segment))
		}
		if r.Is(flow.MarkCanonical) {
			canonical++
		}
	}
	if canonical != 1 {
		t.Errorf("%d canonical rows", canonical)
	}
}

// Identifiers do not depend on when the collector was started.
func TestFlowIDIsStable(t *testing.T) {
	r := []flow.Record{rec(vxlan(5001), 0x020000000001, 0x020000000002)}
	enricher(t, nil).Records(r)
	if fmt.Sprintf("%016x", r[0].FlowID) != stableFlowID {
		t.Errorf("flow id %016x, want %s: stored flows would no longer join", r[0].FlowID, stableFlowID)
	}
}

const stableFlowID = "996b6dea9fc68962"

// check verifies the table's lists against each other.
func (t *table) check(tb testing.TB) {
	tb.Helper()
	n := 0
	for ref := t.newest; ref != none; ref = t.flows[ref].older {
		f := &t.flows[ref]
		if found, _ := t.exact.get(f.exact); found != ref || f.older != none && t.flows[f.older].newer != ref {
			tb.Fatalf("flow %d is not found by its key, or the order is broken", ref)
		}
		at := t.first(f.tuple)
		for at != ref && at != none {
			at = t.flows[at].nextTup
		}
		if at != ref {
			tb.Fatalf("flow %d is not in its list", ref)
		}
		n++
	}
	if n != t.len() || n+len(t.free) != len(t.flows) {
		tb.Fatalf("%d flows in order, %d keys, %d free of %d", n, t.len(), len(t.free), len(t.flows))
	}
	listed := 0
	for ref := range t.byTuple.all {
		for ; ref != none; ref = t.flows[ref].nextTup {
			listed++
		}
	}
	if listed != n {
		tb.Fatalf("%d list places for %d flows", listed, n)
	}
	refs := int32(0)
	for c := range t.convs.byKey.all {
		refs += t.convs.list[c].refs
	}
	if int(refs) != n {
		tb.Fatalf("%d conversation ends for %d flows", refs, n)
	}
}

// Random observers of random flows: complete records of different flows never share an identifier, those of one
// flow always do while it is remembered, and the table stays whole and bounded.
func TestMergeRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, limit := range []int{16, 40, 1 << 12} {
		e := enricher(t, func(c *Config) { c.MaxFlows = limit })
		type truth struct {
			seg      flow.Segment
			src, dst flow.MAC
			port     uint16
		}
		seen := map[uint64]truth{}
		last := map[truth]uint64{}
		for range 3000 {
			batch := make([]flow.Record, 1+r.IntN(20))
			truths := make([]truth, len(batch))
			for i := range batch {
				w := truth{vxlan(1 + r.Uint32N(3)), flow.MAC(1 + r.IntN(2)), flow.MAC(3 + r.IntN(2)), uint16(r.IntN(6))}
				rr := rec(w.seg, w.src, w.dst)
				rr.SrcPort, rr.Domain = w.port, r.Uint32N(3)
				switch r.IntN(4) {
				case 0:
					rr.Segment = 0
				case 1:
					rr.SrcMAC, rr.DstMAC = 0, 0
				}
				batch[i], truths[i] = rr, w
				if rr.Segment == 0 || rr.SrcMAC == 0 {
					truths[i] = truth{}
				}
			}
			e.Records(batch)
			e.flows.check(t)
			for i, w := range truths {
				id := batch[i].FlowID
				if id == 0 {
					t.Fatal("no flow id")
				}
				if w == (truth{}) {
					continue
				}
				if have, ok := seen[id]; ok && have != w && limit > 100 {
					t.Fatalf("flows %+v and %+v share an identifier", have, w)
				}
				if limit > 100 && last[w] != 0 && last[w] != id {
					t.Fatalf("flow %+v changed its identifier", w)
				}
				seen[id], last[w] = w, id
			}
		}
		if n := e.Stats(); n.Flows > uint64(limit) || limit == 16 && n.Evicted == 0 {
			t.Errorf("%+v with a limit of %d", n, limit)
		}
	}
}

// first is the begin of the list of one 5-tuple's flows: all that a record can belong to.
func (t *table) first(byTuple uint64) int32 {
	ref, _ := t.byTuple.get(byTuple)
	return ref
}
