package enrich

import (
	"encoding/binary"
	"math/bits"

	"crosstap/internal/flow"
)

// none is no flow.
const none = -1

// known is what is remembered of one direction of a flow. It fills up as observers tell what others do not.
type known struct {
	newer, older    int32 // by use
	nextTup, prvTup int32 // flows of one 5-tuple
	seenNS          int64
	batch           uint64 // the last one with a record of the flow

	id             uint64 // the flow identifier; it stays when the rest becomes known
	exact          uint64 // key in table.exact
	tuple          uint64 // key in table.byTuple
	segment        flow.Segment
	srcMAC, dstMAC flow.MAC
	fabric         uint64 // fabricSeed of its fabric
	conv           int32
	ambiguous      bool // made for records that fitted two flows
	low            bool // the source is the lower end of the conversation

	by [maxBy]uint32 // exporters that have reported it, the first few

	election
}

// macs reports whether the MAC addresses are known.
func (f *known) macs() bool { return f.srcMAC != 0 || f.dstMAC != 0 }

// sameMACs and sameSegment compare with a record of the same 5-tuple: all but the segment, and all but the MAC addresses.
func (f *known) sameMACs(r *flow.Record) bool { return f.srcMAC == r.SrcMAC && f.dstMAC == r.DstMAC }

func (f *known) sameSegment(r *flow.Record) bool {
	return f.segment == r.Segment && f.fabric == fabricSeed(r.Fabric)
}

// table finds the flow of a record. Flows are found by the whole merge key; a record that lacks the segment or
// the MAC addresses belongs to the one flow that fits the rest, and to none when two do.
type table struct {
	max      int
	lingerNS int64

	flows    []known
	free     []int32
	exact    refs
	byTuple  refs // first of a list
	newest   int32
	oldest   int32
	nowNS    int64 // newest receipt
	convs    conversations
	evicted  uint64
	takeover uint64
	batch    uint64
	fetched  uint32
	moved    func(from, to int32) // told when one flow turns out to be another
}

func newTable(limit int, lingerNS int64) *table {
	t := &table{max: limit, lingerNS: lingerNS, newest: none, oldest: none}
	t.exact.limit, t.byTuple.limit, t.convs.byKey.limit = limit, limit, limit
	return t
}

func (t *table) len() int            { return t.exact.len() }
func (t *table) at(ref int32) *known { return &t.flows[ref] }
func hasMACs(r *flow.Record) bool    { return r.SrcMAC != 0 || r.DstMAC != 0 }
func complete(r *flow.Record) bool   { return r.Segment != 0 && hasMACs(r) }

// keys are what a record's flow is found by.
type keys struct {
	exact       uint64
	tuple, conv uint64 // 0 while nobody needs them
	near        int32  // number of what seems to be the flow, none for a new one
	low         bool   // see known
	ambiguous   bool   // two segments or machines fitted
}

// of works out the key that finds the record's flow when that is known.
func (k *keys) of(r *flow.Record) {
	tuple := tupleOf(r)
	k.exact, k.tuple = exactKey(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric, kindExact), 0
}

func (k *keys) rest(r *flow.Record) {
	tuple := tupleOf(r)
	k.tuple, k.conv, k.low = tupleKeys(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric)
}

// fetch works out what else the flows of a batch that seem to be new are found by, and looks at all that find will need, with nothing
// in between that waits: the memory is then fetched for many records at a time.
func (t *table) fetch(recs []flow.Record, ks []keys) {
	seen := uint32(0)
	for i := range ks { // first the slots alone: where what is in them decides, a wrong guess of the processor waits for the memory, once for each record
		seen += t.exact.touch(ks[i].exact)
	}
	for i := range ks {
		ks[i].near, _ = t.exact.near(ks[i].exact)
	}
	for i := range ks {
		if k := &ks[i]; k.near == none {
			k.rest(&recs[i])
		} else {
			f := &t.flows[k.near]
			seen += uint32(f.older) + uint32(f.id) + f.by[0] // its three lines of memory
		}
	}
	for i := range ks {
		if k := &ks[i]; k.near == none {
			seen += t.byTuple.touch(k.tuple) + t.convs.byKey.touch(k.conv)
		} else {
			seen += uint32(t.convs.list[t.flows[k.near].conv].refs)
		}
	}
	t.fetched += seen // keeps the loads from being left out as useless
}

// find returns the flow of a record, made when there is none. ambiguous tells that two fitted, and that the record
// therefore belongs to neither.
func (t *table) find(r *flow.Record, k *keys) (ref int32, ambiguous bool) {
	t.nowNS = max(t.nowNS, r.RecvNS)
	exporter := exporterMark(r)
	ref, at := t.exact.get(k.exact)
	if ref != none {
		f := &t.flows[ref]
		f.reported(exporter)
		t.touch(ref)
		return ref, f.ambiguous
	}
	if k.tuple == 0 {
		k.rest(r)
	}
	id := k.exact
	first, atTuple := t.byTuple.get(k.tuple)
	if first != none {
		if ref, ambiguous = t.joins(r, k, first, exporter); ref != none {
			t.flows[ref].reported(exporter)
			t.touch(ref)
			return ref, false
		}
		if ambiguous {
			tuple := tupleOf(r)
			id = exactKey(&tuple, r.Segment, r.SrcMAC, r.DstMAC, r.Fabric, kindAmbiguous)
		}
	}
	ref = t.insert()
	if first != none { // it may have gone to make room
		first, atTuple = t.byTuple.get(k.tuple)
	}
	f := &t.flows[ref]
	*f = known{} // and field by field: a value that is made elsewhere first would be copied before its parts are written
	f.id, f.exact, f.tuple = id, k.exact, k.tuple
	f.segment, f.srcMAC, f.dstMAC, f.fabric = r.Segment, r.SrcMAC, r.DstMAC, fabricSeed(r.Fabric)
	f.ambiguous, f.low, f.conv = ambiguous, k.low, t.convs.join(k.conv)
	f.seenNS, f.batch, f.by[0] = r.RecvNS, t.batch, exporter
	t.exact.putAt(at, k.exact, none, ref)
	t.lead(ref, atTuple, first)
	t.use(ref)
	return ref, ambiguous
}

