package flowproto

import (
	"encoding/binary"
	"fmt"
	"time"

	"crosstap/internal/flowproto/decode"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/flowproto/netflow5"
	"crosstap/internal/flowproto/netflow9"
	"crosstap/internal/flowproto/sflow"
	"crosstap/internal/ie"
)

// Line is one part of a datagram explained.
type Line struct {
	Offset int // of the part in the datagram, bytes
	Len    int // of the part
	Depth  int // 0 for the message and its problems, 1 for header fields and sets, 2 for records and templates, 3 for fields
	Name   string
	Value  string
	Note   string // the definition: "sourceIPv4Address is IANA 8, ipv4Address"
}

// Explain decodes a datagram as Walk does, and tells of every byte what it is: header fields, sets, templates, fields with the
// definition of their element, and at last each kind of problem. The parts come in the order of the bytes.
func (s *Session) Explain(b []byte, recvNS int64, f func(Line)) (Result, error) {
	var sum Result
	var first error
	for off := 0; off < len(b); {
		n := messageLen(b[off:])
		e := explainer{b: b[off : off+n], base: off, f: f}
		res, err := s.Walk(e.b, recvNS, e.keep)
		e.message(res, err)
		off += n
		sum.Protocol = res.Protocol
		addResult(&sum, &res)
		if first == nil {
			first = err
		}
	}
	return sum, first
}

func addResult(sum, r *Result) {
	sum.Messages += r.Messages
	sum.Records += r.Records
	sum.OptionRecords += r.OptionRecords
	sum.CounterSamples += r.CounterSamples
	sum.LateRecords += r.LateRecords
	sum.Borrowed += r.Borrowed
	sum.Templates += r.Templates
	sum.Redefined += r.Redefined
	sum.Withdrawals += r.Withdrawals
	sum.MissingSets += r.MissingSets
	sum.UnknownFields += r.UnknownFields
	sum.Unit = r.Unit
	sum.Lost += r.Lost
	sum.Found += r.Found
	sum.LostSamples += r.LostSamples
	sum.AgentDrops += r.AgentDrops
	for i, n := range r.Problems {
		sum.Problems[i] += n
	}
}

// Add adds the counts of one result to another, that of the same protocol.
func Add(sum *Result, r Result) { addResult(sum, &r) }

// messageLen returns the length of the first message in b: all of it where the format does not say or what it says is
// wrong.
func messageLen(b []byte) int {
	switch Detect(b) {
	case IPFIX:
		if h, err := ipfix.ParseHeader(b); err == nil {
			return h.Length
		}
	case NetFlow1, NetFlow5, NetFlow6, NetFlow7:
		if i, err := netflow5.ParseInfo(b); err == nil && i.Count > 0 {
			return i.Len
		}
	}
	return len(b)
}

// explainer is one message under way.
type explainer struct {
	b       []byte
	base    int
	f       func(Line)
	records []record // of the message's own sets, in their order
}

// record is what an item was, copied.
type record struct {
	kind     decode.Kind
	at, size int
	id       uint16
	borrowed bool
	values   []Value
}

func (e *explainer) keep(it *Item) {
	if it.Late || it.Data == nil {
		return
	}
	r := record{kind: it.Kind, at: it.Offset, size: len(it.Data), id: it.ID, borrowed: it.Borrowed}
	for v := range it.Fields() {
		r.values = append(r.values, v)
	}
	e.records = append(e.records, r)
}

func (e *explainer) line(depth, off, n int, name, value, note string) {
	e.f(Line{Offset: e.base + off, Len: n, Depth: depth, Name: name, Value: value, Note: note})
}

func (e *explainer) message(res Result, err error) {
	p := Detect(e.b)
	e.line(0, 0, len(e.b), p.String(), fmt.Sprintf("%d bytes", len(e.b)), "")
	switch p {
	case IPFIX:
		e.header(ipfixHeader)
		e.sets(ipfix.HeaderLen, 2, 3)
	case NetFlow9:
		e.header(netflow9Header)
		e.sets(netflow9.HeaderLen, 0, 1)
	case NetFlow1, NetFlow7:
		e.header(netflow1Header)
		if p == NetFlow7 {
			e.fields(16, netflow7Rest)
		}
		e.rows()
	case NetFlow5, NetFlow6:
		e.header(netflow5Header)
		e.rows()
	case SFlow:
		e.sflow()
	}
	if err != nil {
		off := 0
		if x, ok := err.(*Error); ok {
			off = x.Offset
		}
		e.line(0, off, 0, "problem", err.Error(), "")
	}
	for r, n := range res.Problems {
		if n > 1 {
			e.line(0, 0, 0, "problems", fmt.Sprintf("%d of kind %s", n, Reason(r)), "")
		}
	}
}

