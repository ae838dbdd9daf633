package filter

import (
	"maps"
	"strings"
)

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
			first = portToken(half, x.id.pos)
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
	return g.portNumber(x, portToken(last, x.id.end-len(last)), protos)
}

// portToken makes a token of one half of a range, which stands at pos.
func portToken(s string, pos int) token {
	t, ok, err := number(s, 0)
	if !ok || err != nil || t.end != len(s) {
		t = token{kind: tokWord, text: s}
	}
	t.pos, t.end = pos, pos+len(s)
	return t
}

func (g *gen) portNumber(x *primitive, t token, protos *[]uint32) (uint32, error) {
	switch t.kind {
	case tokNumber:
		if t.num > 65535 {
			return 0, fail(t, "port number %d greater than maximum 65535", t.num)
		}
		return t.num, nil
	case tokWord:
		s, ok := services[strings.ToLower(t.text)]
		if !ok {
			return 0, unknown(t, "port", t.text, maps.Keys(services))
		}
		if x.q.proto == protoDefault && s.tcp != s.udp {
			*protos = []uint32{map[bool]uint32{true: ipTCP, false: ipUDP}[s.tcp]}
		}
		if x.q.proto == protoTCP && !s.tcp || x.q.proto == protoUDP && !s.udp {
			return 0, fail(t, "port %q is not %s", t.text, protoName(x.q.proto))
		}
		return uint32(s.port), nil
	}
	return 0, fail(t, "illegal port %q", t.text)
}
