package wire

import "encoding/binary"

// GRELen is the length of a GRE header without optional fields.
const GRELen = 4

// Flags of a GRE header.
const (
	greChecksum = 0x8000
	greRouting  = 0x4000
	greKey      = 0x2000
	greSeq      = 0x1000
	greAck      = 0x0080
)

// GRE is a GRE header in place (RFC 2784, section 2; RFC 2890, section 2; for routing RFC 1701; version 1 for PPTP: RFC
// 2637, section 4.1): flags with version in the lowest 3 bits (16 bits), protocol (16), then as the flags say checksum (16) and
// offset (16), key (32), sequence number (32), acknowledgment number (32, version 1), routing. Call Valid before
// the rest, and Len before fields that a flag announces.
type GRE []byte

// Valid reports whether flags and protocol are there and the version is known.
func (h GRE) Valid() bool { return len(h) >= GRELen && h.Version() <= 1 }

func (h GRE) flags() uint16 { return binary.BigEndian.Uint16(h) }

// Version returns the version: 0, or 1 for PPTP.
func (h GRE) Version() uint8 { return h[1] & 7 }

// Protocol returns the EtherType of what follows.
func (h GRE) Protocol() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// HasChecksum reports whether a checksum is present.
func (h GRE) HasChecksum() bool { return h.flags()&greChecksum != 0 }

// HasRouting reports whether source routes follow the optional fields.
func (h GRE) HasRouting() bool { return h.flags()&greRouting != 0 }

// HasKey reports whether a key is present.
func (h GRE) HasKey() bool { return h.flags()&greKey != 0 }

// HasSeq reports whether a sequence number is present.
func (h GRE) HasSeq() bool { return h.flags()&greSeq != 0 }

// HasAck reports whether an acknowledgment number is present: in version 1 only.
func (h GRE) HasAck() bool { return h.Version() == 1 && h.flags()&greAck != 0 }

func (h GRE) keyOff() int {
	if h.flags()&(greChecksum|greRouting) != 0 {
		return GRELen + 4
	}
	return GRELen
}

func (h GRE) seqOff() int {
	if h.HasKey() {
		return h.keyOff() + 4
	}
	return h.keyOff()
}

// fixed returns the length without source routes.
func (h GRE) fixed() int {
	n := h.seqOff()
	if h.HasSeq() {
		n += 4
	}
	if h.HasAck() {
		n += 4
	}
	return n
}

// Len returns the length of the header with everything the flags announce. It may exceed len(h).
func (h GRE) Len() int {
	n := h.fixed()
	if !h.HasRouting() {
		return n
	}
	const entry = 4 // address family (16 bits), offset (8), length (8)
	for n+entry <= len(h) {
		family, length := binary.BigEndian.Uint16(h[n:]), int(h[n+3])
		if n += entry + length; family == 0 && length == 0 {
			return n
		}
	}
	return max(n, len(h)) + 1 // the list does not end
}

// Checksum returns the checksum; only when HasChecksum.
func (h GRE) Checksum() uint16 { return binary.BigEndian.Uint16(h[GRELen:]) }

// SetChecksum writes the checksum; only when HasChecksum.
func (h GRE) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[GRELen:], c) }

// Key returns the key; only when HasKey. Version 1 keeps payload length (16 bits) and call identifier (16) there.
func (h GRE) Key() uint32 { return binary.BigEndian.Uint32(h[h.keyOff():]) }

// VSID returns the virtual subnet identifier of NVGRE (RFC 7637, section 3.2); only when HasKey.
func (h GRE) VSID() uint32 { return h.Key() >> 8 }

// FlowID returns the flow identifier of NVGRE; only when HasKey.
func (h GRE) FlowID() uint8 { return uint8(h.Key()) }

// Seq returns the sequence number; only when HasSeq.
func (h GRE) Seq() uint32 { return binary.BigEndian.Uint32(h[h.seqOff():]) }

// SetSeq writes the sequence number; only when HasSeq.
func (h GRE) SetSeq(n uint32) { binary.BigEndian.PutUint32(h[h.seqOff():], n) }