// headerField is a part of a header that always has the same place.
type headerField struct {
	name string
	size int
	show func(v uint64) string
	note string
}

func number(v uint64) string { return fmt.Sprint(v) }
func unix(v uint64) string   { return time.Unix(int64(v), 0).UTC().Format(time.RFC3339) }
func uptime(v uint64) string { return fmt.Sprintf("%d ms", v) }
func sampling(v uint64) string {
	return fmt.Sprintf("mode %d, one in %d", v>>14, max(v&netflow5.MaxSamplingInterval, 1))
}

var (
	ipfixHeader = []headerField{
		{"version", 2, number, ""}, {"length", 2, number, "of the message"}, {"export time", 4, unix, ""},
		{"sequence", 4, number, "data records before this message"}, {"domain", 4, number, "observation domain"},
	}
	netflow9Header = []headerField{
		{"version", 2, number, ""}, {"count", 2, number, "records of all kinds"}, {"uptime", 4, uptime, ""}, {"export time", 4, unix, ""},
		{"sequence", 4, number, "datagrams before this one"}, {"source", 4, number, "observation domain"},
	}
	netflow1Header = []headerField{
		{"version", 2, number, ""}, {"count", 2, number, "records"}, {"uptime", 4, uptime, ""}, {"export time", 4, unix, ""}, {"nanoseconds", 4, number, ""},
	}
	netflow7Rest   = []headerField{{"sequence", 4, number, "flows before this datagram"}, {"reserved", 4, number, ""}}
	netflow5Header = append(netflow1Header[:5:5], []headerField{
		{"sequence", 4, number, "flows before this datagram"}, {"engine type", 1, number, ""}, {"engine id", 1, number, ""},
		{"sampling", 2, sampling, "mode in 2 bits, interval in 14"},
	}...)
	sflowRest = []headerField{
		{"sub-agent", 4, number, ""}, {"sequence", 4, number, "datagrams before this one"}, {"uptime", 4, uptime, ""}, {"samples", 4, number, ""},
	}
)

func (e *explainer) header(fields []headerField) { e.fields(0, fields) }

// fields tells those parts of a header that are there.
func (e *explainer) fields(off int, fields []headerField) {
	for _, h := range fields {
		if off+h.size > len(e.b) {
			e.line(1, off, len(e.b)-off, h.name, "cut", h.note)
			return
		}
		e.line(1, off, h.size, h.name, h.show(uintOf(e.b[off:off+h.size])), h.note)
		off += h.size
	}
}

