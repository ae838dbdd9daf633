package filter

// udp returns the tests and the place of a UDP header that goes to one of the ports named, or to the usual one when named is nil, over IPv4
// and over IPv6.
func (g *gen) udp(named []uint16, usual uint16) (v4, v6 []Node, p4, p6 place) {
	if named == nil {
		named = []uint16{usual}
	}
	to := func(p place) Node {
		var any []Node
		for _, port := range named {
			any = append(any, equal(at(p, 2, 2), uint32(port)))
		}
		return or(any...)
	}
	p4, p6 = g.transport4(), g.transport6()
	v4 = []Node{g.ipProto(ipUDP), g.unfragmented(), to(p4)}
	v6 = []Node{g.ethertype(typeIPv6), equal(at(g.net, 6, 1), ipUDP), to(p6)}
	return v4, v6, p4, p6
}

func valueOf(p place) value {
	if v := plus(p.off, imm(p.k)); v != nil {
		return v
	}
	return imm(0)
}

// scratch reserves scratch slots.
func (g *gen) scratch(n int) (slot, bool) {
	first := g.slots
	g.slots += n
	return slot(first), g.slots <= 16
}

// overlay is "vxlan" or "geneve" with an optional VNI: it tests the outer packet and moves every offset to its
// right into the inner one.
func (g *gen) overlay(x *other) (Node, error) {
	name, ports, usual := "VXLAN", g.opt.Tunnels.VXLANPorts, uint16(4789)
	if x.word == "geneve" {
		name, ports, usual = "Geneve", g.opt.Tunnels.GenevePorts, 6081
	}
	if len(x.num) > 0 && x.num[0] > 1<<24-1 {
		return nil, fail(x.nums[0], "%s VNI %d greater than maximum 16777215", name, x.num[0])
	}
	first, ok := g.scratch(4)
	if !ok {
		return nil, fail(x, "too many tunnels in one expression")
	}
	udp, typ, net, hdr := first, first+1, first+2, first+3
	v4, v6, p4, p6 := g.udp(ports, usual)
	check := func(p place) []Node {
		var n []Node
		if x.word == "geneve" {
			n = append(n, equal(masked(at(p, 8, 1), 0xc0), 0)) // version 0
		} else {
			n = append(n, equal(at(p, 8, 1), 8)) // the I flag alone
		}
		if len(x.num) > 0 {
			n = append(n, equal(masked(at(p, 12, 4), 0xffffff00), x.num[0]<<8))
		}
		return append(n, set{int(udp), valueOf(p)})
	}
	outer := or(and(append(v4, check(p4)...)...), and(append(v6, check(p6)...)...))
	u := place{off: udp}
	var inside Node
	if x.word == "vxlan" {
		inside = and(set{int(hdr), valueOf(u.add(16))}, set{int(typ), valueOf(u.add(28))}, set{int(net), valueOf(u.add(30))})
	} else {
		options := calc{'*', masked(at(u, 8, 1), 0x3f), imm(4)}
		h := place{off: hdr}
		teb := equal(at(u, 10, 2), typeTEB)
		inside = and(set{int(hdr), plus(valueOf(u.add(16)), options)},
			or(and(teb, set{int(typ), valueOf(h.add(12))}, set{int(net), valueOf(h.add(14))}),
				and(negate(teb), set{int(typ), valueOf(u.add(10))}, set{int(net), hdr})))
		g.typed = byGeneve
	}
	g.header, g.typ, g.net = place{off: hdr}, place{off: typ}, place{off: net}
	if x.word == "vxlan" {
		g.typed = byEther
	}
	g.ether, g.dst, g.src, g.wlan, g.present, g.mpls, g.tunnel = true, 0, 6, false, nil, 0, true
	return and(outer, inside), nil
}

// tag is "vntag" (IEEE 802.1Qbh draft, type 0x8926) or "etag" (IEEE 802.1BR, type 0x893f); like "vlan" it moves the offsets behind
// itself. An E-CID is its base (12 bits), the extension above it (8) and the group above that (2), as wire.ETag has it.
func (g *gen) tag(x *other) (Node, error) {
	if g.typed != byEther {
		return nil, fail(x, "'%s' not supported on this link type", x.word)
	}
	tag := g.net
	if x.word == "vntag" {
		n := []Node{equal(at(g.typ, 0, 2), typeVNTag)}
		for i := 0; i < len(x.num); i++ {
			if x.args[i].text == "dst" {
				if x.num[i] > 1<<14-1 {
					return nil, fail(x.nums[i], "VN-Tag destination VIF %d greater than maximum 16383", x.num[i])
				}
				n = append(n, equal(masked(at(tag, 0, 2), 0x3fff), x.num[i]))
				continue
			}
			if x.num[i] > 1<<12-1 {
				return nil, fail(x.nums[i], "VN-Tag source VIF %d greater than maximum 4095", x.num[i])
			}
			n = append(n, equal(masked(at(tag, 2, 2), 0x0fff), x.num[i]))
		}
		g.shift(6)
		return and(n...), nil
	}
	n := []Node{equal(at(g.typ, 0, 2), typeETag)}
	if len(x.num) > 0 {
		id := x.num[0]
		if id > 1<<22-1 {
			return nil, fail(x.nums[0], "E-CID %d greater than maximum 4194303", id)
		}
		n = append(n, equal(masked(at(tag, 2, 2), 0x3fff), id>>20<<12|id&0xfff), equal(at(tag, 5, 1), id>>12&0xff))
	}
	g.shift(8)
	return and(n...), nil
}

