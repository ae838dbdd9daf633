// Package encode is what the encoders of formats with templates share: what decides a record's template, and values that are written
// alike in IPFIX and NetFlow v9.
package encode

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
)

// Family returns 4 or 6 for two addresses of a record, 0 when neither is known. Of one that is not known it is that of the other.
func Family(a, b flow.Addr) uint8 {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.Is4() || b.Is4() && a.IsZero():
		return 4
	}
	return 6
}

// Transport is which fields a record has above the network layer. Identifiers of templates are made of it: its numbers stay.
type Transport uint8

// The fields above the network layer.
const (
	Bare  Transport = 0 // none
	Ports Transport = 1
	ICMP  Transport = 2 // type and code
	TCP   Transport = 3 // ports and flags
)

// TransportOf returns which fields a record of a family has above the network layer.
func TransportOf(r *flow.Record, family uint8) Transport {
	switch {
	case family == 0:
	case r.Proto == 1 || r.Proto == 58:
		return ICMP
	case r.Proto == 6:
		return TCP
	case r.SrcPort|r.DstPort != 0 || r.Proto == 17 || r.Proto == 132:
		return Ports
	}
	return Bare
}

// PutMAC appends a MAC address.
func PutMAC(b []byte, m flow.MAC) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(m>>32))
	return binary.BigEndian.AppendUint32(b, uint32(m))
}

// PutLabel appends a record's MPLS label as elements 70 to 79 have it: label, no class, bottom of the stack (RFC 3032, section 2.1,
// without TTL); zero for none.
func PutLabel(b []byte, r *flow.Record) []byte {
	v := r.MPLS<<4 | 1
	if r.MPLS == 0 {
		v = 0
	}
	return append(b, byte(v>>16), byte(v>>8), byte(v))
}

// PutApplication appends element 95: how the application is known, and its number there. Option records tell the names.
func PutApplication(b []byte, r *flow.Record) []byte {
	return binary.BigEndian.AppendUint32(b, about.ApplicationID(r))
}
