package enrich

import (
	"crosstap/internal/flow"
)

// none is no flow.
const none = -1

// known is what is remembered of one direction of a flow. It fills up as observers tell what others do not.
type known struct {
	id        uint64 // the flow identifier; it stays when the rest becomes known
	exact     uint64 // key in table.exact
	tuple     uint64 // key in table.byTuple
	noMAC     uint64 // hash of all but the MAC addresses
	noSeg     uint64 // hash of all but the segment
	segment   flow.Segment
	macs      bool // the MAC addresses are known
	ambiguous bool // made for records that fitted two flows
	low       bool // the source is the lower end of the conversation
	conv      int32
	seenNS    int64
	batch     uint64 // the last one with a record of the flow

	newer, older    int32 // by use
	nextTup, prvTup int32 // flows of one 5-tuple

	by [maxBy]uint32 // exporters that have reported it, the first few

	election
}

// table finds the flow of a record. Flows are found by the whole merge key; a record that lacks the segment or
// the MAC addresses belongs to the one flow that fits the rest, and to none when two do.
type table struct {
	max      int
	lingerNS int64

	flows    []known
	free     []int32
	exact    map[uint64]int32
	byTuple  map[uint64]int32 // first of a list
	newest   int32
	oldest   int32
	nowNS    int64 // newest receipt
	convs    conversations
	evicted  uint64
	takeover uint64
	batch    uint64
	moved    func(from, to int32) // told when one flow turns out to be another
}

func newTable(limit int, lingerNS int64) *table {
	return &table{
		max: limit, lingerNS: lingerNS, newest: none, oldest: none,
		exact: make(map[uint64]int32), byTuple: make(map[uint64]int32), convs: newConversations(),
	}
}

func (t *table) len() int            { return len(t.exact) }
func (t *table) at(ref int32) *known { return &t.flows[ref] }
func hasMACs(r *flow.Record) bool    { return r.SrcMAC != 0 || r.DstMAC != 0 }
func complete(r *flow.Record) bool   { return r.Segment != 0 && hasMACs(r) }

// find returns the flow of a record, made when there is none. ambiguous tells that two fitted, and that the record
// therefore belongs to neither.
func (t *table) find(r *flow.Record) (ref int32, ambiguous bool) {
	tuple := tupleOf(r)
	key := exactKey(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric, kindExact)
	t.nowNS = max(t.nowNS, r.RecvNS)
	exporter := exporterMark(r)
	ref, ok := t.exact[key]
	if ok {
		f := &t.flows[ref]
		f.reported(exporter)
		t.touch(ref)
		return ref, f.ambiguous
	}
	byTuple := exactKey(&tuple, 0, 0, 0, "", kindTuple)
	noMAC := exactKey(&tuple, r.Segment, 0, 0, r.Fabric, kindNoMAC)
	noSeg := exactKey(&tuple, 0, r.SrcMAC, r.DstMAC, "", kindNoSeg)
	id := key
	if complete(r) {
		if ref := t.adopt(r, noMAC, noSeg, byTuple, exporter); ref != none {
			t.learn(ref, r, key, noMAC, noSeg)
			t.flows[ref].reported(exporter)
			t.touch(ref)
			return ref, false
		}
	} else {
		ref, two := t.only(r, noMAC, noSeg, byTuple, exporter)
		if ref != none {
			t.flows[ref].reported(exporter)
			t.touch(ref)
			return ref, false
		}
		if ambiguous = two; two {
			id = exactKey(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric, kindAmbiguous)
		}
	}
	ref = t.insert(known{
		id: id, exact: key, noMAC: noMAC, noSeg: noSeg, tuple: byTuple, segment: r.Segment, macs: hasMACs(r), ambiguous: ambiguous, seenNS: r.RecvNS,
		by: [maxBy]uint32{exporter},
	})
	conv, low := conversationKey(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric)
	t.flows[ref].conv, t.flows[ref].low = t.convs.join(conv), low
	return ref, ambiguous
}

// adopt finds the flow that an incomplete record began and that this complete one continues. When two incomplete
// ones did, one is adopted and the other forgotten: its next record finds the adopted one.
func (t *table) adopt(r *flow.Record, noMAC, noSeg, byTuple uint64, exporter uint32) int32 {
	first := t.first(byTuple)
	bySeg := t.orphan(first, func(f *known) bool { return f.noSeg == noSeg && f.segment == 0 && f.macs })
	byMAC := t.orphan(first, func(f *known) bool { return f.noMAC == noMAC && !f.macs && f.segment == r.Segment })
	if bySeg == none && byMAC == none {
		return t.orphan(first, func(f *known) bool { return f.bare() && f.has(exporter) })
	}
	if bySeg == none {
		return byMAC
	}
	if byMAC != none {
		t.moved(byMAC, bySeg)
		t.remove(byMAC)
	}
	return bySeg
}

// first is the begin of the list of one 5-tuple's flows: all that a record can belong to.
func (t *table) first(byTuple uint64) int32 {
	if ref, ok := t.byTuple[byTuple]; ok {
		return ref
	}
	return none
}

// maxBy is how many exporters of a flow are remembered.
const maxBy = 4

// exporterMark stands for an exporter's address; it is never 0.
func exporterMark(r *flow.Record) uint32 {
	h := uint32(2166136261)
	for _, b := range r.Exporter {
		h = (h ^ uint32(b)) * 16777619
	}
	return h | 1
}

