package export

import (
	"errors"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/flowproto/netflow5"
	"crosstap/internal/flowproto/netflow9"
)

// errNoPlace says that a format cannot tell a record.
var errNoPlace = errors.New("export: the format has no place for the record")

// emitter takes a finished message of n records. The message is valid until it returns.
type emitter = func(msg []byte, n int) error

// encoder is what the encoders of all formats have in common.
type encoder interface {
	SetMaxLen(n int)
	MaxLen() int
	// Records returns the number of records in the unfinished message.
	Records() int
	// Omitted returns the number of records whose tunnel the format could not tell.
	Omitted() uint64
	Add(r *flow.Record, now time.Time, emit emitter) error
	Flush(now time.Time, emit emitter) error
	// Templates sends every template; About what the exporter tells of itself.
	Templates(now time.Time, emit emitter) error
	About(x *about.Exporter, now time.Time, emit emitter) error
	Forget()
	// Restart throws the unfinished message away; the next one takes the sequence number of msg, which did not leave.
	Restart(seq uint32)
}

// pairEncoder makes one record of two directions.
type pairEncoder interface {
	AddPair(f, b *flow.Record, now time.Time, emit emitter) error
}

// newEncoder returns the encoder of a target. capture says that time is that of the packets, not of the clock.
func newEncoder(t *Target, capture bool) (enc encoder, sequence func(msg []byte) uint32) {
	n := maxMessage(t.MTU, false)
	switch t.Format {
	case NetFlow9:
		return netflow9.NewEncoder(t.Domain, n), netflow9.SequenceOf
	case NetFlow5:
		c := netflow5.EncoderConfig{EngineType: t.EngineType, EngineID: t.EngineID, MaxLen: n}
		if !capture {
			c.Boot = time.Now()
		}
		return v5{netflow5.NewEncoder(c)}, func([]byte) uint32 { return 0 }
	}
	if t.stream() {
		n = streamMessage
	}
	return ipfix.NewEncoder(ipfix.EncoderConfig{Profile: t.Profile, Domain: t.Domain, MaxLen: n}), ipfix.SequenceOf
}

// v5 is NetFlow v5, which has no templates and tells nothing of the exporter.
type v5 struct{ *netflow5.Encoder }

func (e v5) Add(r *flow.Record, now time.Time, emit emitter) error {
	why, err := e.Encoder.Add(r, now, emit)
	if why != netflow5.Taken {
		return errNoPlace
	}
	return err
}

// About takes over how packets are chosen, which the header tells. It sends nothing of its own.
func (e v5) About(x *about.Exporter, now time.Time, emit emitter) error {
	e.SetRandom(x.Packets.Random || x.Flows > 1)
	return e.Flush(now, emit)
}

func (e v5) Omitted() uint64                             { return e.Stats().Omitted }
func (e v5) Templates(now time.Time, emit emitter) error { return e.Flush(now, emit) }
func (e v5) Forget()                                     {}
func (e v5) Restart(uint32)                              { e.Retract(1) }
