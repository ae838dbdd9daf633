package filter

// IP protocol numbers.
const (
	ipICMP   = 1
	ipIGMP   = 2
	ipTCP    = 6
	ipIGRP   = 9
	ipUDP    = 17
	ipGRE    = 47
	ipESP    = 50
	ipAH     = 51
	ipICMPv6 = 58
	ipPIM    = 103
	ipVRRP   = 112
	ipSCTP   = 132
)

var transport = map[proto]uint32{protoTCP: ipTCP, protoUDP: ipUDP, protoSCTP: ipSCTP, protoICMP: ipICMP, protoIGMP: ipIGMP, protoIGRP: ipIGRP,
	protoPIM: ipPIM, protoVRRP: ipVRRP, protoCARP: ipVRRP, protoAH: ipAH, protoESP: ipESP, protoICMPv6: ipICMPv6}

var ethertypes = map[proto]uint32{protoIP: typeIPv4, protoARP: typeARP, protoRARP: typeRARP, protoATalk: typeATalk, protoAARP: typeAARP,
	protoDECnet: typeDECnet, protoLAT: typeLAT, protoSCA: typeSCA, protoMOPDL: typeMOPDL, protoMOPRC: typeMOPRC, protoIPv6: typeIPv6,
	protoISO: sapISO, protoSTP: sapSTP, protoIPX: sapIPX, protoNetBEUI: sapNetBEUI}

var isoProtos = map[proto]uint32{protoCLNP: 0x81, protoESIS: 0x82, protoISIS: 0x83}

// isisPDUs are the PDU types that a word stands for (ISO 10589).
var isisPDUs = map[proto][]uint32{protoISISL1: {0x1a, 0x18, 0x12, 0x0f, 0x11}, protoISISL2: {0x1b, 0x19, 0x14, 0x10, 0x11}, protoISISIIH: {0x11, 0x0f, 0x10},
	protoISISLSP: {0x12, 0x14}, protoISISSNP: {0x1a, 0x1b, 0x18, 0x19}, protoISISPSNP: {0x1a, 0x1b}, protoISISCSNP: {0x18, 0x19}}

// bare is a protocol alone.
func (g *gen) bare(x *bare) (Node, error) {
	n := g.protocol(x.proto)
	if n == nil {
		return nil, fail(x, "the link layer alone says nothing")
	}
	return n, nil
}

// protocol tests that the frame carries the protocol.
func (g *gen) protocol(p proto) Node {
	switch p {
	case protoTCP, protoUDP, protoSCTP, protoPIM, protoAH, protoESP:
		return or(g.ip6Proto(transport[p]), g.ipProto(transport[p]))
	case protoICMP, protoIGMP, protoIGRP, protoVRRP, protoCARP:
		return g.ipProto(transport[p])
	case protoICMPv6:
		return g.ip6Proto(ipICMPv6)
	}
	if v, ok := ethertypes[p]; ok {
		return g.ethertype(v)
	}
	if v, ok := isoProtos[p]; ok {
		return g.isoProto(v)
	}
	var out []Node
	for _, pdu := range isisPDUs[p] {
		out = append(out, and(g.isoProto(0x83), equal(masked(at(g.iso(), 4, 1), 0x1f), pdu)))
	}
	if out == nil {
		return nil
	}
	return or(out...)
}

func (g *gen) isoProto(v uint32) Node {
	if g.typed == byFrameRelay {
		return equal(at(g.typ, 0, 2), 0x0300|v)
	}
	return and(g.ethertype(sapISO), equal(at(g.iso(), 0, 1), v))
}

func (g *gen) ipProto(v uint32) Node {
	return and(g.ethertype(typeIPv4), equal(at(g.net, 9, 1), v))
}

// ip6Proto also looks behind one fragment header.
func (g *gen) ip6Proto(v uint32) Node {
	return and(g.ethertype(typeIPv6), or(equal(at(g.net, 6, 1), v),
		and(equal(at(g.net, 6, 1), 44), equal(at(g.net, 40, 1), v))))
}

// unfragmented tests that an IPv4 packet has its transport header: it is whole or a first fragment.
func (g *gen) unfragmented() Node {
	return negate(cmp{'&', at(g.net, 6, 2), imm(0x1fff)})
}

// transport4 returns the place of what follows the IPv4 header.
func (g *gen) transport4() place {
	return place{g.net.k, plus(g.net.off, header4{g.net.k, g.net.off})}
}

func (g *gen) transport6() place { return g.net.add(40) }

// directed combines the tests of source and destination.
func directed(d dir, src, dst func() Node) Node {
	switch d {
	case dirSrc:
		return src()
	case dirDst:
		return dst()
	case dirAnd:
		return and(src(), dst())
	}
	return or(src(), dst())
}

// hostAt tests the two IPv4 addresses of a packet at p.
func hostAt(p place, src, dst int, addr, mask uint32, d dir) Node {
	one := func(off int) func() Node {
		return func() Node { return equal(masked(at(p, off, 4), mask), addr) }
	}
	return directed(d, one(src), one(dst))
}

// host4 tests IPv4 addresses in IP, ARP or RARP packets.
func (g *gen) host4(p proto, addr, mask uint32, d dir) Node {
	switch p {
	case protoIP:
		return and(g.ethertype(typeIPv4), hostAt(g.net, 12, 16, addr, mask, d))
	case protoARP:
		return and(g.ethertype(typeARP), hostAt(g.net, 14, 24, addr, mask, d))
	case protoRARP:
		return and(g.ethertype(typeRARP), hostAt(g.net, 14, 24, addr, mask, d))
	case protoDefault:
		return or(g.host4(protoIP, addr, mask, d), g.host4(protoARP, addr, mask, d), g.host4(protoRARP, addr, mask, d))
	}
	v, ok := transport[p]
	if !ok {
		return nil
	}
	return and(g.ipProto(v), hostAt(g.net, 12, 16, addr, mask, d))
}

// host6 tests IPv6 addresses, word by word from the last.
func (g *gen) host6(addr, mask [4]uint32, d dir) Node {
	one := func(off int) func() Node {
		return func() Node {
			var out []Node
			for i := 3; i >= 0; i-- {
				if mask[i] != 0 {
					out = append(out, equal(masked(at(g.net, off+4*i, 4), mask[i]), addr[i]))
				}
			}
			return and(out...)
		}
	}
	return and(g.ethertype(typeIPv6), directed(d, one(8), one(24)))
}

// ports tests the ports of the transports v over IPv6 and IPv4.
func (g *gen) ports(protos []uint32, lo, hi uint32, d dir) Node {
	var p6, p4 []Node
	for _, v := range protos {
		p6 = append(p6, equal(at(g.net, 6, 1), v))
		p4 = append(p4, equal(at(g.net, 9, 1), v))
	}
	return or(and(g.ethertype(typeIPv6), or(p6...), portAt(g.transport6(), lo, hi, d)),
		and(g.ethertype(typeIPv4), or(p4...), g.unfragmented(), portAt(g.transport4(), lo, hi, d)))
}

func portAt(p place, lo, hi uint32, d dir) Node {
	one := func(off int) func() Node {
		return func() Node {
			v := at(p, off, 2)
			if lo == hi {
				return equal(v, lo)
			}
			return and(cmp{'g', v, imm(lo)}, negate(cmp{'>', v, imm(hi)}))
		}
	}
	return directed(d, one(0), one(2))
}
