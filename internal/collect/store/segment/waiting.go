package segment

import (
	"reflect"
	"slices"
	"unsafe"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// Records wait for the disk as columns: a record is some 600 bytes, most of which say what the record before said. They are taken apart while whoever
// appends them still has them close to the processor, and are not read again.

// derived are the columns that no field of a record holds as it is.
type derived struct {
	TEnd, SpanMS, LagMS int64
	L2Header            uint16
	L2Other             uint64
	FlowKey             uint64
}

func (d *derived) of(r *flow.Record) {
	d.TEnd = floorMS(r.EndNS)
	d.SpanMS, d.LagMS = d.TEnd-floorMS(r.StartNS), floorMS(r.RecvNS)-d.TEnd
	d.L2Header, d.L2Other = splitL2(r.L2Octets, r.Octets, r.Packets)
	d.FlowKey = r.FlowID ^ portsOf(uint64(r.SrcPort), uint64(r.DstPort))
}

// origin is where a column of a record comes from.
type origin struct {
	derived bool
	offset  uintptr
}

// renamed are the fields that a record has under another name.
var renamed = map[string]string{"ICMP": "ICMPTypeCode", "OuterSrc": "Src", "OuterDst": "Dst", "OuterSrcPort": "SrcPort", "OuterDstPort": "DstPort", "OuterProto": "Proto", "TunnelType": "Type"}

// recordOrigins gives the origin of each field of a row.
var recordOrigins = func() (out []origin) {
	t, rec, made := reflect.TypeFor[row](), reflect.TypeFor[flow.Record](), reflect.TypeFor[derived]()
	tunnel, _ := rec.FieldByName("Tunnel")
	for i := range t.NumField() {
		f := t.Field(i)
		from, ok := made.FieldByName(f.Name)
		o := origin{ok, from.Offset}
		if name, other := renamed[f.Name]; !ok && other && name != "ICMPTypeCode" {
			from, ok = tunnel.Type.FieldByName(name)
			o.offset = tunnel.Offset + from.Offset
		} else if !ok {
			if !other {
				name = f.Name
			}
			from, ok = rec.FieldByName(name)
			o.offset = from.Offset
		}
		if !ok || from.Type.Size() != f.Type.Size() {
			panic("segment: no field of a record is like " + f.Name)
		}
		out = append(out, o)
	}
	return out
}()

// Places of columns that order rows and describe files.
var (
	atSegment, atSrc, atDst = columnAt("segment"), columnAt("src"), columnAt("dst")
	atTEnd, atSpan          = columnAt("t_end"), columnAt("span_ms")
	atFlowKey, atObserver   = columnAt("flow_key"), columnAt("observer_id")
	atSrcPort, atDstPort    = columnAt("src_port"), columnAt("dst_port")
)

func columnAt(name string) int {
	return slices.IndexFunc(storedColumns, func(c store.Column) bool { return c.Name == name })
}

// batch is the columns of records that wait, in the order in which they came. One can be used for many records, one after the other.
type batch struct {
	columns      []column
	rows         int
	fromNS, toNS int64 // least start and greatest end
	recs, made   [takeRows]unsafe.Pointer
	vals         [takeRows]derived
}

// takeRows is how many records are taken together: they fit the cache that is next to the processor.
const takeRows = 32

func newBatch() *batch {
	b := &batch{}
	t := reflect.TypeFor[row]()
	for i := range t.NumField() {
		f := t.Field(i)
		b.columns = append(b.columns, newColumn(f.Type, hasDictionary(f), f.Type.Kind() == reflect.Int64, true))
	}
	for i := range b.vals {
		b.made[i] = unsafe.Pointer(&b.vals[i])
	}
	return b
}

// add takes records; it keeps the strings in them.
func (b *batch) add(recs []flow.Record) {
	if b.rows == 0 && len(recs) > 0 {
		b.fromNS, b.toNS = recs[0].StartNS, recs[0].EndNS
	}
	for len(recs) > 0 {
		n := min(len(recs), takeRows)
		for i := range n {
			r := &recs[i]
			b.vals[i].of(r)
			b.recs[i] = unsafe.Pointer(r)
			b.fromNS, b.toNS = min(b.fromNS, r.StartNS), max(b.toNS, r.EndNS)
		}
		for i, c := range b.columns {
			from := b.recs[:n]
			if recordOrigins[i].derived {
				from = b.made[:n]
			}
			c.add(from, recordOrigins[i].offset)
		}
		clear(b.recs[:n]) // they are the caller's
		b.rows += n
		recs = recs[n:]
	}
}

func (b *batch) reset() {
	b.rows = 0
	for _, c := range b.columns {
		c.reset()
	}
}

// numbers gives the values of a column of numbers that has no dictionary.
func (b *batch) numbers(column int) []uint64 { return b.columns[column].(*numberColumn).values }

// times gives the values of a column of times or spans, milliseconds.
func (b *batch) times(column int) []int64 {
	v := b.numbers(column)
	return unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(v))), len(v))
}

// batch takes the rows with the given indexes; nothing else goes into a file with them.
func (e *encoder) batch(b *batch, order []int32) error {
	ends, spans := b.times(atTEnd), b.times(atSpan)
	for len(order) > 0 {
		n := min(len(order), e.w.groupRows)
		for _, at := range order[:n] {
			e.foot.count(ends[at]-spans[at], ends[at])
		}
		for i := range e.w.columns {
			e.w.columns[i].take(b.columns[i], order[:n], &e.picks)
		}
		if err := e.w.wrote(n); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// picker puts indexes into a dictionary into another order. It keeps its memory from one column to the next.
type picker struct {
	all    []uint32 // index of each row
	number []uint32 // 1 + new index by old one; 0 while there is none
	old    []uint32 // old index by new one
}

// pick puts the rows with the given numbers into to, which is empty, the different values numbered anew in the order in which they come. It returns their old
// indexes, valid until the next call.
func (p *picker) pick(from *stretches, different int, order []int32, to *stretches) []uint32 {
	p.old = p.old[:0]
	if different == 1 {
		to.change(0)
		to.n = uint32(len(order))
		return append(p.old, 0)
	}
	p.all = from.expand(p.all[:0])
	p.number = slices.Grow(p.number[:0], different)[:different]
	clear(p.number)
	last, same := ^uint32(0), uint32(0)
	for _, at := range order {
		if v := p.all[at]; v != last {
			to.n += same
			if p.number[v] == 0 {
				p.old = append(p.old, v)
				p.number[v] = uint32(len(p.old))
			}
			to.change(p.number[v] - 1)
			last, same = v, 0
		}
		same++
	}
	to.n += same
	return p.old
}

func (c *numberColumn) take(from column, order []int32, p *picker) {
	f := from.(*numberColumn)
	if !c.dict {
		c.values = slices.Grow(c.values, len(order))[:len(order)]
		for i, at := range order {
			c.values[i] = f.values[at]
		}
		return
	}
	for _, n := range p.pick(&f.indexes, len(f.values), order, &c.indexes) {
		c.values = append(c.values, f.values[n])
	}
}

func (c *addrColumn) take(from column, order []int32, p *picker) {
	f := from.(*addrColumn)
	for _, n := range p.pick(&f.indexes, len(f.values), order, &c.indexes) {
		c.values = append(c.values, f.values[n])
	}
}

func (c *textColumn) take(from column, order []int32, p *picker) {
	f := from.(*textColumn)
	for _, n := range p.pick(&f.indexes, len(f.values), order, &c.indexes) {
		c.values = append(c.values, f.values[n])
	}
}