// greAt tests a GRE header at p for a protocol (0 for any) and a key; the key stands behind the checksum when there is one.
func greAt(p place, proto uint32, key []uint32) Node {
	n := []Node{}
	if proto != 0 {
		n = append(n, equal(at(p, 2, 2), proto))
	}
	if len(key) > 0 {
		checksum := cmp{'&', at(p, 0, 1), imm(0xc0)} // with source routes, too
		n = append(n, cmp{'&', at(p, 0, 1), imm(0x20)},
			or(and(checksum, equal(at(p, 8, 4), key[0])), and(negate(checksum), equal(at(p, 4, 4), key[0]))))
	}
	return and(n...)
}

func (g *gen) gre(x *other) (Node, error) {
	return or(and(g.ipProto(ipGRE), g.unfragmented(), greAt(g.transport4(), 0, x.num)),
		and(g.ethertype(typeIPv6), equal(at(g.net, 6, 1), ipGRE), greAt(g.transport6(), 0, x.num))), nil
}

// erspan tests for ERSPAN types I, II and III; types II and III have a session.
func (g *gen) erspan(x *other) (Node, error) {
	if len(x.num) > 0 && x.num[0] > 1023 {
		return nil, fail(x.nums[0], "ERSPAN session %d greater than maximum 1023", x.num[0])
	}
	inGRE := func(p place) Node {
		if len(x.num) == 0 {
			return or(equal(at(p, 2, 2), typeERSP2), equal(at(p, 2, 2), typeERSP3))
		}
		// the session is the low bits of the second half word behind the GRE header
		flags := at(p, 0, 1)
		options := calc{'+', calc{'>', masked(flags, 0x80), imm(5)}, calc{'+', calc{'>', masked(flags, 0x20), imm(3)}, calc{'>', masked(flags, 0x10), imm(2)}}}
		session := equal(masked(at(place{p.k, plus(p.off, options)}, 6, 2), 0x03ff), x.num[0])
		return and(or(and(equal(at(p, 2, 2), typeERSP2), cmp{'&', flags, imm(0x10)}), equal(at(p, 2, 2), typeERSP3)), session)
	}
	return or(and(g.ipProto(ipGRE), g.unfragmented(), inGRE(g.transport4())),
		and(g.ethertype(typeIPv6), equal(at(g.net, 6, 1), ipGRE), inGRE(g.transport6()))), nil
}

// vxlanGPE tests for VXLAN-GPE that carries NSH.
func (g *gen) vxlanGPE() Node {
	const portGPE, nextNSH = 4790, 4
	v4, v6, p4, p6 := g.udp(g.opt.Tunnels.VXLANGPEPorts, portGPE)
	return or(and(append(v4, equal(at(p4, 11, 1), nextNSH))...), and(append(v6, equal(at(p6, 11, 1), nextNSH))...))
}

// llcTest is "llc" with an optional type of PDU.
func (g *gen) llcTest(x *other) (Node, error) {
	var n Node
	switch g.typed {
	case byEther:
		n = and(negate(cmp{'>', at(g.typ, 0, 2), imm(maxLength)}), negate(equal(at(g.llc(), 0, 2), 0xffff)))
	case byCooked:
		n = equal(at(g.typ, 0, 2), 4)
	case byLLC:
		n = and(g.present)
	default:
		return nil, fail(x, "'llc' not supported on this link type")
	}
	if len(x.args) == 0 {
		return n, nil
	}
	ctl := at(g.llc(), 2, 1)
	switch word := x.args[0].text; word {
	case "i":
		return and(n, negate(cmp{'&', ctl, imm(1)})), nil
	case "s":
		return and(n, equal(masked(ctl, 3), 1)), nil
	case "u":
		return and(n, equal(masked(ctl, 3), 3)), nil
	case "rr", "rnr", "rej":
		v := map[string]uint32{"rr": 1, "rnr": 5, "rej": 9}[word]
		return and(n, equal(masked(ctl, 0x0f), v)), nil
	default:
		return and(n, equal(masked(ctl, 0xef), llcU[word])), nil
	}
}

// llcU are the unnumbered PDUs (IEEE 802.2), without the poll/final bit.
var llcU = map[string]uint32{"ui": 0x03, "ua": 0x63, "disc": 0x43, "dm": 0x0f, "sabme": 0x6f, "test": 0xe3, "xid": 0xaf, "frmr": 0x87}
