package filter

import (
	"slices"

	"crosstap/internal/frame"
)

// relation is a comparison of two arithmetic expressions; the protocols that its loads need are
// tested first.
func (g *gen) relation(x *relation) (Node, error) {
	var need []Node
	l, err := g.arith(x.l, &need)
	if err != nil {
		return nil, err
	}
	r, err := g.arith(x.r, &need)
	if err != nil {
		return nil, err
	}
	n := compared(x.op, l, r)
	if a, ok := l.(imm); ok {
		if b, ok := r.(imm); ok {
			n = constant(x.op, uint32(a), uint32(b))
		}
	}
	return and(append(need, n)...), nil
}

// compared is a comparison as written.
func compared(op string, l, r value) Node {
	switch op {
	case "=", "==":
		return cmp{'=', l, r}
	case "!=":
		return cmp{'!', l, r}
	case ">":
		return cmp{'>', l, r}
	case ">=":
		return cmp{'g', l, r}
	case "<":
		return negate(cmp{'g', l, r})
	}
	return negate(cmp{'>', l, r})
}

func constant(op string, a, b uint32) Node {
	switch op {
	case "=":
		return yes(a == b)
	case "!=":
		return yes(a != b)
	case ">":
		return yes(a > b)
	case ">=":
		return yes(a >= b)
	case "<":
		return yes(a < b)
	}
	return yes(a <= b)
}

func (g *gen) arith(x arith, need *[]Node) (value, error) {
	switch x := x.(type) {
	case *number32:
		return imm(x.v), nil
	case *packetLen:
		return length{}, nil
	case *minus:
		v, err := g.arith(x.x, need)
		if k, ok := v.(imm); ok {
			return -k, err
		}
		return calc{'-', imm(0), v}, err
	case *operation:
		return g.operation(x, need)
	case *index:
		return g.index(x, need)
	}
	return nil, fail(x, "unknown arithmetic")
}

// operation joins two operands. Both operands' protocols are tested; libpcap forgets those of the right one, so that there
// "ip[0] + tcp[0] > 0" also reads bytes of UDP.
func (g *gen) operation(x *operation, need *[]Node) (value, error) {
	l, err := g.arith(x.l, need)
	if err != nil {
		return nil, err
	}
	r, err := g.arith(x.r, need)
	if err != nil {
		return nil, err
	}
	op := x.op[0] // "<<" and ">>" are told by their first byte
	k, isConst := r.(imm)
	switch {
	case (op == '/' || op == '%') && isConst && k == 0:
		return nil, fail(x, "division by zero")
	case (op == '<' || op == '>') && isConst && k > 31:
		return nil, fail(x, "shift by more than 31 bits")
	}
	if a, ok := l.(imm); ok && isConst {
		return imm(arithmetic(op, uint32(a), uint32(k))), nil
	}
	return calc{op, l, r}, nil
}

// index is proto[off:size].
func (g *gen) index(x *index, need *[]Node) (value, error) {
	off, err := g.arith(x.off, need)
	if err != nil {
		return nil, err
	}
	var base place
	switch p := x.proto; p {
	case protoLink:
		base = g.header
	case protoRadio:
		if !g.wlan || g.link == frame.LinkWLAN {
			return nil, fail(x, "radio headers are known before 802.11 alone")
		}
	case protoIP, protoARP, protoRARP, protoATalk, protoDECnet, protoLAT, protoSCA, protoMOPDL, protoMOPRC, protoIPv6:
		*need = append(*need, g.protocol(p))
		base = g.net
	case protoTCP, protoUDP, protoSCTP, protoICMP, protoIGMP, protoIGRP, protoPIM, protoVRRP, protoCARP:
		*need = append(*need, g.ipProto(transport[p]), g.unfragmented())
		base = g.transport4()
	case protoICMPv6:
		*need = append(*need, g.ethertype(typeIPv6), equal(at(g.net, 6, 1), ipICMPv6)) // not behind a fragment header, where it is elsewhere
		base = g.transport6()
	default:
		return nil, fail(x, "unsupported index operation on %s", protoName(p))
	}
	if k, ok := off.(imm); ok && uint64(base.k)+uint64(k) < 1<<31 {
		return load{int(x.size), base.k + int(k), base.off}, nil
	}
	return load{int(x.size), base.k, plus(base.off, off)}, nil
}

