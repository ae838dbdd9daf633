package ipfix

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/encode"
)

// The least and the greatest length of a message: less would not hold one record with a long name,
// and the length field has 16 bits.
const (
	MinMessage = 512
	MaxMessage = 65535
)

// EncoderConfig says what an encoder writes.
type EncoderConfig struct {
	Profile Profile
	Domain  uint32 // observation domain
	MaxLen  int    // of a message, bytes; brought into [MinMessage, MaxMessage]
}

// Encoder turns flow records into messages of one observation domain. A template goes out before the first
// record of its shape, in the same message. One goroutine at a time.
type Encoder struct {
	profile Profile
	domain  uint32
	maxLen  int
	seq     uint32 // data records in messages that are finished
	buf     []byte
	records int    // in buf
	setID   uint16 // of the open set, 0 when none is open
	setAt   int    // offset of the open set's header
	layouts map[shape]*layout
	order   []*layout // in order of first use
	last    *layout
	omitted uint64
	pair    flow.Record  // the forward half of the biflow that is being put
	back    *flow.Record // its reverse half
	extra   optionState
}

// layout is a shape's template.
type layout struct {
	shape   shape
	id      uint16
	columns []column
	record  []byte // the template record as sent
	told    bool   // the template is in this message or an earlier one
}

// NewEncoder returns an encoder that knows the templates of untunnelled IPv4 and IPv6, so that there is
// something to say before the first flow.
func NewEncoder(c EncoderConfig) *Encoder {
	e := &Encoder{profile: c.Profile, domain: c.Domain, layouts: make(map[shape]*layout)}
	e.SetMaxLen(c.MaxLen)
	for _, s := range []shape{
		{net: 4, transport: encode.TCP, macs: true}, {net: 6, transport: encode.TCP, macs: true},
		{net: 4, transport: encode.Ports, macs: true}, {net: 6, transport: encode.Ports, macs: true},
		{net: 4, transport: encode.ICMP, macs: true}, {net: 6, transport: encode.ICMP, macs: true}, {macs: true},
	} {
		e.layout(s)
	}
	return e
}

// SetMaxLen changes the length that messages may have, from the next record on.
func (e *Encoder) SetMaxLen(n int) { e.maxLen = min(max(n, MinMessage), MaxMessage) }

// MaxLen returns the length that messages may have.
func (e *Encoder) MaxLen() int { return e.maxLen }

// Sequence returns the number of data records in finished messages, modulo 2³².
func (e *Encoder) Sequence() uint32 { return e.seq }

// Records returns the number of records in the unfinished message.
func (e *Encoder) Records() int { return e.records }

// Omitted returns the number of records whose VTEPs the profile could not tell.
func (e *Encoder) Omitted() uint64 { return e.omitted }

// Forget makes the encoder send every template again before its next record.
func (e *Encoder) Forget() {
	for _, l := range e.order {
		l.told = false
	}
	clear(e.extra.told[:])
}

// Add puts a record into the message in the making. When it does not fit, emit gets the finished message with
// its number of records first; the message is valid until emit returns. An error of emit is returned
// after the record was put.
func (e *Encoder) Add(r *flow.Record, now time.Time, emit func(msg []byte, records int) error) error {
	return e.add(shapeOf(r, e.profile), r, now, emit)
}

func (e *Encoder) add(s shape, r *flow.Record, now time.Time, emit func(msg []byte, records int) error) error {
	l := e.last
	if l == nil || l.shape != s {
		l = e.layout(s)
		e.last = l
	}
	if l.shape.underlay == hidden && !r.Tunnel.Src.IsZero() {
		e.omitted++
	}
	if e.put(l, r) {
		return nil
	}
	err := e.Flush(now, emit)
	if !e.put(l, r) { // a template and a record with a long name: one message each
		e.flushLone(l, now, emit)
		e.put(l, r)
	}
	return err
}

// flushLone sends a template in a message of its own.
func (e *Encoder) flushLone(l *layout, now time.Time, emit func([]byte, int) error) {
	e.tell(l)
	_ = e.Flush(now, emit) // the record itself goes out or fails next
}

