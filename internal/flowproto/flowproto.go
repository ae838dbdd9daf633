// Package flowproto decodes every flow export protocol: NetFlow v1, v5, v6, v7 and v9, IPFIX and sFlow v5. A Session is the
// state of one transport session. The formats are in packages of their own.
package flowproto

import (
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/flowproto/netflow5"
	"crosstap/internal/flowproto/netflow9"
	"crosstap/internal/flowproto/sflow"
)

// What the decoders of all protocols share.
type (
	Protocol = decode.Protocol
	Limits   = decode.Limits
	Result   = decode.Result
	Reason   = decode.Reason
	Error    = decode.Error
	Unit     = decode.Unit
	Field    = decode.Field
	Template = decode.Template
	Item     = decode.Item
	Value    = decode.Value
	Option   = decode.Option
	Counters = decode.Counters
	Counter  = decode.Counter
)

// The protocols.
const (
	Empty    = decode.Empty
	NetFlow1 = decode.NetFlow1
	NetFlow5 = decode.NetFlow5
	NetFlow6 = decode.NetFlow6
	NetFlow7 = decode.NetFlow7
	NetFlow9 = decode.NetFlow9
	IPFIX    = decode.IPFIX
	SFlow    = decode.SFlow
	Unknown  = decode.Unknown
)

// Kind says what an Item is.
type Kind = decode.Kind

// The kinds of item.
const (
	KindRecord          = decode.KindRecord
	KindOption          = decode.KindOption
	KindTemplate        = decode.KindTemplate
	KindOptionsTemplate = decode.KindOptionsTemplate
	KindWithdrawal      = decode.KindWithdrawal
	KindCounters        = decode.KindCounters
	KindDiscard         = decode.KindDiscard
)

// NumReasons is how many reasons there are.
const NumReasons = decode.NumReasons

// BadVersion is the reason for what is no datagram of any protocol here; the others are in package decode.
const BadVersion = decode.BadVersion

// Detect tells a datagram's protocol by its version word.
func Detect(b []byte) Protocol { return decode.Detect(b) }

// Reasons returns the labels of all reasons, in their order.
func Reasons() []string { return decode.Reasons() }

// Header is what the header of a datagram says, whatever its protocol.
type Header struct {
	Protocol   Protocol
	Domain     uint32    // observation domain, source id, engine type<<8 | engine id, or sub-agent
	Sequence   uint32    // 0 where the protocol has none (v1)
	ExportTime time.Time // zero where the protocol does not tell (sFlow)
	Agent      flow.Addr // sFlow: the agent's own address
}

// ParseHeader reads the header of a datagram. It fails when b is not the start of a message of any protocol that is
// decoded here; the error is of type *Error.
func ParseHeader(b []byte) (Header, error) {
	switch p := Detect(b); p {
	case IPFIX:
		h, err := ipfix.ParseHeader(b)
		return Header{Protocol: p, Domain: h.Domain, Sequence: h.Sequence, ExportTime: h.ExportTime}, err
	case NetFlow9:
		h, err := netflow9.ParseHeader(b)
		return Header{Protocol: p, Domain: h.Source, Sequence: h.Sequence, ExportTime: h.ExportTime}, err
	case NetFlow1, NetFlow5, NetFlow6, NetFlow7:
		i, err := netflow5.ParseInfo(b)
		return Header{Protocol: p, Domain: i.Domain, Sequence: i.Sequence, ExportTime: i.ExportTime}, err
	case SFlow:
		i, err := sflow.ParseInfo(b)
		return Header{Protocol: p, Domain: i.SubAgent, Sequence: i.Sequence, Agent: i.Agent}, err
	}
	return Header{}, notOurs(b)
}

// notOurs is the error for bytes of no protocol that is decoded here.
func notOurs(b []byte) *Error {
	if len(b) < 2 {
		return &Error{Protocol: Detect(b), Reason: decode.ShortMessage, Need: 2, Have: len(b)}
	}
	return &Error{Protocol: Detect(b), Reason: decode.BadVersion, Need: ipfix.Version, Have: int(b[0])<<8 | int(b[1])}
}