// other is a keyword with its own arguments.
func (g *gen) other(x *other) (Node, error) {
	switch x.word {
	case "less":
		return negate(cmp{'>', length{}, imm(x.num[0])}), nil
	case "greater":
		return cmp{'g', length{}, imm(x.num[0])}, nil
	case "byte":
		return g.byteTest(x)
	case "broadcast":
		return g.broadcast(x)
	case "multicast":
		return g.multicast(x)
	case "inbound", "outbound":
		return g.direction(x)
	case "ifindex":
		if g.link == frame.LinkSLL2 {
			return equal(load{4, 4, nil}, x.num[0]), nil
		}
		return nil, fail(x, "ifindex is known only in Linux cooked frames, version 2")
	case "vlan":
		return g.vlan(x)
	case "mpls":
		return g.mplsLabel(x)
	case "pppoed":
		return g.ethertype(typePPPoED), nil
	case "pppoes":
		return g.pppoes(x)
	case "vxlan", "geneve":
		return g.overlay(x)
	case "llc":
		return g.llcTest(x)
	case "vntag", "etag":
		return g.tag(x)
	case "gre":
		return g.gre(x)
	case "erspan":
		return g.erspan(x)
	case "nsh":
		return or(g.ethertype(typeNSH), g.vxlanGPE()), nil
	case "payload":
		return g.payload(x)
	case "type", "subtype":
		return g.wlanType(x)
	case "dir", "direction":
		return g.wlanDir(x)
	}
	switch {
	case slices.Contains(numberFields, x.word):
		return g.numericTest(x)
	case slices.Contains(units, x.word):
		return g.unit(x)
	case slices.Contains(named, x.word):
		return g.pf(x)
	}
	return nil, fail(x, "%s is not known", x.word)
}

func (g *gen) byteTest(x *other) (Node, error) {
	if x.num[0] > 1<<30 {
		return nil, fail(x.nums[0], "byte %d is beyond any frame", x.num[0])
	}
	v := at(g.header, int(x.num[0]), 1)
	if x.num[1] > 255 {
		return nil, fail(x.nums[1], "byte argument %d greater than maximum 255", x.num[1])
	}
	k := imm(x.num[1])
	switch x.args[0].text {
	case "=", "==":
		return cmp{'=', v, k}, nil
	case "<":
		return negate(cmp{'g', v, k}), nil
	case ">":
		return cmp{'>', v, k}, nil
	case "&":
		return cmp{'&', v, k}, nil
	}
	return cmp{'!', calc{'|', v, k}, imm(0)}, nil
}

func (g *gen) broadcast(x *other) (Node, error) {
	switch x.q.proto {
	case protoDefault, protoLink:
		all := func(off int) Node { return g.mac(off, [6]byte{255, 255, 255, 255, 255, 255}) }
		switch {
		case g.layer.addr8 && !g.tunnel:
			return equal(at(g.header, g.dst, 1), g.layer.everyone), nil
		case g.wlan:
			return g.wlanAddr(dirDst, all), nil
		case !g.ether:
			return nil, fail(x, "not a broadcast link")
		}
		return all(g.dst), nil
	case protoIP:
		if !g.opt.Netmask.IsValid() {
			return nil, fail(x, "netmask not known, so 'ip broadcast' not supported")
		}
		host := ^prefix(g.opt.Netmask.Bits())
		v := masked(at(g.net, 16, 4), host)
		return and(g.ethertype(typeIPv4), or(equal(v, 0), equal(v, host))), nil
	}
	return nil, fail(x, "only link-layer and IP broadcasts are known")
}

