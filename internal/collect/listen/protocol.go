package listen

import "encoding/binary"

// Protocol is a flow export protocol.
type Protocol uint8

// The protocols that are told apart.
const (
	Empty Protocol = iota // less than a version word
	NetFlow1
	NetFlow5
	NetFlow7
	NetFlow9
	IPFIX
	SFlow
	Unknown
)

var protocolNames = [...]string{"empty", "netflow1", "netflow5", "netflow7", "netflow9", "ipfix", "sflow", "unknown"}

// String returns the protocol's name, as used in labels.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return "unknown"
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
	case 5:
		return NetFlow5
	case 7:
		return NetFlow7
	case 1:
		return NetFlow1
	case 0:
		if len(b) >= 4 && binary.BigEndian.Uint16(b[2:]) == sflowVersion {
			return SFlow
		}
	}
	return Unknown
}

// unsupported returns the reason to drop a datagram of this protocol; drop is false when it has a decoder.
func (p Protocol) unsupported() (reason int, drop bool) {
	switch p {
	case IPFIX:
		return 0, false
	case Empty:
		return DropEmpty, true
	case NetFlow1:
		return DropNetFlow1, true
	case NetFlow5:
		return DropNetFlow5, true
	case NetFlow7:
		return DropNetFlow7, true
	case NetFlow9:
		return DropNetFlow9, true
	case SFlow:
		return DropSFlow, true
	}
	return DropUnknown, true
}
