package filter

import "net/netip"

// etherHost tests the addresses of an Ethernet header; of a cooked frame only the source is there.
func (g *gen) etherHost(x *primitive, mac [6]byte) (Node, error) {
	if !g.ether {
		return nil, fail(x, "this link type has no Ethernet addresses")
	}
	test := func(off int) Node { return g.mac(off, mac) }
	if g.wlan {
		return g.wlanAddr(x.q.dir, test), nil
	}
	return directed(x.q.dir, func() Node { return test(g.src) }, func() Node { return test(g.dst) }), nil
}

// host8 tests the one-byte addresses of ARCNET and BACnet MS/TP.
func (g *gen) host8(x *primitive) (Node, error) {
	if !g.layer.addr8 || x.q.proto != protoLink {
		return nil, fail(x, "%s is no address of this link type", x.id.text)
	}
	one := func(off int) func() Node {
		return func() Node { return equal(at(g.header, off, 1), x.id.num) }
	}
	return directed(x.q.dir, one(g.src), one(g.dst)), nil
}

func (g *gen) mac(off int, m [6]byte) Node {
	low := uint32(m[2])<<24 | uint32(m[3])<<16 | uint32(m[4])<<8 | uint32(m[5])
	return and(equal(at(g.header, off+2, 4), low), equal(at(g.header, off, 2), uint32(m[0])<<8|uint32(m[1])))
}

// hostQualifier reports an error for protocols that have no hosts.
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
			return 0, 0, fail(x.to, "mask length must be <= 32")
		}
		mask = prefix(int(x.to.num))
	default:
		m, _, err := dotted(x.to.text)
		if err != nil {
			return 0, 0, fail(x.to, "%s", err)
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
			return nil, fail(x.to, "mask length must be <= 128")
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
			return nil, fail(x, "unknown ether host %q: %v", x.id.text, err)
		}
		return g.etherHost(x, mac)
	}
	addrs, err := g.opt.Resolver.Host(x.id.text)
	if err != nil {
		return nil, fail(x, "unknown host %q: %v", x.id.text, err)
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
	if err != nil {
		return nil, fail(x, "unknown network %q: %v", x.id.text, err)
	}
	if !isV4(p.Addr()) {
		return nil, fail(x, "network %q is %s: networks have IPv4 addresses here", x.id.text, p)
	}
	mask := prefix(p.Bits())
	return g.host4(x.q.proto, v4Number(p.Addr())&mask, mask, x.q.dir), nil
}
