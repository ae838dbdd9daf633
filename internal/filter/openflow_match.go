package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// flowField is a field of an OpenFlow match.
type flowField uint8

const (
	fieldDst flowField = iota
	fieldSrc
	fieldVLAN // tag control information; bit 12 says that there is a tag
	fieldType
	fieldNetSrc
	fieldNetDst
	fieldProto
	fieldTOS
	fieldTTL
	fieldFrag // bit 0: a fragment, bit 1: not the first
	field6Src
	field6Dst
	fieldARPOp
	fieldARPSHA
	fieldARPSPA
	fieldARPTHA
	fieldARPTPA
	fieldPortSrc
	fieldPortDst
	fieldTCPFlags
	fieldICMPType
	fieldICMPCode
	fieldMPLS // the first label entry
	flowFields
)

// flowMatch is a conjunction of tests on bits of fields.
type flowMatch struct {
	value, mask [flowFields][16]byte
	untagged    bool // it is known, from higher entries, that there is no tag
}

// with adds a test of bytes of a field; ok is false when it contradicts the others.
func (m flowMatch) with(f flowField, off, size int, mask, value uint32) (flowMatch, bool) {
	var mb, vb [4]byte
	binary.BigEndian.PutUint32(mb[:], mask<<(8*(4-size)))
	binary.BigEndian.PutUint32(vb[:], value<<(8*(4-size)))
	for i := range size {
		at := off + i
		if (m.value[f][at]^vb[i])&m.mask[f][at]&mb[i] != 0 || vb[i]&^mb[i] != 0 {
			return m, false
		}
		m.mask[f][at] |= mb[i]
		m.value[f][at] |= vb[i]
	}
	return m, true
}

// number returns a field of up to two bytes that is known exactly.
func (m *flowMatch) number(f flowField, size int) (uint32, bool) {
	var v uint32
	for i := range size {
		if m.mask[f][i] != 0xff {
			return 0, false
		}
		v = v<<8 | uint32(m.value[f][i])
	}
	return v, true
}

func (m *flowMatch) tagged() bool { return m.value[fieldVLAN][0]&0x10 != 0 }

// where returns the matches that together are m and the comparison; ok is false when a switch cannot make it.
func (m flowMatch) where(c cmp) (out []flowMatch, ok bool) {
	v, mask := unmask(c.l)
	l, isLoad := v.(load)
	k, isConst := c.r.(imm)
	if !isLoad || !isConst {
		return nil, false
	}
	full := uint32(1<<(8*l.size) - 1)
	mask &= full
	typ := 12
	if m.tagged() {
		typ = 16
	}
	if l.off == nil && l.k == typ && l.size == 2 {
		return m.whereType(c.op, mask, uint32(k))
	}
	f, off, ok := m.field(l, typ+2)
	if !ok {
		return nil, false
	}
	switch {
	case f == fieldFrag:
		if c.op != '=' || mask != 0x1fff || k != 0 {
			return nil, false
		}
		mask, l.size, off = 2, 1, 0
	case f == fieldVLAN && mask<<(8*(2-l.size-off))&0x1000 != 0, !maskable(f, mask, full, l.size):
		return nil, false
	}
	if c.op == '=' {
		if a, ok := m.with(f, off, l.size, mask, uint32(k)); ok {
			out = append(out, a)
		}
		return out, true
	}
	if c.op != '>' || mask != full || (f != fieldPortSrc && f != fieldPortDst) || l.size != 2 {
		return nil, false
	}
	for _, r := range above(uint32(k)) {
		if a, ok := m.with(f, 0, 2, r.mask, r.value); ok {
			out = append(out, a)
		}
	}
	return out, true
}

// whereType tests the Ethernet type, of a frame with a tag or of one that has none.
func (m flowMatch) whereType(op byte, mask, k uint32) ([]flowMatch, bool) {
	if op != '=' || mask != 0xffff || k < leastType {
		return nil, false
	}
	if !m.tagged() {
		if !m.untagged && (k == typeVLAN || k == typeQinQ) {
			return nil, false
		}
		var ok bool
		if m, ok = m.with(fieldVLAN, 0, 2, 0x1000, 0); !ok {
			return nil, true
		}
	}
	if m, ok := m.with(fieldType, 0, 2, 0xffff, k); ok {
		return []flowMatch{m}, true
	}
	return nil, true
}

