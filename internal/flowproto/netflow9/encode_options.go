package netflow9

import (
	"time"

	"crosstap/internal/flowproto/about"
)

// Scope types of options templates (RFC 3954, section 6.1).
const (
	scopeSystem    = 1
	scopeInterface = 2
)

// Identifiers of the options templates, above those of all shapes.
const (
	idSampling = 1024 + iota
	idInterface
	idSent
	idApplication
	idNotSent
	idVRF
)

// Lengths of names, which this format fills up with zeros.
const (
	nameLen        = 32
	descriptionLen = 64
)

// optionTemplate is an options template: one scope of four bytes, then the fields.
type optionTemplate struct {
	id, scope uint16
	fields    [][2]uint16
	told      bool
}

var optionKinds = []optionTemplate{
	{id: idSampling, scope: scopeSystem, fields: [][2]uint16{{48, 1}, {49, 1}, {50, 4}, {34, 4}, {35, 1}}},
	{id: idInterface, scope: scopeInterface, fields: [][2]uint16{{82, nameLen}, {83, descriptionLen}}},
	{id: idSent, scope: scopeSystem, fields: [][2]uint16{{41, 8}, {42, 8}, {40, 8}}},
	{id: idApplication, scope: scopeSystem, fields: [][2]uint16{{95, 4}, {96, nameLen}, {94, descriptionLen}}},
	{id: idNotSent, scope: scopeSystem, fields: [][2]uint16{{166, 8}, {167, 8}, {168, 8}}},
	{id: idVRF, scope: scopeSystem, fields: [][2]uint16{{234, 4}, {236, nameLen}}},
}

// About sends what the exporter tells of itself, in datagrams of its own: sampling, names, what was sent and what not.
func (e *Encoder) About(x *about.Exporter, now time.Time, emit func(msg []byte, records int) error) error {
	err := e.Flush(now, emit)
	row := func(kind int, scope uint32, values func(b []byte) []byte) {
		err = first(err, e.option(kind-idSampling, scope, values, now, emit))
	}
	if n := about.Rate(x); n > 1 {
		mode := byte(1) // deterministic
		if x.Packets.Random || x.Flows > 1 {
			mode = 2
		}
		row(idSampling, 0, func(b []byte) []byte { return append(put32(put32(append(b, 1, mode), n), n), mode) })
	}
	for _, i := range x.Interfaces {
		row(idInterface, i.Index, func(b []byte) []byte {
			return putFixed(putFixed(b, i.Name, nameLen), i.Description, descriptionLen)
		})
	}
	row(idSent, 0, func(b []byte) []byte { return put64(put64(put64(b, x.Sent.Messages), x.Sent.Flows), x.Sent.Octets) })
	row(idNotSent, 0, func(b []byte) []byte {
		return put64(put64(put64(b, x.NotSent.Flows), x.NotSent.Packets), x.NotSent.Octets)
	})
	for _, a := range about.Applications() {
		row(idApplication, 0, func(b []byte) []byte {
			return putFixed(putFixed(put32(b, a.ID), a.Name, nameLen), a.Description, descriptionLen)
		})
	}
	for _, v := range x.VRFs {
		row(idVRF, 0, func(b []byte) []byte { return putFixed(put32(b, v.ID), v.Name, nameLen) })
	}
	return first(err, e.Flush(now, emit))
}

// option puts an option record, with its template before the first.
func (e *Encoder) option(kind int, scope uint32, values func(b []byte) []byte, now time.Time, emit func([]byte, int) error) (err error) {
	if e.options == nil {
		for _, k := range optionKinds {
			e.options = append(e.options, &k)
		}
	}
	t := e.options[kind]
	for range 2 {
		length, id, at, count, told := len(e.buf), e.setID, e.setAt, e.count, t.told
		if told || e.tell(t.record(), optionsSet) {
			t.told = true
			e.openSet(int(t.id))
			e.buf = values(put32(e.buf, scope))
			e.count++
			if e.padded() <= e.maxLen {
				return err
			}
			e.buf, e.setID, e.setAt, e.count, t.told = e.buf[:length], id, at, count, told
		}
		err = first(err, e.Flush(now, emit))
	}
	return err
}

// record returns the options template record (RFC 3954, section 6.1).
func (t *optionTemplate) record() []byte {
	b := put16(put16(put16(nil, t.id), 4), uint16(4*len(t.fields)))
	b = put16(put16(b, t.scope), 4)
	for _, f := range t.fields {
		b = put16(put16(b, f[0]), f[1])
	}
	return b
}

// putFixed writes a name into n bytes, the rest zero.
func putFixed(b []byte, s string, n int) []byte {
	s = s[:min(len(s), n)]
	return append(append(b, s...), make([]byte, n-len(s))...)
}
