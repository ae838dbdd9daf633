package segment

import (
	"reflect"
	"sync/atomic"
	"unsafe"

	"crosstap/internal/flow"
)

// Records become columns without becoming rows first: most columns are read from where the record has them.

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
	d.FlowKey = r.FlowID ^ (uint64(r.SrcPort)<<48 | uint64(r.DstPort)<<32)
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

// recordBlock is the part of the records that goes from column to column.
type recordBlock struct {
	recs [blockRows]unsafe.Pointer
	made [blockRows]unsafe.Pointer // of values
	vals [blockRows]derived
}

// touched keeps the loads of touch from being left out as useless.
var touched atomic.Uint32

// touch looks at all of some records, which lie far apart, with nothing in between that waits: their memory is fetched for many at a time.
func touch(recs []flow.Record, order []int32) {
	const line = 64
	sum := uint32(0)
	for _, at := range order {
		p := unsafe.Pointer(&recs[at])
		for off := uintptr(0); off < unsafe.Sizeof(recs[0]); off += line {
			sum += uint32(*(*uint8)(unsafe.Add(p, off)))
		}
	}
	if sum == 1<<32-1 {
		touched.Add(1)
	}
}

// records takes the records with the given indexes.
func (e *encoder) records(recs []flow.Record, order []int32) error {
	b := &e.recs
	defer clear(b.recs[:]) // nothing is kept alive
	for i := range b.vals {
		b.made[i] = unsafe.Pointer(&b.vals[i])
	}
	touch(recs, order[:min(len(order), blockRows)])
	for len(order) > 0 {
		n := min(len(order), e.w.room())
		touch(recs, order[n:min(len(order), n+blockRows)])
		for i, at := range order[:n] {
			r, d := &recs[at], &b.vals[i]
			d.of(r)
			e.foot.count(d.TEnd-d.SpanMS, d.TEnd)
			b.recs[i] = unsafe.Pointer(r)
		}
		for i := range e.w.columns {
			from := b.recs[:n]
			o := recordOrigins[i]
			if o.derived {
				from = b.made[:n]
			}
			e.w.columns[i].add(from, o.offset)
		}
		if err := e.w.wrote(n); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}