// maskable reports whether Open vSwitch takes such a mask for the field.
func maskable(f flowField, mask, full uint32, size int) bool {
	switch f {
	case fieldProto, fieldTTL, fieldICMPType, fieldICMPCode:
		return mask == full
	case fieldARPOp:
		return mask == full && size == 2
	case fieldTOS:
		return mask&^0xfc == 0 && mask == 0xfc || mask == 3 || mask == full
	case fieldMPLS:
		return size == 4 && mask == 0xfffff000 || size == 1 && mask == 1
	}
	return true
}

// opaque reports whether the packet is of a protocol that a switch does not look into, such as a second tag.
func (m *flowMatch) opaque() bool {
	typ, known := m.number(fieldType, 2)
	return known && areasOf[typ] == nil
}

// area is a run of bytes of a header that is in a field.
type area struct {
	from, size int
	f          flowField
}

var (
	etherAreas = []area{{0, 6, fieldDst}, {6, 6, fieldSrc}}
	ip4Areas   = []area{{1, 1, fieldTOS}, {6, 2, fieldFrag}, {8, 1, fieldTTL}, {9, 1, fieldProto}, {12, 4, fieldNetSrc}, {16, 4, fieldNetDst}}
	ip6Areas   = []area{{6, 1, fieldProto}, {7, 1, fieldTTL}, {8, 16, field6Src}, {24, 16, field6Dst}}
	arpAreas   = []area{{6, 2, fieldARPOp}, {8, 6, fieldARPSHA}, {14, 4, fieldARPSPA}, {18, 6, fieldARPTHA}, {24, 4, fieldARPTPA}}
	mplsAreas  = []area{{0, 4, fieldMPLS}}
	portAreas  = []area{{0, 2, fieldPortSrc}, {2, 2, fieldPortDst}}
	tcpAreas   = append([]area{{13, 1, fieldTCPFlags}}, portAreas...)
	icmpAreas  = []area{{0, 1, fieldICMPType}, {1, 1, fieldICMPCode}}
	areasOf    = map[uint32][]area{typeIPv4: ip4Areas, typeIPv6: ip6Areas, typeARP: arpAreas, typeRARP: arpAreas, typeMPLS: mplsAreas}
)

// field returns the field that a load reads, and the load's offset in it, of a packet that matches so far.
func (m *flowMatch) field(l load, net int) (flowField, int, bool) {
	if l.off == nil {
		if f, off, ok := in(etherAreas, l.k, l.size); ok {
			return f, off, ok
		}
		if m.tagged() && l.k >= 14 && l.k+l.size <= 16 {
			return fieldVLAN, l.k - 14, true
		}
	}
	typ, _ := m.number(fieldType, 2)
	switch {
	case l.off == nil && typ == typeIPv6 && l.k >= net+40:
		return m.transport(l.k-net-40, l.size, ipICMPv6)
	case l.off == header4{net, nil} && typ == typeIPv4:
		return m.transport(l.k-net, l.size, ipICMP)
	case l.off != nil:
		return 0, 0, false
	}
	return in(areasOf[typ], l.k-net, l.size)
}

// transport is field behind the network header.
func (m *flowMatch) transport(k, size int, icmp uint32) (flowField, int, bool) {
	switch p, _ := m.number(fieldProto, 1); p {
	case ipTCP:
		return in(tcpAreas, k, size)
	case ipUDP, ipSCTP:
		return in(portAreas, k, size)
	case icmp:
		return in(icmpAreas, k, size)
	}
	return 0, 0, false
}

func in(areas []area, k, size int) (flowField, int, bool) {
	for _, a := range areas {
		if k >= a.from && k+size <= a.from+a.size {
			return a.f, k - a.from, true
		}
	}
	return 0, 0, false
}

// bitRange is the numbers whose masked bits are value.
type bitRange struct{ value, mask uint32 }

// above returns the ranges that make up the 16-bit numbers greater than k.
func above(k uint32) (out []bitRange) {
	for lo := uint64(k) + 1; lo <= 0xffff; {
		size := lo & -lo
		if lo == 0 {
			size = 0x10000
		}
		out = append(out, bitRange{uint32(lo), uint32(0x10000-size) & 0xffff})
		lo += size
	}
	return out
}