// joins finds among the flows of a record's 5-tuple the one that it belongs to, though one of them lacks something.
func (t *table) joins(r *flow.Record, k *keys, first int32, exporter uint32) (ref int32, ambiguous bool) {
	if !complete(r) {
		return t.only(r, k, first, exporter)
	}
	if ref = t.adopt(r, first, exporter); ref != none {
		t.learn(ref, r, k.exact)
	}
	return ref, false
}

// adopt finds the flow that an incomplete record began and that this complete one continues. When two incomplete
// ones did, one is adopted and the other forgotten: its next record finds the adopted one.
func (t *table) adopt(r *flow.Record, first int32, exporter uint32) int32 {
	bySeg := t.orphan(first, func(f *known) bool { return f.segment == 0 && f.macs() && f.sameMACs(r) })
	byMAC := t.orphan(first, func(f *known) bool { return !f.macs() && f.sameSegment(r) })
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

// maxBy is how many exporters of a flow are remembered.
const maxBy = 4

// exporterMark stands for an exporter's address; it is never 0.
func exporterMark(r *flow.Record) uint32 { return uint32(exporterHash(&r.Exporter, 0)>>32) | 1 }

// exporterHash is of this process only.
func exporterHash(a *flow.Addr, domain uint32) uint64 {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(a[:8])^hashMul, (binary.LittleEndian.Uint64(a[8:])^uint64(domain))*hashMul|1)
	return (hi ^ lo) * hashMul
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
func (f *known) bare() bool { return f.segment == 0 && !f.macs() }

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
func (t *table) only(r *flow.Record, k *keys, first int32, exporter uint32) (ref int32, two bool) {
	if hasMACs(r) {
		ref, two = t.single(first, func(f *known) bool { return f.segment != 0 && f.sameMACs(r) })
		if ref != none || two {
			return ref, two
		}
		// a flow begun without either: it has the unknown segment in common
		ref = t.orphan(first, func(f *known) bool { return !f.macs() && f.sameSegment(r) })
		if ref != none {
			t.learn(ref, r, k.exact)
		}
		return ref, false
	}
	ref, two = t.single(first, func(f *known) bool { return f.macs() && f.sameSegment(r) })
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
func (t *table) learn(ref int32, r *flow.Record, exact uint64) {
	t.unlink(ref)
	f := &t.flows[ref]
	f.exact, f.segment, f.srcMAC, f.dstMAC, f.fabric = exact, r.Segment, r.SrcMAC, r.DstMAC, fabricSeed(r.Fabric)
	t.link(ref)
}

// insert makes room for a flow, which the caller fills in and links.
func (t *table) insert() int32 {
	for range 2 { // a little more than is added: what nobody reports any more goes
		if o := t.oldest; o != none && t.nowNS-t.flows[o].seenNS > t.lingerNS && t.flows[o].batch != t.batch {
			t.remove(o)
		}
	}
	if t.len() >= t.max {
		t.remove(t.oldest)
		t.evicted++
	}
	if n := len(t.free); n > 0 {
		ref := t.free[n-1]
		t.free = t.free[:n-1]
		return ref
	}
	t.flows = append(room(t.flows, t.max), known{})
	return int32(len(t.flows)) - 1
}

func (t *table) remove(ref int32) {
	t.unlink(ref)
	t.unuse(ref)
	t.convs.leave(t.flows[ref].conv)
	t.free = append(t.free, ref)
}

// link enters a flow under its keys.
func (t *table) link(ref int32) {
	f := &t.flows[ref]
	t.exact.put(f.exact, ref)
	first, at := t.byTuple.get(f.tuple)
	t.lead(ref, at, first)
}

// lead puts a flow before the first one of its 5-tuple, which byTuple has at a slot.
func (t *table) lead(ref int32, at uint32, first int32) {
	f := &t.flows[ref]
	f.prvTup, f.nextTup = none, first
	if first != none {
		t.flows[first].prvTup = ref
	}
	t.byTuple.putAt(at, f.tuple, first, ref)
}

func (t *table) unlink(ref int32) {
	f := &t.flows[ref]
	t.exact.del(f.exact, ref)
	switch {
	case f.prvTup != none:
		t.flows[f.prvTup].nextTup = f.nextTup
	case f.nextTup != none:
		t.byTuple.put(f.tuple, f.nextTup)
	default:
		t.byTuple.del(f.tuple, ref)
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
