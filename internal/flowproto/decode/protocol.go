package decode

import "encoding/binary"

// Protocol is a flow export protocol.
type Protocol uint8

// The protocols that are told apart. Empty is less than a version word.
const (
	Empty Protocol = iota
	NetFlow1
	NetFlow5
	NetFlow6
	NetFlow7
	NetFlow9
	IPFIX
	SFlow
	Unknown
	NumProtocols = int(Unknown) + 1
)

var protocolNames = [...]string{"empty", "netflow1", "netflow5", "netflow6", "netflow7", "netflow9", "ipfix", "sflow", "unknown"}

// String returns the protocol's name, as used in labels.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return protocolNames[Unknown]
}

// sFlow's version is a word of 32 bits; the first half of it is zero.
const sflowVersion = 5

// Detect tells a datagram's protocol by its version word.
func Detect(b []byte) Protocol {
	if len(b) < 2 {
		return Empty
	}
	switch binary.BigEndian.Uint16(b) {
	case 10:
		return IPFIX
	case 9:
		return NetFlow9
	case 7:
		return NetFlow7
	case 6:
		return NetFlow6
	case 5:
		return NetFlow5
	case 1:
		return NetFlow1
	case 0:
		if len(b) >= 4 && binary.BigEndian.Uint16(b[2:]) == sflowVersion {
			return SFlow
		}
	}
	return Unknown
}
