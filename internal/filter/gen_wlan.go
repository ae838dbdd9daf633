package filter

import (
	"strings"

	"crosstap/internal/frame"
)

// beginWLAN stores where the 802.11 header and the LLC header behind it begin: pseudo headers have variable
// lengths, and QoS data frames have two bytes more.
func (g *gen) beginWLAN() {
	var length value
	little16 := calc{'|', load{1, 2, nil}, calc{'<', load{1, 3, nil}, imm(8)}}
	switch g.link {
	case frame.LinkRadiotap:
		length = little16
	case frame.LinkPPI:
		length = little16
		g.before = append(g.before, equal(load{4, 4, nil}, 0x69000000)) // the link type that it carries, little endian
	case frame.LinkAVS:
		length = load{4, 4, nil}
	}
	if g.link != frame.LinkWLAN {
		s, _ := g.scratch(1)
		g.header = place{off: s}
		store := Node(set{int(s), length})
		if g.link == frame.LinkPrism { // an AVS header, or Prism's of fixed length
			avs := equal(masked(load{4, 0, nil}, 0xfffff000), 0x80211000)
			store = or(and(avs, set{int(s), load{4, 4, nil}}), set{int(s), imm(144)})
		}
		g.before = append(g.before, store)
	}
	llc, _ := g.scratch(1)
	control := at(g.header, 0, 1)
	qos := and(cmp{'&', control, imm(8)}, negate(cmp{'&', control, imm(4)}), cmp{'&', control, imm(0x80)})
	g.before = append(g.before, or(and(qos, set{int(llc), valueOf(g.header.add(26))}), set{int(llc), valueOf(g.header.add(24))}))
	if g.link == frame.LinkRadiotap {
		g.before = append(g.before, or(and(padded(), set{int(llc), calc{'&', calc{'+', llc, imm(3)}, imm(0xfffffffc)}}), set{int(llc), llc}))
	}
	g.wlan, g.typ, g.net = true, place{off: llc}, place{k: 8, off: llc}
	g.present = equal(masked(control, 0xc), 8)
}

// padded tests radiotap's flag for padding between the 802.11 header and its payload. The flags stand behind the timestamp, if
// that is there.
func padded() Node {
	const hasFlags, hasMore, hasTimestamp = 0x02000000, 0x80, 0x01000000
	fields := load{4, 4, nil}
	return and(cmp{'&', fields, imm(hasFlags)}, negate(cmp{'&', fields, imm(hasMore)}),
		or(and(cmp{'&', fields, imm(hasTimestamp)}, cmp{'&', load{1, 16, nil}, imm(0x20)}),
			and(negate(cmp{'&', fields, imm(hasTimestamp)}), cmp{'&', load{1, 8, nil}, imm(0x20)})))
}

// wlanAddr tests one of the addresses of an 802.11 header with test, which gets its offset. Which one is the source or the
// destination depends on the frame's type and on its way through the distribution system.
func (g *gen) wlanAddr(d dir, test func(off int) Node) Node {
	control, ds := at(g.header, 0, 1), at(g.header, 1, 1)
	isControl, isData := cmp{'&', control, imm(4)}, cmp{'&', control, imm(8)}
	toDS, fromDS := cmp{'&', ds, imm(1)}, cmp{'&', ds, imm(2)}
	withSender := negate(or(equal(masked(control, 0xfc), 0xc4), equal(masked(control, 0xfc), 0xd4))) // not CTS, ACK
	switch d {
	case dirSrc:
		data := or(and(fromDS, or(and(toDS, test(24)), and(negate(toDS), test(16)))), and(negate(fromDS), test(10)))
		return and(negate(isControl), or(and(isData, data), and(negate(isData), test(10))))
	case dirDst:
		data := or(and(toDS, test(16)), and(negate(toDS), test(4)))
		return and(negate(isControl), or(and(isData, data), and(negate(isData), test(4))))
	case dirAnd:
		return and(g.wlanAddr(dirSrc, test), g.wlanAddr(dirDst, test))
	case dirRA:
		return and(isData, test(4))
	case dirTA:
		return and(withSender, isData, test(10))
	case dirAddr1:
		return test(4)
	case dirAddr2:
		return and(withSender, test(10))
	case dirAddr3:
		return and(negate(equal(masked(control, 0xc), 4)), test(16))
	case dirAddr4:
		return and(equal(masked(ds, 3), 3), test(24))
	}
	return or(g.wlanAddr(dirSrc, test), g.wlanAddr(dirDst, test))
}