func uintOf(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// rows tells the records of a format without sets.
func (e *explainer) rows() {
	for _, r := range e.records {
		e.record(r)
	}
}

// sets walks the sets of NetFlow v9 and IPFIX.
func (e *explainer) sets(off int, template, options uint16) {
	for off+4 <= len(e.b) {
		id, size := binary.BigEndian.Uint16(e.b[off:]), int(binary.BigEndian.Uint16(e.b[off+2:]))
		if size < 4 || size > len(e.b)-off {
			e.line(1, off, len(e.b)-off, "set", fmt.Sprintf("%d, length %d", id, size), "impossible length: the rest is not decoded")
			return
		}
		end := off + size
		switch {
		case id == template, id == options:
			e.line(1, off, size, "set", fmt.Sprintf("%d, length %d", id, size), map[bool]string{false: "templates", true: "options templates"}[id == options])
			e.templates(off+4, end, id == options, template == 0)
		case id < decode.FirstDataSet:
			e.line(1, off, size, "set", fmt.Sprintf("%d, length %d", id, size), "the identifier is reserved")
		default:
			e.dataSet(id, off, end)
		}
		off = end
	}
	if off < len(e.b) {
		e.line(1, off, len(e.b)-off, "rest", fmt.Sprintf("%d bytes", len(e.b)-off), "")
	}
}

func (e *explainer) dataSet(id uint16, off, end int) {
	at, note := off+4, "data, but the template is not known: it waits"
	for _, r := range e.records {
		if r.at >= at && r.at < end {
			note = "data"
		}
	}
	e.line(1, off, end-off, "set", fmt.Sprintf("%d, length %d", id, end-off), note)
	for _, r := range e.records {
		if r.at >= at && r.at < end {
			e.record(r)
			at = r.at + r.size
		}
	}
	if at < end && note == "data" {
		e.line(2, at, end-at, "padding", fmt.Sprintf("%d bytes", end-at), "")
	}
}

func (e *explainer) record(r record) {
	note := ""
	if r.borrowed {
		note = "with a template of another domain"
	}
	e.line(2, r.at, r.size, r.kind.String(), fmt.Sprintf("%d bytes", r.size), note)
	for _, v := range r.values {
		e.line(3, v.Offset, len(v.Bytes), v.Name(), v.Text(), define(v))
	}
}

// define tells the definition of a value's element.
func define(v Value) string {
	if v.Element == nil {
		return fmt.Sprintf("enterprise %d element %d: not in the tables", v.PEN, v.ID)
	}
	if v.PEN == ie.SFlow {
		return v.Element.Type.String()
	}
	text := fmt.Sprintf("%s %d, %s", ie.Enterprise(v.PEN), v.ID, v.Element.Type)
	if v.Element.Custom {
		text = fmt.Sprintf("enterprise %d element %d as defined, %s", v.PEN, v.ID, v.Element.Type)
	}
	if u := v.Element.Unit.String(); u != "" {
		text += ", " + u
	}
	if v.Type() != v.Element.Type && v.Type() != ie.Unsigned64 {
		text += fmt.Sprintf("; %d bytes are no such value", len(v.Bytes))
	}
	return text
}

// templates tells the template records of a set as far as they are whole.
func (e *explainer) templates(off, end int, options, v9 bool) {
	for end-off >= 4 {
		if decode.AllZero(e.b[off:end]) {
			e.line(2, off, end-off, "padding", fmt.Sprintf("%d bytes", end-off), "")
			return
		}
		id, count := binary.BigEndian.Uint16(e.b[off:]), int(binary.BigEndian.Uint16(e.b[off+2:]))
		at, scope := off+4, 0
		switch {
		case options && end-off < 6 && count > 0:
			return
		case options && v9:
			scope = count / 4
			count, at = scope+int(binary.BigEndian.Uint16(e.b[off+4:]))/4, off+6
		case options && count > 0:
			scope, at = int(binary.BigEndian.Uint16(e.b[off+4:])), off+6
		}
		if count == 0 {
			e.line(2, off, at-off, "withdrawal", fmt.Sprint(id), "")
			off = at
			continue
		}
		e.line(2, off, at-off, "template", fmt.Sprintf("%d, %d fields", id, count), map[bool]string{true: fmt.Sprintf("%d of them the scope", scope)}[scope > 0])
		for i := range count {
			n, ok := e.specifier(at, end, i < scope, v9)
			if !ok {
				return
			}
			at += n
		}
		off = at
	}
}

// specifier tells one field of a template and returns the bytes it took.
func (e *explainer) specifier(at, end int, scope, v9 bool) (int, bool) {
	if end-at < 4 {
		return 0, false
	}
	t, n := binary.BigEndian.Uint16(e.b[at:]), binary.BigEndian.Uint16(e.b[at+2:])
	f, size := Field{ID: t, Len: n}, 4
	switch {
	case v9 && scope && t >= 1 && t <= 5:
		f.PEN = ie.NetFlow9Scope
	case v9:
		f.PEN, f.ID = netflow9.Element(t)
	case t&0x8000 != 0:
		if end-at < 8 {
			return 0, false
		}
		f.ID, f.PEN, size = t&0x7fff, binary.BigEndian.Uint32(e.b[at+4:]), 8
	}
	v := Value{Field: f}
	v.Element, _ = f.Element()
	length := fmt.Sprintf("%d bytes", n)
	if n == ie.Variable {
		length = "variable length"
	}
	note := fmt.Sprintf("enterprise %d element %d: not in the tables", f.PEN, f.ID)
	if v.Element != nil {
		note = fmt.Sprintf("%s %d, %s", ie.Enterprise(f.PEN), f.ID, v.Element.Type)
	}
	e.line(3, at, size, v.Name(), length, note)
	return size, true
}

// sflow tells an sFlow datagram: its header, then each sample's parts.
func (e *explainer) sflow() {
	i, err := sflow.ParseInfo(e.b)
	if err != nil {
		return
	}
	e.fields(0, []headerField{{"version", 4, number, ""}})
	e.line(1, 4, i.Len-20, "agent", i.Agent.String(), "address type, then address")
	e.fields(i.Len-16, sflowRest)
	for _, r := range e.records {
		e.record(r)
	}
}