// Templates starts anew with a message of every template used so far, and finishes it.
func (e *Encoder) Templates(now time.Time, emit func(msg []byte, records int) error) error {
	err := e.Flush(now, emit)
	e.Forget()
	for _, l := range e.order {
		if !e.tell(l) {
			err = first(err, e.Flush(now, emit))
			e.tell(l)
		}
	}
	return first(err, e.Flush(now, emit))
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Flush finishes the message in the making and gives it to emit; nothing happens when there is none. The records
// count as sent whatever emit returns, so that a collector sees what it missed.
func (e *Encoder) Flush(now time.Time, emit func(msg []byte, records int) error) error {
	if len(e.buf) == 0 {
		return nil
	}
	e.closeSet()
	domain, seq := e.domain, &e.seq
	if e.extra.zero {
		domain, seq = 0, &e.extra.seq
	}
	Header{Length: len(e.buf), ExportTime: now, Sequence: *seq, Domain: domain}.put(e.buf)
	msg, n := e.buf, e.records
	*seq += uint32(n) + e.extra.records
	e.buf, e.records, e.extra.records = e.buf[:0], 0, 0
	return emit(msg, n)
}

// put appends a record, with its template when that was not told yet. It leaves everything as it was and returns false
// when there is no room.
func (e *Encoder) put(l *layout, r *flow.Record) bool {
	length, id, at, told := len(e.buf), e.setID, e.setAt, l.told
	if !told && !e.tell(l) {
		return false
	}
	e.openSet(l.id)
	for i := range l.columns {
		of := r
		if l.columns[i].back {
			of = e.back
		}
		e.buf = l.columns[i].put(e.buf, of)
	}
	if len(e.buf) > e.maxLen {
		e.buf, e.setID, e.setAt, l.told = e.buf[:length], id, at, told
		return false
	}
	e.records++
	return true
}

// tell appends a template record. It changes nothing and returns false when there is no room.
func (e *Encoder) tell(l *layout) bool {
	length, id, at := len(e.buf), e.setID, e.setAt
	e.openSet(setTemplate)
	e.buf = append(e.buf, l.record...)
	if len(e.buf) > e.maxLen && length > 0 {
		e.buf, e.setID, e.setAt = e.buf[:length], id, at
		return false
	}
	l.told = true
	return true
}

// openSet makes the open set one with that identifier, in a new message when there is none.
func (e *Encoder) openSet(id uint16) {
	if len(e.buf) == 0 {
		e.buf = append(e.buf, make([]byte, HeaderLen)...)
		e.setID = 0
	}
	if e.setID == id {
		return
	}
	e.closeSet()
	e.setID, e.setAt = id, len(e.buf)
	e.buf = put16(e.buf, id)
	e.buf = put16(e.buf, 0)
}

// closeSet writes the length of the open set.
func (e *Encoder) closeSet() {
	if e.setID != 0 {
		binary.BigEndian.PutUint16(e.buf[e.setAt+2:], uint16(len(e.buf)-e.setAt))
		e.setID = 0
	}
}

// layout returns the template of a shape, made on first use.
func (e *Encoder) layout(s shape) *layout {
	if l, ok := e.layouts[s]; ok {
		return l
	}
	l := &layout{shape: s, id: s.id(e.profile), columns: s.columns(e.profile)}
	l.record = put16(put16(nil, l.id), uint16(len(l.columns)))
	for _, c := range l.columns {
		id := c.ID
		if c.PEN != 0 {
			id |= 0x8000
		}
		l.record = put16(put16(l.record, id), c.Len)
		if c.PEN != 0 {
			l.record = put32(l.record, c.PEN)
		}
	}
	e.layouts[s] = l
	e.order = append(e.order, l)
	return l
}

// Restart throws away the message in the making; the next one has the sequence number seq, because those from it on did
// not leave. Every template will be told again.
func (e *Encoder) Restart(seq uint32) {
	e.buf, e.records, e.setID, e.extra.records = e.buf[:0], 0, 0, 0
	e.seq = seq
	e.Forget()
}

// SequenceOf returns the sequence number of a message.
func SequenceOf(msg []byte) uint32 { return binary.BigEndian.Uint32(msg[8:]) }