func (g *gen) multicast(x *other) (Node, error) {
	switch x.q.proto {
	case protoDefault, protoLink:
		group := func(off int) Node { return cmp{'&', at(g.header, off, 1), imm(1)} }
		switch {
		case g.layer.addr8 && !g.tunnel:
			return equal(at(g.header, g.dst, 1), g.layer.everyone), nil
		case g.wlan:
			return g.wlanAddr(dirDst, group), nil
		case !g.ether:
			return nil, fail(x, "link-layer multicasts are known on Ethernet and its kin only")
		}
		return group(g.dst), nil
	case protoIP:
		return and(g.ethertype(typeIPv4), equal(masked(at(g.net, 16, 1), 0xf0), 0xe0)), nil
	case protoIPv6:
		return and(g.ethertype(typeIPv6), equal(at(g.net, 24, 1), 255)), nil
	}
	return nil, fail(x, "only link-layer, IP and IPv6 multicasts are known")
}

// direction tests which way a frame went: by the packet type of cooked frames, otherwise as the capture says.
func (g *gen) direction(x *other) (Node, error) {
	out, in := g.wentOut()
	if x.word == "inbound" {
		return in, nil
	}
	return out, nil
}

// vlan tests for a tag, and moves behind it.
func (g *gen) vlan(x *other) (Node, error) {
	if g.mpls > 0 {
		return nil, fail(x, "no VLAN match after MPLS")
	}
	if g.typed != byEther && g.typed != byCooked {
		return nil, fail(x, "'vlan' not supported on this link type")
	}
	n := or(equal(at(g.typ, 0, 2), typeVLAN), equal(at(g.typ, 0, 2), typeQinQ), equal(at(g.typ, 0, 2), typeQinQ9))
	if len(x.num) > 0 {
		if x.num[0] > 4095 {
			return nil, fail(x.nums[0], "VLAN tag %d greater than maximum 4095", x.num[0])
		}
		n = and(n, equal(masked(at(g.net, 0, 2), 0xfff), x.num[0]))
	}
	g.shift(4)
	return n, nil
}

// shift moves the type field and the network header over a tag of n bytes.
func (g *gen) shift(n int) {
	if g.typed == byCooked { // the tag's own type field takes over
		g.typed = byEther
		g.typ = g.net.add(n - 2)
		g.net = g.net.add(n)
		return
	}
	g.typ, g.net = g.typ.add(n), g.net.add(n)
}

func (g *gen) mplsLabel(x *other) (Node, error) {
	var n Node
	switch {
	case g.mpls > 0:
		n = negate(g.bottom())
	case g.typed == byPPP:
		n = equal(at(g.typ, 0, 2), 0x281)
	case g.typed == byEther || g.typed == byCooked || g.typed == byGeneve || g.typed == byCiscoHDLC:
		n = g.ethertype(typeMPLS)
	default:
		return nil, fail(x, "no MPLS on this link type")
	}
	if len(x.num) > 0 {
		if x.num[0] > 1<<20-1 {
			return nil, fail(x.nums[0], "MPLS label %d greater than maximum 1048575", x.num[0])
		}
		n = and(n, equal(masked(at(g.net, 0, 4), 0xfffff000), x.num[0]<<12))
	}
	g.net = g.net.add(4)
	g.typed = byMPLS
	g.mpls++
	return n, nil
}

func (g *gen) pppoes(x *other) (Node, error) {
	n := g.ethertype(typePPPoES)
	if len(x.num) > 0 {
		if x.num[0] > 65535 {
			return nil, fail(x.nums[0], "PPPoE session number %d greater than maximum 65535", x.num[0])
		}
		n = and(n, equal(at(g.net, 2, 2), x.num[0]))
	}
	g.header, g.typ, g.net, g.typed, g.ether = g.net.add(6), g.net.add(6), g.net.add(8), byPPP, false
	return n, nil
}
