package filter

import (
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// primitive is an identifier under its qualifiers.
func (g *gen) primitive(x *primitive) (Node, error) {
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
	case tokIPv6:
		return g.ipv6(x)
	case tokIPv4, tokNumber:
		return g.ipv4(x)
	case tokWord:
		return g.name(x)
	}
	return nil, fail(x, "%q is no address of this link type", x.id.text)
}

// etherHost tests the addresses of an Ethernet header; of a cooked frame only the source is there.
func (g *gen) etherHost(x *primitive, mac [6]byte) (Node, error) {
	if !g.ether {
		return nil, fail(x, "this link type has no Ethernet addresses")
	}
	one := func(off int) func() Node {
		return func() Node { return g.mac(off, mac) }
	}
	return directed(x.q.dir, one(6), one(0)), nil
}

func (g *gen) mac(off int, m [6]byte) Node {
	low := uint32(m[2])<<24 | uint32(m[3])<<16 | uint32(m[4])<<8 | uint32(m[5])
	return and(equal(at(g.header, off+2, 4), low), equal(at(g.header, off, 2), uint32(m[0])<<8|uint32(m[1])))
}

// qualifiable reports an error for protocols that have no hosts.
func (g *gen) hostQualifier(x *primitive, v6 bool) error {
	what := "host"
	if x.q.kind == kindNet {
		what = "net"
	}
	switch x.q.proto {
	case protoDefault:
		return nil
	case protoIP, protoARP, protoRARP:
		if !v6 {
			return nil
		}
	case protoIPv6:
		if v6 {
			return nil
		}
		return fail(x, "'ip6' modifier applied to an IPv4 %s", what)
	case protoLink:
		return fail(x, "illegal link-layer address %q; an Ethernet address is six bytes", x.id.text)
	}
	return fail(x, "'%s' modifier applied to %s", protoName(x.q.proto), what)
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

func (g *gen) ipv4(x *primitive) (Node, error) {
	if x.q.proto == protoDECnet {
		return g.decnet(x)
	}
	if err := g.hostQualifier(x, false); err != nil {
		return nil, err
	}
	addr, mask, err := network4(x)
	if err != nil {
		return nil, err
	}
	return g.host4(x.q.proto, addr, mask, x.q.dir), nil
}

// network4 reads an IPv4 address or network. A number is an address; behind "net" its leading zero bytes are not
// meant. Missing bytes of a dotted one are a shorter mask.
func network4(x *primitive) (addr, mask uint32, err error) {
	mask = 0xffffffff
	if x.id.kind == tokNumber && x.by == "" {
		addr = x.id.num
		if x.q.kind == kindNet {
			for addr != 0 && addr&0xff000000 == 0 {
				addr, mask = addr<<8, mask<<8
			}
		}
		return addr, mask, nil
	}
	if x.id.kind == tokNumber && x.by != "" {
		return 0, 0, fail(x, "a mask needs a dotted network such as 10.0.0.0/8")
	}
	addr, n, err := dotted(x.id.text)
	if err != nil {
		return 0, 0, fail(x, "%s", err)
	}
	switch x.by {
	case "":
		mask = prefix(n)
	case "/":
		if x.to.num > 32 {
			return 0, 0, fail(x, "mask length must be <= 32")
		}
		mask = prefix(int(x.to.num))
	default:
		m, _, err := dotted(x.to.text)
		if err != nil {
			return 0, 0, fail(x, "%s", err)
		}
		mask = m
	}
	if addr&^mask != 0 {
		return 0, 0, fail(x, "non-network bits set in %q", x.id.text)
	}
	return addr, mask, nil
}

func prefix(n int) uint32 {
	if n == 0 {
		return 0
	}
	return ^uint32(0) << (32 - n)
}

func (g *gen) ipv6(x *primitive) (Node, error) {
	if err := g.hostQualifier(x, true); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(x.id.text)
	if err != nil {
		return nil, fail(x, "invalid IPv6 address %q", x.id.text)
	}
	n := 128
	if x.by != "" {
		if x.by != "/" || x.to.num > 128 {
			return nil, fail(x, "mask length must be <= 128")
		}
		n = int(x.to.num)
	}
	if netip.PrefixFrom(a, n).Masked().Addr() != a {
		return nil, fail(x, "non-network bits set in %q", x.id.text)
	}
	addr, mask := words6(a, n)
	return g.host6(addr, mask, x.q.dir), nil
}

func words6(a netip.Addr, n int) (addr, mask [4]uint32) {
	b := a.As16()
	for i := range addr {
		addr[i] = uint32(b[4*i])<<24 | uint32(b[4*i+1])<<16 | uint32(b[4*i+2])<<8 | uint32(b[4*i+3])
		mask[i] = prefix(max(0, min(32, n-32*i)))
	}
	return addr, mask
}

func isV4(a netip.Addr) bool { return a.Unmap().Is4() }

func v4Number(a netip.Addr) uint32 {
	b := a.Unmap().As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// name resolves a host or a network.
func (g *gen) name(x *primitive) (Node, error) {
	if g.opt.Resolver == nil {
		return nil, fail(x, "unknown host %q; names are not resolved here, give an address", x.id.text)
	}
	if x.q.kind == kindNet {
		return g.netName(x)
	}
	if x.q.proto == protoLink {
		mac, err := g.opt.Resolver.Ether(x.id.text)
		if err != nil {
			return nil, fail(x, "unknown ether host %q", x.id.text)
		}
		return g.etherHost(x, mac)
	}
	addrs, err := g.opt.Resolver.Host(x.id.text)
	if err != nil {
		return nil, fail(x, "unknown host %q", x.id.text)
	}
	var out []Node
	for _, a := range addrs {
		v6 := !isV4(a)
		if v6 && x.q.proto != protoDefault && x.q.proto != protoIPv6 || !v6 && x.q.proto == protoIPv6 {
			continue
		}
		if err := g.hostQualifier(x, v6); err != nil {
			return nil, err
		}
		if v6 {
			w, m := words6(a, 128)
			out = append(out, g.host6(w, m, x.q.dir))
		} else {
			out = append(out, g.host4(x.q.proto, v4Number(a), 0xffffffff, x.q.dir))
		}
	}
	if out == nil {
		return nil, fail(x, "unknown host %q for this address family", x.id.text)
	}
	return or(out...), nil
}

func (g *gen) netName(x *primitive) (Node, error) {
	if err := g.hostQualifier(x, false); err != nil {
		return nil, err
	}
	p, err := g.opt.Resolver.Net(x.id.text)
	if err != nil || !isV4(p.Addr()) {
		return nil, fail(x, "unknown network %q", x.id.text)
	}
	mask := prefix(p.Bits())
	return g.host4(x.q.proto, v4Number(p.Addr())&mask, mask, x.q.dir), nil
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

// port tests ports by number, name or range.
func (g *gen) port(x *primitive) (Node, error) {
	protos := []uint32{ipTCP, ipUDP, ipSCTP}
	switch x.q.proto {
	case protoDefault:
	case protoTCP, protoUDP, protoSCTP:
		protos = []uint32{transport[x.q.proto]}
	default:
		return nil, fail(x, "illegal qualifier of 'port': %s has no ports", protoName(x.q.proto))
	}
	first := x.id
	if half, _, ok := strings.Cut(x.id.text, "-"); ok && x.q.kind == kindPortRange && x.id.kind == tokWord {
		if _, whole := services[strings.ToLower(x.id.text)]; !whole {
			first = portToken(half)
		}
	}
	lo, err := g.portNumber(x, first, &protos)
	if err != nil {
		return nil, err
	}
	hi := lo
	if x.q.kind == kindPortRange {
		if hi, err = g.rangeEnd(x, &lo, &protos); err != nil {
			return nil, err
		}
	}
	if lo > hi {
		lo, hi = hi, lo
	}
	return g.ports(protos, lo, hi, x.q.dir), nil
}

// rangeEnd reads the end of a port range; a range written in names arrives as one word.
func (g *gen) rangeEnd(x *primitive, lo *uint32, protos *[]uint32) (uint32, error) {
	if x.by != "" {
		return g.portNumber(x, x.to, protos)
	}
	_, last, ok := strings.Cut(x.id.text, "-")
	if _, whole := services[strings.ToLower(x.id.text)]; x.id.kind != tokWord || !ok || whole {
		return *lo, nil
	}
	return g.portNumber(x, portToken(last), protos)
}

// portToken makes a token of one half of a range.
func portToken(s string) token {
	if t, ok, err := number(s, 0); ok && err == nil && t.end == len(s) {
		return t
	}
	return token{kind: tokWord, text: s}
}

func (g *gen) portNumber(x *primitive, t token, protos *[]uint32) (uint32, error) {
	switch t.kind {
	case tokNumber:
		if t.num > 65535 {
			return 0, fail(x, "port number %d greater than maximum 65535", t.num)
		}
		return t.num, nil
	case tokWord:
		s, ok := services[strings.ToLower(t.text)]
		if !ok {
			return 0, fail(x, "unknown port %q; give its number", t.text)
		}
		if x.q.proto == protoDefault && s.tcp != s.udp {
			*protos = []uint32{map[bool]uint32{true: ipTCP, false: ipUDP}[s.tcp]}
		}
		if x.q.proto == protoTCP && !s.tcp || x.q.proto == protoUDP && !s.udp {
			return 0, fail(x, "port %q is not %s", t.text, protoName(x.q.proto))
		}
		return uint32(s.port), nil
	}
	return 0, fail(x, "illegal port %q", t.text)
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
		return 0, fail(x, "unknown %s %q", what, x.id.text)
	}
	return 0, fail(x, "'proto' qualifier applied to an address")
}
