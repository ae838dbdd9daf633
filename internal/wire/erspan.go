package wire

import "encoding/binary"

// Lengths of ERSPAN headers. Type I has none.
const (
	ERSPAN2Len        = 8
	ERSPAN3Len        = 12
	ERSPANPlatformLen = 8 // the sub-header of a type III header
)

// Versions of the ERSPAN header.
const (
	ERSPANVersion2 = 1 // type II
	ERSPANVersion3 = 2 // type III
)

// ERSPAN is an ERSPAN type II or III header in place (draft-foschiano-erspan): version (4 bits), VLAN (12), class
// of service (3), encapsulation or error (2), truncated (1), session (10). Type II goes on with reserved (12) and
// index (20); type III with timestamp (32), security group tag (16), has a frame (1), frame type (5), hardware
// identifier (6), direction (1), granularity (2), sub-header follows (1). Call Valid before the rest.
type ERSPAN []byte

// Valid reports whether the header of the version it names is there. A sub-header may be cut.
func (h ERSPAN) Valid() bool {
	switch {
	case len(h) < ERSPAN2Len:
		return false
	case h.Version() == ERSPANVersion2:
		return true
	}
	return h.Version() == ERSPANVersion3 && len(h) >= ERSPAN3Len
}

// Version returns the version: 1 for type II, 2 for type III.
func (h ERSPAN) Version() uint8 { return h[0] >> 4 }

// Len returns the length of the header with its sub-header.
func (h ERSPAN) Len() int {
	switch {
	case h.Version() == ERSPANVersion2:
		return ERSPAN2Len
	case h.HasPlatform():
		return ERSPAN3Len + ERSPANPlatformLen
	}
	return ERSPAN3Len
}

// VLAN returns the VLAN the frame was seen in.
func (h ERSPAN) VLAN() uint16 { return binary.BigEndian.Uint16(h) & 0x0fff }

// CoS returns the class of service of the frame.
func (h ERSPAN) CoS() uint8 { return h[2] >> 5 }

// Encap returns what tag the frame had (type II): 0 none, 1 ISL, 2 802.1Q, taken off; 3 kept in the frame.
func (h ERSPAN) Encap() uint8 { return h[2] >> 3 & 3 }

// BSO returns the state of the frame (type III): 0 good, 1 short, 2 oversized, 3 bad.
func (h ERSPAN) BSO() uint8 { return h[2] >> 3 & 3 }

// Truncated reports whether the switch cut the frame.
func (h ERSPAN) Truncated() bool { return h[2]&0x04 != 0 }

// Session returns the ERSPAN session identifier.
func (h ERSPAN) Session() uint16 { return binary.BigEndian.Uint16(h[2:]) & 0x03ff }

// Index returns the port index and direction of a type II header, as the platform codes them.
func (h ERSPAN) Index() uint32 { return binary.BigEndian.Uint32(h[4:]) & 0xfffff }

// Timestamp returns the 32-bit timestamp of a type III header, in the unit of Granularity.
func (h ERSPAN) Timestamp() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// SGT returns the security group tag of a type III header.
func (h ERSPAN) SGT() uint16 { return binary.BigEndian.Uint16(h[8:]) }

// HasFrame returns the P bit of a type III header: the payload is an Ethernet frame.
func (h ERSPAN) HasFrame() bool { return h[10]&0x80 != 0 }

// Frame types of a type III header.
const (
	ERSPANFrameEthernet = 0
	ERSPANFrameIP       = 2
	ERSPANFrameTime     = 7 // a marker of the clock, without a frame
)

// FrameType returns the type of the payload of a type III header.
func (h ERSPAN) FrameType() uint8 { return h[10] >> 2 & 0x1f }

// HardwareID returns the engine that made the copy (type III).
func (h ERSPAN) HardwareID() uint8 { return uint8(binary.BigEndian.Uint16(h[10:]) >> 4 & 0x3f) }

// Egress returns the direction bit of a type III header.
func (h ERSPAN) Egress() bool { return h[11]&0x08 != 0 }

// Granularity returns the unit of the timestamp (type III): 0 100 µs, 1 100 ns, 2 IEEE 1588, 3 by the platform.
func (h ERSPAN) Granularity() uint8 { return h[11] >> 1 & 3 }

// HasPlatform reports whether a platform sub-header follows a type III header.
func (h ERSPAN) HasPlatform() bool { return h.Version() == ERSPANVersion3 && h[11]&0x01 != 0 }

// ERSPANPlatform is the platform sub-header of type III in place: platform (6 bits), then information whose
// layout the platform gives (26 and 32). Call Valid before the rest.
type ERSPANPlatform []byte

// Valid reports whether the whole sub-header is there.
func (h ERSPANPlatform) Valid() bool { return len(h) >= ERSPANPlatformLen }

// ID returns the platform: 1, 3, 4, 5 and 7 are known.
func (h ERSPANPlatform) ID() uint8 { return h[0] >> 2 }

// Port returns the port or its index, where the platform tells it.
func (h ERSPANPlatform) Port() (uint32, bool) {
	word := binary.BigEndian.Uint32(h)
	switch h.ID() {
	case 1:
		return binary.BigEndian.Uint32(h[4:]), true
	case 3:
		return word & 0x3fff, true
	case 5:
		return word & 0xffff, true
	case 7:
		return word & 0xfffff, true
	}
	return 0, false
}

// Switch returns the switch (platform 5) or its VSM domain (platform 1).
func (h ERSPANPlatform) Switch() (uint32, bool) {
	word := binary.BigEndian.Uint32(h)
	switch h.ID() {
	case 1:
		return word & 0xfff, true
	case 5:
		return word >> 16 & 0x3ff, true
	}
	return 0, false
}

// TimestampHigh returns the upper half of the timestamp (platforms 3 and 7) or its seconds (platform 5).
func (h ERSPANPlatform) TimestampHigh() (uint32, bool) {
	switch h.ID() {
	case 3, 5, 7:
		return binary.BigEndian.Uint32(h[4:]), true
	}
	return 0, false
}
