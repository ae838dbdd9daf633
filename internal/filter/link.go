package filter

import "crosstap/internal/frame"

// linkLayer says where a link-layer header has what. Offsets are from the start of the frame, or of the header that its
// pseudo header stands before.
type linkLayer struct {
	typed    typeOf
	typ, net int
	mac      bool // it has Ethernet addresses
	addr8    bool // it has addresses of one byte
	dst, src int
	everyone uint32 // the one-byte broadcast address
}

// linkLayers are the link types that filters are compiled for. Of those with LLC, typ is where LLC begins.
var linkLayers = map[frame.LinkType]linkLayer{
	frame.LinkEthernet:       {typed: byEther, typ: 12, net: 14, mac: true, src: 6},
	frame.LinkSLL:            {typed: byCooked, typ: 14, net: 16},
	frame.LinkSLL2:           {typed: byCooked, net: 20},
	frame.LinkNull:           {typed: byFamily, net: 4},
	frame.LinkLoop:           {typed: byFamily, net: 4},
	frame.LinkRaw:            {typed: byVersion},
	frame.LinkIPv4:           {typed: byIPv4Link},
	frame.LinkIPv6:           {typed: byIPv6Link},
	frame.LinkBroadcomTag:    {typed: byEther, typ: 16, net: 18, mac: true, src: 6},
	frame.LinkDSA:            {typed: byEther, typ: 16, net: 18, mac: true, src: 6},
	frame.LinkNetANALYZER:    {typed: byEther, typ: 16, net: 18, mac: true, dst: 4, src: 10},
	frame.LinkNetANALYZERRaw: {typed: byEther, typ: 24, net: 26, mac: true, dst: 12, src: 18},
	frame.LinkFDDI:           {typed: byLLC, typ: 13, net: 21, mac: true, dst: 1, src: 7},
	frame.LinkTokenRing:      {typed: byLLC, typ: 14, net: 22, mac: true, dst: 2, src: 8},
	frame.LinkIPOverFC:       {typed: byLLC, typ: 16, net: 24, mac: true, dst: 2, src: 10},
	frame.LinkATM:            {typed: byLLC, net: 8},
	frame.LinkATMCLIP:        {typed: byLLC, net: 8},
	frame.LinkSunATM:         {typed: byLLC, typ: 4, net: 12},
	frame.LinkWLAN:           {typed: byLLC, mac: true, dst: 4, src: 10},
	frame.LinkRadiotap:       {typed: byLLC, mac: true, dst: 4, src: 10},
	frame.LinkPrism:          {typed: byLLC, mac: true, dst: 4, src: 10},
	frame.LinkAVS:            {typed: byLLC, mac: true, dst: 4, src: 10},
	frame.LinkPPI:            {typed: byLLC, mac: true, dst: 4, src: 10},
	frame.LinkARCNET:         {typed: byARCNET, typ: 2, net: 6, addr8: true, dst: 1},
	frame.LinkARCNETLinux:    {typed: byARCNET, typ: 4, net: 8, addr8: true, dst: 1},
	frame.LinkMSTP:           {typed: byNothing, addr8: true, dst: 3, src: 4, everyone: 0xff},
	frame.LinkPPP:            {typed: byPPP, typ: 2, net: 4},
	frame.LinkPPPHDLC:        {typed: byPPP, typ: 2, net: 4},
	frame.LinkPPPD:           {typed: byPPP, typ: 2, net: 4},
	frame.LinkPPPEther:       {typed: byPPP, typ: 6, net: 8},
	frame.LinkCiscoHDLC:      {typed: byCiscoHDLC, typ: 2, net: 4},
	frame.LinkFrameRelay:     {typed: byFrameRelay, typ: 2},
	frame.LinkAppleIEEE1394:  {typed: byType, typ: 16, net: 18},
	frame.LinkSLIP:           {typed: byFirstByte, net: 16},
	frame.LinkSLIPBSDOS:      {typed: byFirstByte, net: 24},
	frame.LinkPFLOG:          {typed: byPFLOG},
	frame.LinkLocalTalk:      {typed: byLocalTalk},
	frame.LinkIPNET:          {typed: byIPNET, typ: 1, net: 24},
	frame.LinkMTP2:           {typed: byNothing},
	frame.LinkMTP2PseudoHdr:  {typed: byNothing},
	frame.LinkMTP3:           {typed: byNothing},
	frame.LinkJuniperMFR:     {typed: byNothing},
}

// begin puts the generator at the start of a frame.
func (g *gen) begin(l linkLayer) {
	g.typed, g.typ, g.net, g.ether, g.dst, g.src = l.typed, place{k: l.typ}, place{k: l.net}, l.mac, l.dst, l.src
	switch g.link {
	case frame.LinkWLAN, frame.LinkRadiotap, frame.LinkPrism, frame.LinkAVS, frame.LinkPPI:
		g.beginWLAN()
	case frame.LinkPFLOG: // a header of variable length, padded to words
		length, _ := g.scratch(1)
		g.before = append(g.before, set{int(length), calc{'&', calc{'+', load{1, 0, nil}, imm(3)}, imm(0xfffffffc)}})
		g.net = place{off: length}
	case frame.LinkSunATM:
		g.present = equal(masked(load{1, 0, nil}, 0xf), 2)
	}
}

