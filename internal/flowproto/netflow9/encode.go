// Package netflow9 encodes NetFlow version 9 (RFC 3954).
package netflow9

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/encode"
)

// Lengths and limits of a datagram.
const (
	headerLen    = 20
	flowSetLen   = 4
	minDatagram  = 512
	maxDatagram  = 65507 // of UDP over IPv4
	templateSet  = 0
	optionsSet   = 1
	firstDataSet = 256
	version      = 9
)

// Encoder turns flow records into datagrams of one source. A template goes out before the first record of its
// shape, in the same datagram. The tenant's packet is told; a tunnel's endpoints have no field. One goroutine at a time.
type Encoder struct {
	source  uint32
	maxLen  int
	seq     uint32 // finished datagrams
	buf     []byte
	count   int // records of all kinds in buf, templates too
	records int // flow records in buf
	setID   int // of the open flow set, -1 when none is open
	setAt   int
	clock   clock
	layouts map[shape]*layout
	order   []*layout
	options []*optionTemplate
	last    *layout
	omitted uint64
}

// layout is a shape's template.
type layout struct {
	shape   shape
	id      uint16
	columns []column
	record  []byte
	told    bool
}

// NewEncoder returns an encoder for a source identifier and datagrams of at most maxLen bytes, brought into the limits
// of UDP. It knows the templates of plain IPv4 and IPv6, so that there is something to say before the first flow.
func NewEncoder(source uint32, maxLen int) *Encoder {
	e := &Encoder{source: source, setID: -1, layouts: make(map[shape]*layout)}
	e.SetMaxLen(maxLen)
	for _, t := range []encode.Transport{encode.TCP, encode.Ports, encode.ICMP} {
		e.layout(shape{net: 4, transport: t, macs: true})
		e.layout(shape{net: 6, transport: t, macs: true})
	}
	return e
}

// SetMaxLen changes the length that datagrams may have, from the next record on.
func (e *Encoder) SetMaxLen(n int) { e.maxLen = min(max(n, minDatagram), maxDatagram) }

// MaxLen returns the length that datagrams may have.
func (e *Encoder) MaxLen() int { return e.maxLen }

// Sequence returns the number of finished datagrams, modulo 2³².
func (e *Encoder) Sequence() uint32 { return e.seq }

// Records returns the number of flow records in the unfinished datagram.
func (e *Encoder) Records() int { return e.records }

// Omitted returns the number of records whose VTEPs could not be told.
func (e *Encoder) Omitted() uint64 { return e.omitted }

// Forget makes the encoder send every template again before its next record.
func (e *Encoder) Forget() {
	for _, l := range e.order {
		l.told = false
	}
	for _, o := range e.options {
		o.told = false
	}
}

// Restart throws away the datagram in the making; the next one has the sequence number seq, because those from it on did not
// leave. Every template will be told again.
func (e *Encoder) Restart(seq uint32) {
	e.buf, e.records, e.count, e.setID = e.buf[:0], 0, 0, -1
	e.clock.open, e.clock.newest = false, 0
	e.seq = seq
	e.Forget()
}

// SequenceOf returns the sequence number of a datagram.
func SequenceOf(msg []byte) uint32 { return binary.BigEndian.Uint32(msg[12:]) }

// Add puts a record into the datagram in the making. When it does not fit, emit gets the finished datagram with
// its number of flow records first; it is valid until emit returns. An error of emit is returned after the record was put.
func (e *Encoder) Add(r *flow.Record, now time.Time, emit func(msg []byte, records int) error) error {
	l := e.last
	if s := shapeOf(r); l == nil || l.shape != s {
		l = e.layout(s)
		e.last = l
	}
	if !r.Tunnel.Src.IsZero() {
		e.omitted++
	}
	start, end := spanMS(r, now)
	if e.clock.fits(start, end, now) && e.put(l, r, start, end) {
		return nil
	}
	err := e.Flush(now, emit)
	e.clock.fits(start, end, now)
	e.put(l, r, start, end)
	return err
}

// spanMS returns when a record starts and ends, ms since the epoch. A time that is not known is that of the other end, or now.
func spanMS(r *flow.Record, now time.Time) (start, end int64) {
	start, end = r.StartNS/1e6, r.EndNS/1e6
	if end <= 0 {
		end = max(start, 0)
	}
	if end == 0 {
		end = now.UnixMilli()
	}
	if start <= 0 || start > end {
		start = end
	}
	return start, end
}

