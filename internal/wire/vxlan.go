package wire

import "encoding/binary"

// VXLANLen is the length of a VXLAN, VXLAN-GBP or VXLAN-GPE header.
const VXLANLen = 8

// VXLAN is a VXLAN header in place (RFC 7348, section 5): flags (8 bits, 0x08 = VNI present),
// reserved (24), VNI (24), reserved (8). The group policy extension (draft-smith-vxlan-group-policy) takes
// flag 0x80, D (0x40) and A (0x08) of the second byte and a policy identifier in the next two; the generic protocol
// extension (draft-ietf-nvo3-vxlan-gpe) takes flag 0x04 and the fourth byte for the next protocol. Call Valid
// before the rest.
type VXLAN []byte

// Valid reports whether the header is there and carries a VNI.
func (h VXLAN) Valid() bool { return len(h) >= VXLANLen && h[0]&0x08 != 0 }

// Flags returns the first byte.
func (h VXLAN) Flags() uint8 { return h[0] }

// VNI returns the VXLAN network identifier.
func (h VXLAN) VNI() uint32 { return binary.BigEndian.Uint32(h[4:]) >> 8 }

// SetVNI writes the VXLAN network identifier and leaves the reserved byte.
func (h VXLAN) SetVNI(vni uint32) {
	binary.BigEndian.PutUint32(h[4:], vni<<8|uint32(h[7]))
}

// HasPolicy reports whether the header carries a group policy identifier.
func (h VXLAN) HasPolicy() bool { return h[0]&0x80 != 0 }

// Policy returns the group policy identifier.
func (h VXLAN) Policy() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// DontLearn returns the D flag of the group policy extension.
func (h VXLAN) DontLearn() bool { return h[1]&0x40 != 0 }

// PolicyApplied returns the A flag of the group policy extension.
func (h VXLAN) PolicyApplied() bool { return h[1]&0x08 != 0 }

// Next protocols of VXLAN-GPE.
const (
	GPEIPv4     = 1
	GPEIPv6     = 2
	GPEEthernet = 3
	GPENSH      = 4
	GPEMPLS     = 5
)

// GPEVersion returns the version of a VXLAN-GPE header; only 0 is defined.
func (h VXLAN) GPEVersion() uint8 { return h[0] >> 4 & 3 }

// GPENext returns the next protocol of a VXLAN-GPE header; Ethernet when the header names none.
func (h VXLAN) GPENext() uint8 {
	if h[0]&0x04 == 0 {
		return GPEEthernet
	}
	return h[3]
}

// GPEOAM returns the O flag: the packet is for the operation of the network, not a tenant's.
func (h VXLAN) GPEOAM() bool { return h[0]&0x01 != 0 }
