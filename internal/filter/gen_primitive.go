package filter

import (
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// primitive is an identifier under its qualifiers.
func (g *gen) primitive(x *primitive) (Node, error) {
	if x.q.dir >= dirRA && (!g.wlan || x.q.proto != protoLink || x.q.kind > kindHost) {
		return nil, fail(x, "ra, ta and addr1 to addr4 are addresses of 802.11 frames; say wlan ra")
	}
	switch x.q.kind {
	case kindPort, kindPortRange:
		return g.port(x)
	case kindProto:
		return g.protoNumber(x)
	case kindProtoChain:
		return g.protoChain(x)
	case kindGateway:
		return g.gateway(x)
	}
	switch x.id.kind {
	case tokMAC:
		if x.q.proto != protoLink || x.q.kind == kindNet {
			return nil, fail(x, "Ethernet address used in non-ether expression; say ether host %s", x.id.text)
		}
		return g.etherHost(x, macOf(x.id.text))
	case tokAddr8:
		return g.host8(x)
	case tokIPv6:
		return g.ipv6(x)
	case tokIPv4, tokNumber:
		return g.ipv4(x)
	case tokWord:
		return g.name(x)
	}
	return nil, fail(x, "%q is no address of this link type", x.id.text)
}

func protoName(p proto) string {
	best := ""
	for w, q := range protoWords {
		if q == p && (best == "" || len(w) < len(best) || len(w) == len(best) && w < best) {
			best = w
		}
	}
	return best
}

// gateway tests for packets that a host forwards: its Ethernet address without its IP address.
func (g *gen) gateway(x *primitive) (Node, error) {
	if x.id.kind != tokWord {
		return nil, fail(x, "'gateway' is not a valid qualifier for %q; a host name must follow", x.id.text)
	}
	if g.tunnel {
		return nil, fail(x, "'gateway' cannot be used within VXLAN or Geneve")
	}
	if g.mpls > 0 {
		return nil, fail(x, "'gateway' cannot be used within MPLS")
	}
	switch x.q.proto {
	case protoDefault, protoIP, protoARP, protoRARP:
	default:
		return nil, fail(x, "'%s' modifier applied to gateway", protoName(x.q.proto))
	}
	if g.opt.Resolver == nil {
		return nil, fail(x, "unknown host %q; names are not resolved here", x.id.text)
	}
	mac, err1 := g.opt.Resolver.Ether(x.id.text)
	addrs, err2 := g.opt.Resolver.Host(x.id.text)
	if err1 != nil || err2 != nil || !slices.ContainsFunc(addrs, isV4) {
		return nil, fail(x, "unknown host %q: a gateway needs an Ethernet and an IPv4 address", x.id.text)
	}
	eth := *x
	eth.q = qual{protoLink, dirOr, kindHost}
	link, err := g.etherHost(&eth, mac)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, p := range []proto{protoIP, protoARP, protoRARP} {
		if x.q.proto == protoDefault || x.q.proto == p {
			out = append(out, g.elsewhere(p, addrs))
		}
	}
	return and(link, or(out...)), nil
}

// elsewhere tests for a packet of protocol p that is neither from nor to any of the addresses.
func (g *gen) elsewhere(p proto, addrs []netip.Addr) Node {
	n := []Node{g.ethertype(ethertypes[p])}
	src, dst := 14, 24
	if p == protoIP {
		src, dst = 12, 16
	}
	for _, a := range addrs {
		if isV4(a) {
			n = append(n, negate(hostAt(g.net, src, dst, v4Number(a), 0xffffffff, dirOr)))
		}
	}
	return and(n...)
}

// decnet tests DECnet addresses, area.node, in short and long headers with or without padding.
func (g *gen) decnet(x *primitive) (Node, error) {
	area, node, ok := strings.Cut(x.id.text, ".")
	a, n := atoi(area), atoi(node)
	if !ok || strings.Contains(node, ".") || a > 63 || n > 1023 {
		return nil, fail(x, "invalid DECnet address %q; an area up to 63, a dot and a node up to 1023", x.id.text)
	}
	addr := uint32(bits.ReverseBytes16(uint16(a<<10 | n)))
	p := g.net
	short := func(off int) Node { return and(equal(masked(at(p, 2, 1), 7), 2), equal(at(p, off, 2), addr)) }
	shortPad := func(off int) Node {
		return and(equal(masked(at(p, 2, 2), 0xff07), 0x8102), equal(at(p, off, 2), addr))
	}
	long := func(off int) Node { return and(equal(masked(at(p, 2, 1), 7), 6), equal(at(p, off, 2), addr)) }
	longPad := func(off int) Node {
		return and(equal(masked(at(p, 2, 2), 0xff07), 0x8106), equal(at(p, off, 2), addr))
	}
	src := func() Node { return or(short(5), shortPad(6), long(17), longPad(18)) }
	dst := func() Node {
		return or(equal(masked(at(p, 2, 4), 0x07ffff00), 2<<24|addr<<8), equal(masked(at(p, 2, 4), 0xff07ffff), 0x8102<<16|addr), long(9), longPad(10))
	}
	return and(g.ethertype(typeDECnet), directed(x.q.dir, src, dst)), nil
}

func atoi(s string) int {
	n := 0
	for _, c := range []byte(s) {
		n = min(n*10+int(c-'0'), 1<<20)
	}
	return n
}

// protoNumber is "proto N" under its qualifier.
func (g *gen) protoNumber(x *primitive) (Node, error) {
	switch x.q.proto {
	case protoLink:
		v, err := protoValue(x, etherNames, 65535, "link-layer protocol")
		if err != nil {
			return nil, err
		}
		if v > 255 && v <= maxLength && g.typed != byPPP {
			return nil, fail(x, "LLC DSAP %d greater than maximum 255", v)
		}
		return g.ethertype(v), nil
	case protoISO:
		v, err := protoValue(x, isoNames, 255, "ISO protocol")
		if err != nil {
			return nil, err
		}
		return g.isoProto(v), nil
	case protoISIS:
		v, err := protoValue(x, nil, 31, "IS-IS PDU type")
		if err != nil {
			return nil, err
		}
		return and(g.isoProto(0x83), equal(masked(at(g.iso(), 4, 1), 0x1f), v)), nil
	case protoDefault, protoIP, protoIPv6:
	default:
		return nil, fail(x, "'%s proto' is bogus", protoName(x.q.proto))
	}
	v, err := protoValue(x, ipNames, 255, "protocol number")
	if err != nil {
		return nil, err
	}
	switch x.q.proto {
	case protoIP:
		return g.ipProto(v), nil
	case protoIPv6:
		return g.ip6Proto(v), nil
	}
	return or(g.ip6Proto(v), g.ipProto(v)), nil
}

// protoValue reads a protocol by number or, escaped, by name.
func protoValue(x *primitive, names map[string]uint32, most uint32, what string) (uint32, error) {
	switch x.id.kind {
	case tokNumber:
		if x.by != "" {
			return 0, fail(x, "a protocol has no mask")
		}
		if x.id.num > most {
			return 0, fail(x, "%s %d greater than maximum %d", what, x.id.num, most)
		}
		return x.id.num, nil
	case tokWord:
		if v, ok := names[strings.ToLower(x.id.text)]; ok {
			return v, nil
		}
		return 0, unknown(x, what, x.id.text, maps.Keys(names))
	}
	return 0, fail(x, "'proto' qualifier applied to an address")
}
