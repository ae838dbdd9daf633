package filter

import (
	"fmt"
	"iter"
	"slices"

	"crosstap/internal/frame"
	"crosstap/internal/nearest"
)

// place is an offset in the frame: a constant and a part known only when the frame is there.
type place struct {
	k   int
	off value // nil for none
}

func (p place) add(n int) place { return place{p.k + n, p.off} }

// gen walks an expression from left to right and makes tests. As in libpcap, "vlan", "mpls", "pppoes", "vxlan" and "geneve" move
// the offsets for everything to their right, whatever the operators between.
type gen struct {
	link   frame.LinkType
	opt    Options
	header place // the present link-layer header
	ether  bool  // it has Ethernet addresses
	typ    place // the field that names the network protocol
	typed  typeOf
	net    place // the network header
	mpls   int   // labels seen
	tunnel bool  // vxlan or geneve was seen
	slots  int

	layer    linkLayer
	wlan     bool   // the link-layer header is 802.11's
	dst, src int    // of its addresses, in the header
	present  Node   // that the link layer carries a packet at all, nil when it always does
	before   []Node // stores that the rest may need, in their order
}

// typeOf says how the network protocol is named.
type typeOf uint8

const (
	byEther      typeOf = iota // Ethernet type or 802.3 length
	byCooked                   // Linux cooked: Ethernet type with its own codes for LLC
	byFamily                   // BSD loopback: address family
	byVersion                  // raw IP: the version nibble
	byIPv4Link                 // always IPv4
	byIPv6Link                 // always IPv6
	byPPP                      // PPP protocol number
	byMPLS                     // unknown behind the label stack
	byGeneve                   // Ethernet type with a link header only for transparent Ethernet bridging
	byLLC                      // LLC, and SNAP behind it
	byType                     // Ethernet type without lengths
	byCiscoHDLC                // Ethernet type, with a number of its own for ISO
	byARCNET                   // ARCNET's numbers
	byFrameRelay               // UI and NLPID
	byFirstByte                // the version nibble where the frame begins
	byPFLOG                    // address family
	byIPNET                    // address family
	byLocalTalk                // always AppleTalk
	byNothing                  // never a network protocol
)

func generate(x expr, link frame.LinkType, opt Options) (Node, error) {
	layer, ok := linkLayers[link]
	if !ok {
		return nil, &Error{Message: fmt.Sprintf("no filter can be compiled for link type %d", link)}
	}
	g := &gen{link: link, layer: layer, opt: opt}
	g.begin(layer)
	if x == nil {
		return yes(true), nil
	}
	n, err := g.expr(x)
	if err != nil {
		return nil, err
	}
	if n == yes(false) && !opt.Never {
		return nil, &Error{Len: 1, Message: "expression rejects all packets", Suggestion: "its parts exclude each other for this link type"}
	}
	return g.prologue(n), nil
}

func fail(at interface{ at() (int, int) }, format string, args ...any) error {
	pos, n := at.at()
	return &Error{Pos: pos, Len: n, Message: fmt.Sprintf(format, args...)}
}

// unknown is the error for a name that is none of those there are.
func unknown(at interface{ at() (int, int) }, what, name string, names iter.Seq[string]) error {
	pos, n := at.at()
	return &Error{Pos: pos, Len: n, Message: fmt.Sprintf("unknown %s %q", what, name), Suggestion: nearest.Hint(name, slices.Sorted(names), "give its number")}
}

func (g *gen) expr(x expr) (Node, error) {
	switch x := x.(type) {
	case *logical:
		l, err := g.expr(x.l)
		if err != nil {
			return nil, err
		}
		r, err := g.expr(x.r)
		if err != nil {
			return nil, err
		}
		if x.and {
			return and(l, r), nil
		}
		return or(l, r), nil
	case *negation:
		n, err := g.expr(x.x)
		if err != nil {
			return nil, err
		}
		return negate(n), nil
	case *bare:
		return g.bare(x)
	case *primitive:
		return g.primitive(x)
	case *relation:
		return g.relation(x)
	case *other:
		return g.other(x)
	case *level:
		return g.level(x)
	}
	return nil, fmt.Errorf("filter: unknown expression %T", x)
}

// at loads size bytes at p + n.
func at(p place, n, size int) load { return load{size, p.k + n, p.off} }

// ethertype tests that the frame carries the protocol with that Ethernet type, or below 1536 that LLC service access point.
func (g *gen) ethertype(v uint32) Node {
	switch g.typed {
	case byEther:
		return and(g.present, g.etherOf(v))
	case byGeneve:
		return equal(at(g.typ, 0, 2), v)
	case byCooked:
		return g.cookedOf(v)
	case byFamily:
		return g.familyOf(v)
	case byVersion:
		switch v {
		case typeIPv4:
			return equal(masked(at(g.net, 0, 1), 0xf0), 0x40)
		case typeIPv6:
			return equal(masked(at(g.net, 0, 1), 0xf0), 0x60)
		}
	case byIPv4Link:
		return yes(v == typeIPv4)
	case byIPv6Link:
		return yes(v == typeIPv6)
	case byPPP:
		return g.pppOf(v)
	case byMPLS:
		// what follows a label stack is IPv4 or IPv6 by its first nibble
		switch v {
		case typeIPv4:
			return and(g.bottom(), equal(masked(at(g.net, 0, 1), 0xf0), 0x40))
		case typeIPv6:
			return and(g.bottom(), equal(masked(at(g.net, 0, 1), 0xf0), 0x60))
		}
	}
	return g.linkOf(v)
}

