// Package ipfix decodes and encodes IPFIX messages (RFC 7011): their framing. What the records mean is in package
// decode.
package ipfix

import (
	"encoding/binary"
	"time"

	"crosstap/internal/flowproto/decode"
)

// Numbers of RFC 7011, section 3.
const (
	Version    = 10
	HeaderLen  = 16
	setHdrLen  = 4
	minDataSet = decode.FirstDataSet // set identifiers from here on are template identifiers

	setTemplate        = 2
	setOptionsTemplate = 3
)

// Port is the port registered for IPFIX over UDP, TCP and SCTP.
const Port = 4739

// Header is the header of a message, RFC 7011, section 3.1.
type Header struct {
	Length     int       // of the whole message, bytes
	ExportTime time.Time // with a resolution of a second, UTC
	Sequence   uint32    // data records sent before this message, modulo 2³²
	Domain     uint32    // observation domain
}

// ParseHeader reads the header of the message at the start of b. It fails when b is not the start of an
// IPFIX message or holds less than the whole of it.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, &Error{Protocol: decode.IPFIX, Reason: decode.ShortMessage, Need: HeaderLen, Have: len(b)}
	}
	if v := binary.BigEndian.Uint16(b); v != Version {
		return Header{}, &Error{Protocol: decode.IPFIX, Reason: decode.BadVersion, Need: Version, Have: int(v)}
	}
	h := Header{
		Length:     int(binary.BigEndian.Uint16(b[2:])),
		ExportTime: time.Unix(int64(binary.BigEndian.Uint32(b[4:])), 0).UTC(),
		Sequence:   binary.BigEndian.Uint32(b[8:]),
		Domain:     binary.BigEndian.Uint32(b[12:]),
	}
	if h.Length < HeaderLen {
		return h, &Error{Protocol: decode.IPFIX, Reason: decode.BadLength, Need: HeaderLen, Have: h.Length}
	}
	if h.Length > len(b) {
		return h, &Error{Protocol: decode.IPFIX, Reason: decode.ShortMessage, Need: h.Length, Have: len(b)}
	}
	return h, nil
}

// put writes the header to b.
func (h Header) put(b []byte) {
	binary.BigEndian.PutUint16(b, Version)
	binary.BigEndian.PutUint16(b[2:], uint16(h.Length))
	binary.BigEndian.PutUint32(b[4:], uint32(h.ExportTime.Unix()))
	binary.BigEndian.PutUint32(b[8:], h.Sequence)
	binary.BigEndian.PutUint32(b[12:], h.Domain)
}
