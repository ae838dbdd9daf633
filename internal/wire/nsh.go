package wire

import "encoding/binary"

// NSHLen is the length of base and service path header.
const NSHLen = 8

// Next protocols of NSH.
const (
	NSHIPv4     = 1
	NSHIPv6     = 2
	NSHEthernet = 3
	NSHNSH      = 4
	NSHMPLS     = 5
)

// NSH is a network service header in place (RFC 8300, section 2): version (2 bits), OAM (1), unassigned (1), time to
// live (6), length in 4-byte units (6), unassigned (4), metadata type (4), next protocol (8), service path
// (24), service index (8), metadata. Call Valid before the rest.
type NSH []byte

// Valid reports whether base and service path header are there with version 0 and a possible length. The
// metadata may be cut.
func (h NSH) Valid() bool { return len(h) >= NSHLen && h[0]>>6 == 0 && h.Len() >= NSHLen }

// OAM reports whether the packet is for the operation of the service path.
func (h NSH) OAM() bool { return h[0]&0x20 != 0 }

// TTL returns the number of service functions the packet may still pass.
func (h NSH) TTL() uint8 { return uint8(binary.BigEndian.Uint16(h) >> 6 & 0x3f) }

// Len returns the length of the header with metadata.
func (h NSH) Len() int { return int(h[1]&0x3f) * 4 }

// MDType returns the kind of metadata: 1 sixteen fixed bytes, 2 TLVs.
func (h NSH) MDType() uint8 { return h[2] & 15 }

// Next returns the protocol of what follows.
func (h NSH) Next() uint8 { return h[3] }

// SPI returns the service path identifier.
func (h NSH) SPI() uint32 { return binary.BigEndian.Uint32(h[4:]) >> 8 }

// SI returns the service index: the place on the path.
func (h NSH) SI() uint8 { return h[7] }

// Metadata returns the metadata that are there.
func (h NSH) Metadata() []byte { return h[NSHLen:max(NSHLen, min(h.Len(), len(h)))] }
