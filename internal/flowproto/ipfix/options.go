package ipfix

import (
	"math"
	"time"

	"crosstap/internal/flowproto/about"
	"crosstap/internal/ie"
)

// Identifiers of the options templates, above those of all shapes.
const (
	idReliability = 40000 + iota
	idSent
	idIgnored
	idPackets
	idFlows
	idInterface
	idVRF
	idDomain
	idPoint
	idStage
	idReason
	idEnd
)

// optionTemplate is an options template: the fields, of which the first are the scope.
type optionTemplate struct {
	scope  int
	fields [][2]uint16 // element of IANA's and length
}

const anyLen = ie.Variable

var optionKinds = [idEnd - idReliability]optionTemplate{
	// the statistics of RFC 7011, sections 4.1 to 4.3
	{1, [][2]uint16{{144, 4}, {166, 8}, {167, 8}, {168, 8}}},
	{1, [][2]uint16{{144, 4}, {41, 8}, {42, 8}, {40, 8}}},
	{1, [][2]uint16{{149, 4}, {164, 8}, {165, 8}}},
	// how packets are chosen (RFC 5477, section 8.2), and flows (RFC 7014, section 7)
	{1, [][2]uint16{{302, 8}, {304, 2}, {305, 4}, {306, 4}}},
	{1, [][2]uint16{{302, 8}, {390, 2}, {311, 8}}},
	// names
	{1, [][2]uint16{{10, 4}, {82, anyLen}, {83, anyLen}}},
	{1, [][2]uint16{{234, 4}, {236, anyLen}}},
	{1, [][2]uint16{{149, 4}, {300, anyLen}}},
	{1, [][2]uint16{{138, 8}, {10, 4}, {348, anyLen}, {300, anyLen}}},
	// the ledger: a stage, and what it dropped for one reason
	{1, [][2]uint16{{302, 8}, {335, anyLen}, {152, 8}, {153, 8}, {2, 8}, {133, 8}, {318, 8}, {319, 8}}},
	{2, [][2]uint16{{302, 8}, {335, anyLen}, {152, 8}, {153, 8}, {133, 8}, {135, 8}}},
}

// optionState is what an encoder knows of its options.
type optionState struct {
	told    [idEnd - idReliability]bool
	records uint32 // option records in the unfinished message
	zero    bool   // the unfinished message is of domain 0
	seq     uint32 // of domain 0
}

// Selectors in the records of sampling. Those of the ledger's stages follow.
const (
	selectPackets = 1
	selectFlows   = 2
	selectStages  = 16
)

// Algorithms of IANA's registries PSAMP selectorAlgorithm and flowSelectorAlgorithm.
const (
	systematic    = 1
	probabilistic = 4
)

// About sends what the exporter tells of itself, in messages of its own: sampling and names in the observation domain, statistics and
// the ledger, which are of no domain, in domain 0 (RFC 7011, section 3.1).
func (e *Encoder) About(x *about.Exporter, now time.Time, emit func(msg []byte, records int) error) error {
	w := optionWriter{e: e, now: now, emit: emit, err: e.Flush(now, emit)}
	w.sampling(x)
	w.names(x)
	w.err = first(w.err, e.Flush(now, emit))
	e.extra.zero = true
	w.statistics(x)
	w.ledger(x)
	err := first(w.err, e.Flush(now, emit))
	e.extra.zero = false
	return err
}

// optionWriter puts option records and keeps the first error.
type optionWriter struct {
	e    *Encoder
	now  time.Time
	emit func(msg []byte, records int) error
	err  error
}

func (w *optionWriter) statistics(x *about.Exporter) {
	w.row(idReliability, func(b []byte) []byte {
		return put64(put64(put64(put32(b, x.Process), x.NotSent.Flows), x.NotSent.Packets), x.NotSent.Octets)
	})
	w.row(idSent, func(b []byte) []byte {
		return put64(put64(put64(put32(b, x.Process), x.Sent.Messages), x.Sent.Flows), x.Sent.Octets)
	})
	if x.Ignored != nil {
		w.row(idIgnored, func(b []byte) []byte {
			return put64(put64(put32(b, w.e.domain), x.Ignored.Packets), x.Ignored.Octets)
		})
	}
}

func (w *optionWriter) sampling(x *about.Exporter) {
	if n := x.Packets.Interval; n > 1 {
		algorithm := uint16(systematic)
		if x.Packets.Random {
			algorithm = probabilistic
		}
		w.row(idPackets, func(b []byte) []byte { return put32(put32(put16(put64(b, selectPackets), algorithm), 1), n-1) })
	}
	if x.Flows > 1 {
		w.row(idFlows, func(b []byte) []byte {
			return put64(put16(put64(b, selectFlows), probabilistic), math.Float64bits(1/float64(x.Flows)))
		})
	}
}

func (w *optionWriter) names(x *about.Exporter) {
	for _, i := range x.Interfaces {
		w.row(idInterface, func(b []byte) []byte { return putName(putName(put32(b, i.Index), i.Name), i.Description) })
	}
	for _, v := range x.VRFs {
		w.row(idVRF, func(b []byte) []byte { return putName(put32(b, v.ID), v.Name) })
	}
	if x.Domain != "" {
		w.row(idDomain, func(b []byte) []byte { return putName(put32(b, w.e.domain), x.Domain) })
	}
	for _, p := range x.Points {
		w.row(idPoint, func(b []byte) []byte { return putName(putName(put32(put64(b, p.ID), p.IfIndex), p.Name), p.Switch) })
	}
}

func (w *optionWriter) ledger(x *about.Exporter) {
	from, to := unixMS(x.From.UnixNano()), unixMS(x.To.UnixNano())
	for i, s := range x.Stages {
		id := uint64(selectStages + i)
		w.row(idStage, func(b []byte) []byte {
			b = put64(put64(putName(put64(b, id), s.Name), from), to)
			return put64(put64(put64(put64(b, s.InDelta), s.DropDelta), s.In), s.Out)
		})
		for _, d := range s.Dropped {
			if d.Total == 0 {
				continue
			}
			w.row(idReason, func(b []byte) []byte {
				return put64(put64(put64(put64(putName(put64(b, id), d.Reason), from), to), d.Delta), d.Total)
			})
		}
	}
}

// row puts an option record, with its template before the first. One that has no room goes into the next message.
func (w *optionWriter) row(id uint16, values func(b []byte) []byte) {
	e := w.e
	told := &e.extra.told[id-idReliability]
	for range 2 {
		length, set, at, was := len(e.buf), e.setID, e.setAt, *told
		if !was {
			e.openSet(setOptionsTemplate)
			e.buf = optionKinds[id-idReliability].append(e.buf, id)
		}
		e.openSet(id)
		e.buf = values(e.buf)
		if len(e.buf) <= e.maxLen || length == 0 {
			*told = true
			e.extra.records++
			return
		}
		e.buf, e.setID, e.setAt = e.buf[:length], set, at
		if w.err = first(w.err, e.Flush(w.now, w.emit)); length == 0 {
			return
		}
	}
}

// append writes the options template record.
func (t *optionTemplate) append(b []byte, id uint16) []byte {
	b = put16(put16(put16(b, id), uint16(len(t.fields))), uint16(t.scope))
	for _, f := range t.fields {
		b = put16(put16(b, f[0]), f[1])
	}
	return b
}