// reported notes who has reported the flow.
func (f *known) reported(exporter uint32) {
	for i, e := range f.by {
		if e == exporter {
			return
		}
		if e == 0 {
			f.by[i] = exporter
			return
		}
	}
}

func (f *known) has(exporter uint32) bool {
	for _, e := range f.by {
		if e == exporter {
			return true
		}
	}
	return false
}

// bare reports whether neither segment nor MAC addresses are known, as of an exporter of NetFlow v5.
func (f *known) bare() bool { return f.segment == 0 && !f.macs }

// maxWalk bounds a walk along a list: with more flows of one 5-tuple than that (as many tenants with the same addresses) nothing
// is unique any more.
const maxWalk = 64

func (t *table) orphan(ref int32, fits func(*known) bool) int32 {
	for n := 0; ref != none && n < maxWalk; n++ {
		f := &t.flows[ref]
		if !f.ambiguous && fits(f) {
			return ref
		}
		ref = f.nextTup
	}
	return none
}

// only finds the one flow that an incomplete record fits. two tells that more than one does.
func (t *table) only(r *flow.Record, noMAC, noSeg, byTuple uint64, exporter uint32) (ref int32, two bool) {
	first := t.first(byTuple)
	if hasMACs(r) {
		ref, two = t.single(first, func(f *known) bool { return f.noSeg == noSeg && f.segment != 0 })
		if ref != none || two {
			return ref, two
		}
		// a flow begun without either: it has the unknown segment in common
		ref = t.orphan(first, func(f *known) bool { return f.noMAC == noMAC && !f.macs })
		if ref != none {
			tuple := tupleOf(r)
			t.learn(ref, r, exactKey(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric, kindExact), noMAC, noSeg)
		}
		return ref, false
	}
	ref, two = t.single(first, func(f *known) bool { return f.noMAC == noMAC && f.macs })
	if ref != none || two || r.Segment != 0 {
		return ref, two
	}
	// neither segment nor MAC addresses: the one flow of this 5-tuple that the same exporter reports in another way
	return t.single(first, func(f *known) bool { return !f.bare() && f.has(exporter) })
}

func (t *table) single(ref int32, fits func(*known) bool) (found int32, two bool) {
	found = none
	for n := 0; ref != none; n++ {
		f := &t.flows[ref]
		if fit := !f.ambiguous && fits(f); fit && found != none || n == maxWalk {
			return none, true
		} else if fit {
			found = ref
		}
		ref = f.nextTup
	}
	return found, false
}

// learn gives a flow what it lacked.
func (t *table) learn(ref int32, r *flow.Record, exact, noMAC, noSeg uint64) {
	t.unlink(ref)
	f := &t.flows[ref]
	f.exact, f.noMAC, f.noSeg = exact, noMAC, noSeg
	f.segment, f.macs = r.Segment, hasMACs(r)
	t.link(ref)
}

// insert adds a flow, and makes room for it.
func (t *table) insert(f known) int32 {
	for range 2 { // a little more than is added: what nobody reports any more goes
		if o := t.oldest; o != none && t.nowNS-t.flows[o].seenNS > t.lingerNS && t.flows[o].batch != t.batch {
			t.remove(o)
		}
	}
	if len(t.exact) >= t.max {
		t.remove(t.oldest)
		t.evicted++
	}
	var ref int32
	if n := len(t.free); n > 0 {
		ref, t.free = t.free[n-1], t.free[:n-1]
	} else {
		ref = int32(len(t.flows))
		t.flows = append(t.flows, known{})
	}
	f.batch = t.batch
	t.flows[ref] = f
	t.link(ref)
	t.use(ref)
	return ref
}

func (t *table) remove(ref int32) {
	t.unlink(ref)
	t.unuse(ref)
	t.convs.leave(t.flows[ref].conv)
	t.flows[ref] = known{}
	t.free = append(t.free, ref)
}

// link enters a flow under its keys.
func (t *table) link(ref int32) {
	f := &t.flows[ref]
	t.exact[f.exact] = ref
	f.prvTup, f.nextTup = none, t.first(f.tuple)
	if f.nextTup != none {
		t.flows[f.nextTup].prvTup = ref
	}
	t.byTuple[f.tuple] = ref
}

func (t *table) unlink(ref int32) {
	f := &t.flows[ref]
	delete(t.exact, f.exact)
	switch {
	case f.prvTup != none:
		t.flows[f.prvTup].nextTup = f.nextTup
	case f.nextTup != none:
		t.byTuple[f.tuple] = f.nextTup
	default:
		delete(t.byTuple, f.tuple)
	}
	if f.nextTup != none {
		t.flows[f.nextTup].prvTup = f.prvTup
	}
}

// use puts a flow at the newest end.
func (t *table) use(ref int32) {
	f := &t.flows[ref]
	f.newer, f.older = none, t.newest
	if t.newest != none {
		t.flows[t.newest].newer = ref
	} else {
		t.oldest = ref
	}
	t.newest = ref
}

func (t *table) unuse(ref int32) {
	f := &t.flows[ref]
	if f.newer != none {
		t.flows[f.newer].older = f.older
	} else {
		t.newest = f.older
	}
	if f.older != none {
		t.flows[f.older].newer = f.newer
	} else {
		t.oldest = f.newer
	}
}

func (t *table) touch(ref int32) {
	t.flows[ref].seenNS, t.flows[ref].batch = t.nowNS, t.batch
	if t.newest != ref {
		t.unuse(ref)
		t.use(ref)
	}
}