// Templates starts anew with a datagram of every template used so far, and finishes it.
func (e *Encoder) Templates(now time.Time, emit func(msg []byte, records int) error) error {
	err := e.Flush(now, emit)
	e.Forget()
	for _, l := range e.order {
		if !e.tell(l.record, templateSet) {
			err = first(err, e.Flush(now, emit))
			e.tell(l.record, templateSet)
		}
		l.told = true
	}
	return first(err, e.Flush(now, emit))
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Flush finishes the datagram in the making and gives it to emit; nothing happens when there is none. It counts as
// sent whatever emit returns, so that a collector sees what it missed.
func (e *Encoder) Flush(now time.Time, emit func(msg []byte, records int) error) error {
	if len(e.buf) == 0 {
		return nil
	}
	e.closeSet()
	up, unix := e.clock.finish(now)
	h := e.buf[:headerLen]
	binary.BigEndian.PutUint16(h, version)
	binary.BigEndian.PutUint16(h[2:], uint16(e.count))
	binary.BigEndian.PutUint32(h[4:], up)
	binary.BigEndian.PutUint32(h[8:], unix)
	binary.BigEndian.PutUint32(h[12:], e.seq)
	binary.BigEndian.PutUint32(h[16:], e.source)
	msg, n := e.buf, e.records
	e.buf, e.records, e.count = e.buf[:0], 0, 0
	e.seq++
	return emit(msg, n)
}

// put appends a record, with its template when that was not told yet. It leaves everything as it was and returns false when
// there is no room.
func (e *Encoder) put(l *layout, r *flow.Record, start, end int64) bool {
	length, id, at, count, told := len(e.buf), e.setID, e.setAt, e.count, l.told
	if !told && !e.tell(l.record, templateSet) {
		return false
	}
	l.told = true
	e.openSet(int(l.id))
	e.buf = put32(put32(e.buf, e.clock.uptime(start)), e.clock.uptime(end))
	for i := range l.columns {
		e.buf = l.columns[i].put(e.buf, r)
	}
	if e.padded() > e.maxLen {
		e.buf, e.setID, e.setAt, e.count, l.told = e.buf[:length], id, at, count, told
		return false
	}
	e.clock.take(end)
	e.records++
	e.count++
	return true
}

// tell appends a template record to a flow set of that kind. It changes nothing and returns false when there is no room.
func (e *Encoder) tell(record []byte, set int) bool {
	length, id, at := len(e.buf), e.setID, e.setAt
	e.openSet(set)
	e.buf = append(e.buf, record...)
	if e.padded() > e.maxLen && length > 0 {
		e.buf, e.setID, e.setAt = e.buf[:length], id, at
		return false
	}
	e.count++
	return true
}

// padded returns the length that the datagram has when the open set is closed.
func (e *Encoder) padded() int { return len(e.buf) + (4-(len(e.buf)-e.setAt)%4)%4 }

// openSet makes the open set one with that identifier, in a new datagram when there is none.
func (e *Encoder) openSet(id int) {
	if len(e.buf) == 0 {
		e.buf = append(e.buf, make([]byte, headerLen)...)
		e.setID = -1
	}
	if e.setID == id {
		return
	}
	e.closeSet()
	e.setID, e.setAt = id, len(e.buf)
	e.buf = put16(put16(e.buf, uint16(id)), 0)
}

// closeSet pads the open set to four bytes and writes its length (RFC 3954, section 5.3).
func (e *Encoder) closeSet() {
	if e.setID < 0 {
		return
	}
	for (len(e.buf)-e.setAt)%4 != 0 {
		e.buf = append(e.buf, 0)
	}
	binary.BigEndian.PutUint16(e.buf[e.setAt+2:], uint16(len(e.buf)-e.setAt))
	e.setID = -1
}

// layout returns the template of a shape, made on first use.
func (e *Encoder) layout(s shape) *layout {
	if l, ok := e.layouts[s]; ok {
		return l
	}
	l := &layout{shape: s, id: s.id(), columns: s.columns()}
	fields := append([]column{{id: 22, n: 4}, {id: 21, n: 4}}, l.columns...) // FIRST_SWITCHED, LAST_SWITCHED
	l.record = put16(put16(nil, l.id), uint16(len(fields)))
	for _, c := range fields {
		l.record = put16(put16(l.record, c.id), c.n)
	}
	e.layouts[s] = l
	e.order = append(e.order, l)
	return l
}
