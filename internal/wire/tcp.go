package wire

import "encoding/binary"

// TCPLen is the length of a TCP header without options.
const TCPLen = 20

// TCP flags, as (TCP).Flags gives them.
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
	TCPAe
)

// TCP is a TCP header in place (RFC 9293, section 3.1): source port (16 bits), destination port (16), sequence
// number (32), acknowledgment number (32), data offset in 4-byte units (4), reserved (3), flags (9), window (16),
// checksum (16), urgent pointer (16), options. Call Valid before the rest.
type TCP []byte

// Valid reports whether the fixed part is there. The options may be cut.
func (h TCP) Valid() bool { return len(h) >= TCPLen }

// SrcPort returns the source port.
func (h TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(h) }

// DstPort returns the destination port.
func (h TCP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Seq returns the sequence number.
func (h TCP) Seq() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Ack returns the acknowledgment number.
func (h TCP) Ack() uint32 { return binary.BigEndian.Uint32(h[8:]) }

// HeaderLen returns the header's length in bytes with options; below TCPLen it is wrong.
func (h TCP) HeaderLen() int { return int(h[12]>>4) * 4 }

// Flags returns the 9 flag bits from AE down to FIN.
func (h TCP) Flags() uint16 { return binary.BigEndian.Uint16(h[12:]) & 0x01ff }

// Window returns the window, unscaled.
func (h TCP) Window() uint16 { return binary.BigEndian.Uint16(h[14:]) }

// Checksum returns the checksum.
func (h TCP) Checksum() uint16 { return binary.BigEndian.Uint16(h[16:]) }

// Urgent returns the urgent pointer.
func (h TCP) Urgent() uint16 { return binary.BigEndian.Uint16(h[18:]) }

// SetSrcPort writes the source port.
func (h TCP) SetSrcPort(p uint16) { binary.BigEndian.PutUint16(h, p) }

// SetDstPort writes the destination port.
func (h TCP) SetDstPort(p uint16) { binary.BigEndian.PutUint16(h[2:], p) }

// SetSeq writes the sequence number.
func (h TCP) SetSeq(n uint32) { binary.BigEndian.PutUint32(h[4:], n) }

// SetFlags writes the 9 flag bits and leaves the data offset.
func (h TCP) SetFlags(f uint16) {
	binary.BigEndian.PutUint16(h[12:], binary.BigEndian.Uint16(h[12:])&0xfe00|f&0x01ff)
}

// SetChecksum writes the checksum.
func (h TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[16:], c) }