// covers reports whether every packet of o is one of m.
func (m *flowMatch) covers(o *flowMatch) bool {
	for f := range m.mask {
		for i, b := range m.mask[f] {
			if b&^o.mask[f][i] != 0 || (m.value[f][i]^o.value[f][i])&b != 0 {
				return false
			}
		}
	}
	return true
}

// overlaps reports whether a packet can match both.
func (m *flowMatch) overlaps(o *flowMatch) bool {
	for f := range m.mask {
		for i := range m.mask[f] {
			if (m.value[f][i]^o.value[f][i])&m.mask[f][i]&o.mask[f][i] != 0 {
				return false
			}
		}
	}
	return true
}

// String writes the match as ovs-ofctl takes it, the fields that others need first.
func (m flowMatch) String() string {
	var out []string
	hex := func(f flowField, size int, name string) {
		v, mask := bigEndian(m.value[f][:size]), bigEndian(m.mask[f][:size])
		if mask != 0 {
			out = append(out, fmt.Sprintf("%s=%#x/%#x", name, v, mask))
		}
	}
	number := func(f flowField, size int, name string) {
		if bigEndian(m.mask[f][:size]) != 0 {
			out = append(out, fmt.Sprintf("%s=%d", name, bigEndian(m.value[f][:size])))
		}
	}
	mac := func(f flowField, name string) {
		if m.mask[f] != [16]byte{} {
			out = append(out, fmt.Sprintf("%s=%s/%s", name, macText(m.value[f][:6]), macText(m.mask[f][:6])))
		}
	}
	addr := func(f flowField, size int, name string) {
		if m.mask[f] != [16]byte{} {
			v, _ := netip.AddrFromSlice(m.value[f][:size])
			mask, _ := netip.AddrFromSlice(m.mask[f][:size])
			out = append(out, fmt.Sprintf("%s=%s/%s", name, v, mask))
		}
	}
	mac(fieldDst, "dl_dst")
	mac(fieldSrc, "dl_src")
	hex(fieldVLAN, 2, "vlan_tci")
	if t, ok := m.number(fieldType, 2); ok {
		out = append(out, fmt.Sprintf("dl_type=%#04x", t))
	}
	addr(fieldNetSrc, 4, "nw_src")
	addr(fieldNetDst, 4, "nw_dst")
	addr(field6Src, 16, "ipv6_src")
	addr(field6Dst, 16, "ipv6_dst")
	number(fieldProto, 1, "nw_proto")
	number(fieldTTL, 1, "nw_ttl")
	if tos := m.mask[fieldTOS][0]; tos&0xfc != 0 {
		out = append(out, fmt.Sprintf("nw_tos=%d", m.value[fieldTOS][0]&0xfc))
	}
	if m.mask[fieldTOS][0]&3 != 0 {
		out = append(out, fmt.Sprintf("nw_ecn=%d", m.value[fieldTOS][0]&3))
	}
	if m.mask[fieldFrag][0] != 0 {
		out = append(out, "ip_frag=not_later")
	}
	number(fieldARPOp, 2, "arp_op")
	mac(fieldARPSHA, "arp_sha")
	addr(fieldARPSPA, 4, "arp_spa")
	mac(fieldARPTHA, "arp_tha")
	addr(fieldARPTPA, 4, "arp_tpa")
	hex(fieldPortSrc, 2, "tp_src")
	hex(fieldPortDst, 2, "tp_dst")
	hex(fieldTCPFlags, 1, "tcp_flags")
	number(fieldICMPType, 1, m.icmp()+"_type")
	number(fieldICMPCode, 1, m.icmp()+"_code")
	if m.mask[fieldMPLS][0] != 0 {
		out = append(out, fmt.Sprintf("mpls_label=%d", bigEndian(m.value[fieldMPLS][:4])>>12))
	}
	if m.mask[fieldMPLS][2]&1 != 0 {
		out = append(out, fmt.Sprintf("mpls_bos=%d", m.value[fieldMPLS][2]&1))
	}
	return strings.Join(out, ",")
}

func (m *flowMatch) icmp() string {
	if p, _ := m.number(fieldProto, 1); p == ipICMPv6 {
		return "icmpv6"
	}
	return "icmp"
}

func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// macText writes six bytes as an Ethernet address, zeros too.
func macText(b []byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}
