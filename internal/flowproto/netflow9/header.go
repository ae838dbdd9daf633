package netflow9

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flowproto/decode"
)

// Numbers of RFC 3954, section 5.
const (
	Version   = 9
	HeaderLen = 20

	setTemplates  = 0
	setOptions    = 1
	flowSetHeader = 4
)

// Header is the header of a datagram, RFC 3954, section 5.1. It does not tell the datagram's length.
type Header struct {
	Count      int       // records of all kinds that the exporter says are there; some count flow sets
	UptimeMS   uint32    // since the exporter started, modulo 2³²
	ExportTime time.Time // with a resolution of a second, UTC
	Sequence   uint32    // datagrams sent before this one by the source, modulo 2³²; some count flow records
	Source     uint32    // observation domain
}

// ParseHeader reads the header of the datagram in b. The error is of type *decode.Error.
func ParseHeader(b []byte) (Header, error) {
	if len(b) >= 2 && binary.BigEndian.Uint16(b) != Version {
		return Header{}, &decode.Error{Protocol: decode.NetFlow9, Reason: decode.BadVersion, Need: Version, Have: int(binary.BigEndian.Uint16(b))}
	}
	if len(b) < HeaderLen {
		return Header{}, &decode.Error{Protocol: decode.NetFlow9, Reason: decode.ShortMessage, Need: HeaderLen, Have: len(b)}
	}
	return Header{
		Count: int(binary.BigEndian.Uint16(b[2:])), UptimeMS: binary.BigEndian.Uint32(b[4:]),
		ExportTime: time.Unix(int64(binary.BigEndian.Uint32(b[8:])), 0).UTC(),
		Sequence:   binary.BigEndian.Uint32(b[12:]), Source: binary.BigEndian.Uint32(b[16:]),
	}, nil
}
