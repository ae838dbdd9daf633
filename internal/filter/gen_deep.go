package filter

import (
	"bytes"
	"fmt"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// The tests here look at the dissected frame, which no kernel program can do: they are the residual.

// level is "inner EXPR" or "outer EXPR": the expression on the innermost packet of a tunnel, or on the frame as it
// came, whatever has moved the offsets before.
func (g *gen) level(x *level) (Node, error) {
	opt := g.opt
	if opt.levels++; opt.levels > maxLevels {
		return nil, fail(x, "more than %d levels of inner and outer", maxLevels)
	}
	if !x.inner {
		return generate(x.x, g.link, opt)
	}
	ether, err := generate(x.x, frame.LinkEthernet, opt)
	if err != nil {
		return nil, err
	}
	raw, err := generate(x.x, frame.LinkRaw, opt)
	if err != nil { // a test of Ethernet alone has no meaning on a packet without
		raw = yes(false)
	}
	etherProgram, rawProgram := compile(ether), compile(raw)
	return deep{"inner", func(s *state) bool { return s.inner(opt.dissector, etherProgram, rawProgram) }}, nil
}

// maxLevels bounds nested "inner", each of which doubles the program.
const maxLevels = 4

// inner runs a test on the innermost packet; a frame without a tunnel does not match.
func (s *state) inner(d *dissect.Dissector, ether, raw *program) bool {
	p := s.dissect(d)
	if p.NLevels < 2 {
		return false
	}
	in, off, prog := p.Inner(), 0, raw
	for i := range p.NLayers {
		if l := p.Layers[i]; int(l.Level) == p.NLevels-1 {
			off = int(l.Off)
			if l.Kind == dissect.KindEthernet {
				prog = ether
			} else {
				off = int(in.NetOff)
			}
			break
		}
	}
	link := frame.LinkRaw
	if prog == ether {
		link = frame.LinkEthernet
	}
	return prog.run(link, s.data[off:], s.len-uint32(off), s.dir)
}

// dissect dissects the frame once. All tests of a filter have the same dissector.
func (s *state) dissect(d *dissect.Dissector) *dissect.Packet {
	if !s.dissected {
		d.Dissect(&s.packet, s.link, s.data, int(s.len))
		s.dissected = true
	}
	return &s.packet
}

// payload tests the bytes behind the innermost transport header.
func (g *gen) payload(x *other) (Node, error) {
	t, d := x.args[0], g.opt.dissector
	if t.kind == tokRegex {
		match, err := bytesRegex(t.text)
		if err != nil {
			return nil, &Error{Pos: t.pos, Len: t.end - t.pos, Message: "the regular expression is not right: " + err.Error()}
		}
		return deep{"payload regex", func(s *state) bool { b, ok := s.payload(d); return ok && match(s, b) }}, nil
	}
	want := []byte(t.text)
	if len(x.num) == 0 {
		return deep{"payload", func(s *state) bool { b, ok := s.payload(d); return ok && bytes.Contains(b, want) }}, nil
	}
	off := int(x.num[0])
	return deep{fmt.Sprintf("payload at %d", off), func(s *state) bool {
		b, ok := s.payload(d)
		return ok && len(b) >= off+len(want) && bytes.Equal(b[off:off+len(want)], want)
	}}, nil
}

func (s *state) payload(d *dissect.Dissector) ([]byte, bool) {
	off := int(s.dissect(d).Inner().PayloadOff)
	if off == 0 || off > len(s.data) {
		return nil, false
	}
	return s.data[off:], true
}

// protoChain follows the chain of IP headers to a protocol, as "protochain" asks.
func (g *gen) protoChain(x *primitive) (Node, error) {
	if g.tunnel {
		return nil, fail(x, "'protochain' not supported with variable length headers")
	}
	v, err := protoValue(x, ipNames, 255, "protocol number")
	if err != nil {
		return nil, err
	}
	n4 := and(g.ethertype(typeIPv4), deep{"ip protochain", chain(g.net.k, false, uint8(v))})
	n6 := and(g.ethertype(typeIPv6), deep{"ip6 protochain", chain(g.net.k, true, uint8(v))})
	switch x.q.proto {
	case protoIP:
		return n4, nil
	case protoIPv6:
		return n6, nil
	case protoDefault:
		if g.typed == byVersion {
			return or(n4, n6), nil
		}
		return nil, fail(x, "protochain alone is not supported on this link type; say ip protochain or ip6 protochain")
	}
	return nil, fail(x, "bad protocol applied for 'protochain'")
}

// chain returns a test that walks from the IP header at net.
func chain(net int, v6 bool, want uint8) func(*state) bool {
	return func(s *state) bool {
		var next, off uint32
		if v6 {
			next, off = s.load(1, uint32(net)+6), 40
		} else {
			next, off = s.load(1, uint32(net)+9), 4*(s.load(1, uint32(net))&0xf)
		}
		for hops := 0; !s.short && hops < 64; hops++ {
			if next == uint32(want) {
				return true
			}
			at := uint32(net) + off
			switch {
			case v6 && (next == 0 || next == 43 || next == 44 || next == 60):
				next, off = s.load(1, at), off+8*(s.load(1, at+1)+1)
			case next == ipAH:
				next, off = s.load(1, at), off+4*(s.load(1, at+1)+2)
			default:
				return false
			}
		}
		return false
	}
}