// wlanTypes and wlanSubtypes are the frame types of IEEE 802.11 as they stand in the first byte.
var (
	wlanTypes    = map[string]uint32{"mgt": 0, "management": 0, "ctl": 4, "control": 4, "data": 8}
	wlanSubtypes = map[uint32]map[string]uint32{
		0: {"assoc-req": 0x00, "assocreq": 0x00, "assoc-resp": 0x10, "assocresp": 0x10, "reassoc-req": 0x20, "reassocreq": 0x20,
			"reassoc-resp": 0x30, "reassocresp": 0x30, "probe-req": 0x40, "probereq": 0x40, "probe-resp": 0x50, "proberesp": 0x50, "beacon": 0x80,
			"atim": 0x90, "disassoc": 0xa0, "disassociation": 0xa0, "auth": 0xb0, "authentication": 0xb0, "deauth": 0xc0, "deauthentication": 0xc0},
		4: {"bar": 0x80, "ba": 0x90, "ps-poll": 0xa0, "pspoll": 0xa0, "rts": 0xb0, "cts": 0xc0, "ack": 0xd0, "cf-end": 0xe0, "cf-end-ack": 0xf0},
		8: {"data": 0x00, "data-cf-ack": 0x10, "data-cf-poll": 0x20, "data-cf-ack-poll": 0x30, "null": 0x40, "cf-ack": 0x50, "cf-poll": 0x60,
			"cf-ack-poll": 0x70, "qos-data": 0x80, "qos-data-cf-ack": 0x90, "qos-data-cf-poll": 0xa0, "qos-data-cf-ack-poll": 0xb0,
			"qos": 0xc0, "qos-cf-poll": 0xe0, "qos-cf-ack-poll": 0xf0},
	}
	wlanDirs = map[string]uint32{"nods": 0, "tods": 1, "fromds": 2, "dstods": 3}
)

// wlanType is "type T [subtype S]" or "subtype S".
func (g *gen) wlanType(x *other) (Node, error) {
	if !g.wlan {
		return nil, fail(x, "802.11 frame types are known on 802.11 alone")
	}
	control := at(g.header, 0, 1)
	if x.word == "subtype" {
		for typ, names := range wlanSubtypes {
			if s, ok := names[strings.ToLower(x.args[0].text)]; ok && x.args[0].kind == tokWord {
				return equal(masked(control, 0xfc), typ|s), nil
			}
		}
		return nil, fail(x, "unknown 802.11 subtype %q; a number needs its type before it", x.args[0].text)
	}
	typ, ok := argument(x.args[0], wlanTypes)
	if !ok || typ&^0xc != 0 {
		return nil, fail(x, "invalid 802.11 type %q; want mgt, ctl or data", x.args[0].text)
	}
	if len(x.args) == 1 {
		return equal(masked(control, 0xc), typ), nil
	}
	s, ok := argument(x.args[1], wlanSubtypes[typ])
	if !ok || s&^0xf0 != 0 {
		return nil, fail(x, "invalid 802.11 subtype %q of type %s", x.args[1].text, x.args[0].text)
	}
	return equal(masked(control, 0xfc), typ|s), nil
}

// wlanDir is "dir D", the way of a frame through the distribution system.
func (g *gen) wlanDir(x *other) (Node, error) {
	d, ok := argument(x.args[0], wlanDirs)
	if !g.wlan || !ok || d > 3 {
		return nil, fail(x, "802.11 directions are nods, tods, fromds and dstods, on 802.11 alone")
	}
	return equal(masked(at(g.header, 1, 1), 3), d), nil
}

// argument reads a number or a name.
func argument(t token, names map[string]uint32) (uint32, bool) {
	if t.kind == tokNumber {
		return t.num, true
	}
	v, ok := names[strings.ToLower(t.text)]
	return v, ok && t.kind == tokWord
}