// bottom tests that the last label is the bottom of its stack (RFC 3032).
func (g *gen) bottom() Node {
	return cmp{'&', at(g.net, -2, 1), imm(1)}
}

func (g *gen) etherOf(v uint32) Node {
	is802 := negate(cmp{'>', at(g.typ, 0, 2), imm(maxLength)})
	llc := g.typ.add(2)
	switch v {
	case sapISO, sapNetBEUI, 0x06:
		return and(is802, equal(at(llc, 0, 2), v<<8|v))
	case sapIPX:
		sap := or(equal(at(llc, 0, 1), sapIPX), equal(at(llc, 0, 2), 0xffff))
		snap := g.snap(0x000000, typeIPX)
		return or(and(is802, or(snap, sap)), equal(at(g.typ, 0, 2), typeIPX))
	case typeATalk:
		return or(and(is802, g.snap(0x080007, typeATalk)), equal(at(g.typ, 0, 2), v))
	case typeAARP:
		return or(and(is802, g.snap(0x000000, typeAARP)), equal(at(g.typ, 0, 2), v))
	}
	if v <= maxLength {
		return and(is802, equal(at(llc, 0, 1), v))
	}
	return equal(at(g.typ, 0, 2), v)
}

func (g *gen) snap(org, typ uint32) Node { return g.snapAt(g.typ.add(2), org, typ) }

// snapAt tests an LLC header for SNAP with that organization code and type (IEEE 802).
func (g *gen) snapAt(llc place, org, typ uint32) Node {
	return and(equal(at(llc, 0, 4), 0xaaaa0300|org>>16), equal(at(llc, 4, 4), org&0xffff<<16|typ))
}

func (g *gen) cookedOf(v uint32) Node {
	const isLLC, isRaw8023 = 4, 1
	llc := equal(at(g.typ, 0, 2), isLLC)
	switch v {
	case sapISO, sapNetBEUI, 0x06:
		return and(llc, equal(at(g.net, 0, 2), v<<8|v))
	case sapIPX:
		return or(and(llc, equal(at(g.net, 0, 1), sapIPX)), and(llc, g.cookedSNAP(0, typeIPX)), equal(at(g.typ, 0, 2), isRaw8023), equal(at(g.typ, 0, 2), typeIPX))
	case typeATalk:
		return or(and(llc, g.cookedSNAP(0x080007, typeATalk)), equal(at(g.typ, 0, 2), v))
	case typeAARP:
		return or(and(llc, g.cookedSNAP(0, typeAARP)), equal(at(g.typ, 0, 2), v))
	}
	if v <= maxLength {
		return and(llc, equal(at(g.net, 0, 1), v))
	}
	return equal(at(g.typ, 0, 2), v)
}

func (g *gen) cookedSNAP(org, typ uint32) Node {
	return and(equal(at(g.net, 0, 4), 0xaaaa0300|org>>16), equal(at(g.net, 4, 4), org&0xffff<<16|typ))
}

// familyOf tests the address family of a loopback header: in network order for OpenBSD; otherwise in the order of the
// machine that captured, which may be either. IPv6 has three numbers in the field.
func (g *gen) familyOf(v uint32) Node {
	var families []uint32
	switch v {
	case typeIPv4:
		families = []uint32{2}
	case typeIPv6:
		families = []uint32{24, 28, 30}
	}
	var out []Node
	for _, f := range families {
		out = append(out, equal(at(g.typ, 0, 4), f))
		if g.link == frame.LinkNull {
			out = append(out, equal(at(g.typ, 0, 4), f<<24))
		}
	}
	return or(out...)
}

func (g *gen) pppOf(v uint32) Node {
	numbers := map[uint32]uint32{typeIPv4: 0x21, typeIPv6: 0x57, typeDECnet: 0x27, typeATalk: 0x29, sapISO: 0x23, sapIPX: 0x2b, sapSTP: 0x31}
	if n, ok := numbers[v]; ok {
		v = n
	}
	return equal(at(g.typ, 0, 2), v)
}

// llc returns the place of the LLC header, present behind an 802.3 length or in a cooked frame.
func (g *gen) llc() place {
	switch g.typed {
	case byEther:
		return g.typ.add(2)
	case byLLC:
		return g.typ
	}
	return g.net
}

// iso returns the place of the network layer packet behind LLC.
func (g *gen) iso() place {
	if g.typed == byCiscoHDLC { // one byte of padding
		return g.net.add(1)
	}
	return g.llc().add(3)
}
