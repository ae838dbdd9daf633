package openflow

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Classes of OXM fields (OpenFlow 1.4, section 7.2.3.2): those of the standard, and those of Open vSwitch (NXM).
const (
	classNXM0  = 0x0000
	classNXM1  = 0x0001
	classBasic = 0x8000
)

// field is one field of a match.
type field struct {
	class uint16
	id    uint8
	size  int // bytes
}

// matchFields are the fields that need no other to be told apart.
var matchFields = map[string]field{
	"dl_dst": {classBasic, 3, 6}, "dl_src": {classBasic, 4, 6}, "vlan_tci": {classNXM0, 4, 2}, "dl_type": {classBasic, 5, 2},
	"nw_src": {classBasic, 11, 4}, "nw_dst": {classBasic, 12, 4}, "ipv6_src": {classBasic, 26, 16}, "ipv6_dst": {classBasic, 27, 16},
	"nw_proto": {classBasic, 10, 1}, "nw_ttl": {classNXM1, 29, 1}, "nw_tos": {classNXM0, 5, 1}, "nw_ecn": {classNXM1, 28, 1},
	"ip_frag": {classNXM1, 26, 1}, "arp_op": {classBasic, 21, 2}, "arp_sha": {classBasic, 24, 6}, "arp_spa": {classBasic, 22, 4},
	"arp_tha": {classBasic, 25, 6}, "arp_tpa": {classBasic, 23, 4}, "tcp_flags": {classBasic, 42, 2},
	"icmp_type": {classBasic, 19, 1}, "icmp_code": {classBasic, 20, 1}, "icmpv6_type": {classBasic, 29, 1}, "icmpv6_code": {classBasic, 30, 1},
	"mpls_label": {classBasic, 34, 4}, "mpls_bos": {classBasic, 36, 1},
}

// portFields are tp_src of TCP, UDP and SCTP; tp_dst is the next.
var portFields = map[string]uint8{"6": 13, "17": 15, "132": 17}

// encodeMatch writes a match such as "dl_type=0x0800,nw_proto=6,tp_dst=0x50/0xffff" as OXM fields, in the order given.
func encodeMatch(text string) (out []byte, err error) {
	proto := ""
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		f, known := matchFields[name]
		switch name {
		case "nw_proto":
			proto = value
		case "tp_src", "tp_dst":
			var id uint8
			id, known = portFields[proto]
			if name == "tp_dst" {
				id++
			}
			f = field{classBasic, id, 2}
		}
		if !known {
			return nil, fmt.Errorf("openflow: match %q: field %s is not known here", text, name)
		}
		b, err := f.encode(value)
		if err != nil {
			return nil, fmt.Errorf("openflow: match %q: %s: %w", text, name, err)
		}
		out = append(out, b...)
	}
	return out, nil
}

// encode writes a field with its value and, after a slash, its mask. A mask of all ones is none.
func (f field) encode(text string) ([]byte, error) {
	if text == "not_later" { // of ip_frag: bit 1 says that it is a later fragment
		text = "0/2"
	}
	valueText, maskText, masked := strings.Cut(text, "/")
	value, err := f.bytes(valueText)
	if err != nil {
		return nil, err
	}
	if !masked {
		return append(oxmHeader(f.class, f.id, false, f.size), value...), nil
	}
	mask, err := f.mask(maskText)
	if err != nil {
		return nil, err
	}
	ones := true
	for i := range mask {
		value[i] &= mask[i]
		ones = ones && mask[i] == 0xff
	}
	if ones {
		return append(oxmHeader(f.class, f.id, false, f.size), value...), nil
	}
	return append(append(oxmHeader(f.class, f.id, true, 2*f.size), value...), mask...), nil
}

// mask reads a mask: as a value, or the length of an address's prefix.
func (f field) mask(text string) ([]byte, error) {
	if f != matchFields["nw_src"] && f != matchFields["nw_dst"] && f.size != 16 || strings.ContainsAny(text, ".:x") {
		return f.bytes(text)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 8*f.size {
		return nil, fmt.Errorf("%q is no prefix of an address of %d bytes", text, f.size)
	}
	mask := make([]byte, f.size)
	for i := range n {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask, nil
}

// bytes reads a value of the field's size: a number, a MAC or an IP address.
func (f field) bytes(text string) ([]byte, error) {
	switch {
	case f.size == 6:
		b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(b) != 6 {
			return nil, fmt.Errorf("%q is no Ethernet address", text)
		}
		return b, nil
	case strings.ContainsAny(text, ".:"):
		a, err := netip.ParseAddr(text)
		if err != nil || len(a.AsSlice()) != f.size {
			return nil, fmt.Errorf("%q is no address of %d bytes", text, f.size)
		}
		return a.AsSlice(), nil
	}
	const most = 8 // bytes of a number
	v, err := strconv.ParseUint(text, 0, 8*min(f.size, most))
	if err != nil || f.size > most {
		return nil, fmt.Errorf("%q is no number of %d bytes", text, f.size)
	}
	return be.AppendUint64(nil, v)[8-f.size:], nil
}

// oxmHeader is the header of a field; size has the mask too.
func oxmHeader(class uint16, id uint8, masked bool, size int) []byte {
	b := be.AppendUint16(nil, class)
	id <<= 1
	if masked {
		id |= 1
	}
	return append(b, id, uint8(size))
}

// oxmMatch is an OFPMT_OXM match with its padding.
func oxmMatch(fields []byte) []byte {
	b := be.AppendUint16(nil, 1)
	b = be.AppendUint16(b, uint16(4+len(fields)))
	b = append(b, fields...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}