// prologue returns the stores that a test needs before it.
func (g *gen) prologue(n Node) Node {
	used := slotsOf(n)
	var out []Node
	for i := len(g.before) - 1; i >= 0; i-- {
		if s := slotsOf(g.before[i]); s.written&used.read != 0 || s.written == 0 {
			out = append([]Node{g.before[i]}, out...)
			used.read |= s.read
		}
	}
	return and(append(out, n)...)
}

// slotUse is what a test does to scratch slots.
type slotUse struct{ read, written slots }

func slotsOf(n Node) (u slotUse) {
	add := func(x ...Node) {
		for _, c := range x {
			more := slotsOf(c)
			u.read, u.written = u.read|more.read, u.written|more.written
		}
	}
	switch n := n.(type) {
	case conj:
		add(n.x...)
	case disj:
		add(n.x...)
	case inv:
		add(n.x)
	case set:
		return slotUse{slotsIn(n.v), 1 << n.slot}
	case cmp:
		return slotUse{read: slotsIn(n.l) | slotsIn(n.r)}
	}
	return u
}

// llcOf tests the protocol of a frame that always has an LLC header.
func (g *gen) llcOf(v uint32) Node {
	llc := g.typ
	var n Node
	switch {
	case v == sapISO || v == sapNetBEUI || v == 0x06:
		n = equal(at(llc, 0, 2), v<<8|v)
	case v == typeATalk:
		n = g.snapAt(llc, 0x080007, v)
	case v <= maxLength:
		n = equal(at(llc, 0, 1), v)
	default:
		n = equal(at(llc, 6, 2), v)
	}
	return and(g.present, n)
}

// firstByteOf is libpcap's test for SLIP: the high half of the first byte of the frame.
func (g *gen) firstByteOf(v uint32) Node {
	switch v {
	case typeIPv4:
		return equal(masked(load{1, 0, nil}, 0xf0), 0x40)
	case typeIPv6:
		return equal(masked(load{1, 0, nil}, 0xf0), 0x60)
	}
	return yes(false)
}

// oneOf compares a field with the number that a protocol has in it.
func oneOf(field load, v uint32, numbers map[uint32][]uint32) Node {
	var out []Node
	for _, n := range numbers[v] {
		out = append(out, equal(field, n))
	}
	return or(out...)
}

// Numbers of the protocols in link layers with their own.
var (
	arcnetTypes      = map[uint32][]uint32{typeIPv4: {0xd4}, typeARP: {0xd5}, typeRARP: {0xd6}, typeIPv6: {0xc4}, typeATalk: {0xdd}} // RFC 1201
	frameRelayNLPIDs = map[uint32][]uint32{typeIPv4: {0x3cc}, typeIPv6: {0x38e}, sapISO: {0x381, 0x382, 0x383}}                      // UI and NLPID, RFC 2427
	pflogFamilies    = map[uint32][]uint32{typeIPv4: {2}, typeIPv6: {24, 28, 30, 10}}
	ipnetFamilies    = map[uint32][]uint32{typeIPv4: {2}, typeIPv6: {26}}
)

// linkOf tests the protocol in the link layers that name it in a field of their own.
func (g *gen) linkOf(v uint32) Node {
	switch g.typed {
	case byLLC:
		return g.llcOf(v)
	case byARCNET:
		return oneOf(at(g.typ, 0, 1), v, arcnetTypes)
	case byFrameRelay:
		return oneOf(at(g.typ, 0, 2), v, frameRelayNLPIDs)
	case byPFLOG:
		return oneOf(load{1, 1, nil}, v, pflogFamilies)
	case byIPNET:
		return oneOf(at(g.typ, 0, 1), v, ipnetFamilies)
	case byFirstByte:
		return g.firstByteOf(v)
	case byLocalTalk:
		return yes(v == typeATalk)
	case byType:
		return equal(at(g.typ, 0, 2), v)
	case byCiscoHDLC:
		if v == sapISO {
			v = sapISO<<8 | sapISO
		}
		return equal(at(g.typ, 0, 2), v)
	}
	return yes(false)
}

// wentOut tests that a frame was sent by the capturing side, as its link-layer header says; nil when that says nothing.
func (g *gen) wentOut() (out, in Node) {
	is := func(v value, k uint32) (Node, Node) { return equal(v, k), negate(equal(v, k)) }
	byteAt := func(k int) load { return load{1, k, nil} }
	switch g.link {
	case frame.LinkSLL:
		return is(load{2, 0, nil}, 4)
	case frame.LinkSLL2:
		return is(byteAt(10), 4)
	case frame.LinkSLIP, frame.LinkPPPD:
		return equal(byteAt(0), 1), equal(byteAt(0), 0)
	case frame.LinkPFLOG:
		return equal(byteAt(60), 2), equal(byteAt(60), 1)
	case frame.LinkIPNET:
		return equal(load{2, 2, nil}, 2), negate(equal(load{2, 2, nil}, 2))
	case frame.LinkJuniperMFR:
		return is(masked(byteAt(3), 1), 0)
	case frame.LinkBroadcomTag:
		return is(masked(byteAt(12), 0xe0), 0x20)
	case frame.LinkDSA:
		return is(masked(byteAt(12), 0xc0), 0x40)
	}
	return is(packetType{}, 4)
}
