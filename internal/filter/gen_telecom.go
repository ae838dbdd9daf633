package filter

import (
	"strings"

	"crosstap/internal/frame"
)

// numberFields are the fields that are compared as "vpi 10", "dpc != 3" or "sio (73 or 74)".
var numberFields = []string{"sio", "dpc", "opc", "sls", "hsio", "hdpc", "hopc", "hsls", "vpi", "vci"}

// units are the kinds of signal units and of ATM cells that have a word.
var units = []string{"fisu", "lssu", "lsu", "msu", "hfisu", "hlssu", "hlsu", "hmsu", "lane", "metac", "bcc", "oamf4sc", "oamf4ec", "oamf4", "oam",
	"sc", "ilmic", "connectmsg", "metaconnect"}

// named are the words with one name or number behind them.
var named = []string{"type", "subtype", "dir", "direction", "action", "reason", "rset", "ruleset", "ifname", "on", "rnr", "rulenum", "srnr", "subrulenum"}

// mtp returns where the parts of a signal unit begin (ITU-T Q.703, Q.704): those with the high-speed header
// three bytes later.
func (g *gen) mtp() (li, sio int, ok bool) {
	switch g.link {
	case frame.LinkMTP2:
		return 2, 3, true
	case frame.LinkMTP2PseudoHdr:
		return 6, 7, true
	case frame.LinkMTP3:
		return -1, 0, true
	}
	return 0, 0, false
}

// field describes a numeric field: its bytes, the most it can be, and how a number stands in it.
type field struct {
	v    value
	most uint32
	code func(uint32) uint32
}

func (g *gen) field(word string) (field, bool) {
	same := func(v uint32) uint32 { return v }
	switch word {
	case "vpi":
		return field{load{1, 1, nil}, 255, same}, g.link == frame.LinkSunATM
	case "vci":
		return field{load{2, 2, nil}, 65535, same}, g.link == frame.LinkSunATM
	}
	_, sio, ok := g.mtp()
	if fast := strings.TrimPrefix(word, "h"); fast != word {
		word, sio, ok = fast, sio+3, ok && g.link != frame.LinkMTP3
	}
	switch word {
	case "sio":
		return field{load{1, sio, nil}, 255, same}, ok
	case "dpc":
		return field{masked(load{2, sio + 1, nil}, 0xff3f), 16383, func(v uint32) uint32 { return v&0xff<<8 | v>>8 }}, ok
	case "opc":
		return field{masked(load{4, sio + 1, nil}, 0x00c0ff0f), 16383, func(v uint32) uint32 { return v&3<<22 | v&0x3fc<<6 | v>>10 }}, ok
	}
	return field{masked(load{1, sio + 4, nil}, 0xf0), 15, func(v uint32) uint32 { return v << 4 }}, ok
}

// numericTest compares a field; several numbers are alternatives.
func (g *gen) numericTest(x *other) (Node, error) {
	f, ok := g.field(x.word)
	if !ok {
		return nil, fail(x, "'%s' is not supported on this link type", x.word)
	}
	var out []Node
	for i, n := range x.num {
		if n > f.most {
			return nil, fail(x.nums[i], "%s %d greater than maximum %d", x.word, n, f.most)
		}
		out = append(out, compared(x.args[0].text, f.v, imm(f.code(n))))
	}
	return or(out...), nil
}

// unit tests for a kind of signal unit or ATM cell.
func (g *gen) unit(x *other) (Node, error) {
	if g.link == frame.LinkSunATM {
		if n := g.cell(x.word); n != nil {
			return n, nil
		}
	}
	li, _, ok := g.mtp()
	if !ok || li < 0 {
		return nil, fail(x, "'%s' is not supported on this link type", x.word)
	}
	v, two, word := masked(load{1, li, nil}, 0x3f), uint32(2), x.word
	if fast := strings.TrimPrefix(word, "h"); fast != word { // nine bits instead of six
		v, two, word = masked(load{2, li + 2, nil}, 0xff80), 2<<7, fast
	}
	switch word {
	case "fisu":
		return equal(v, 0), nil
	case "lssu", "lsu":
		return and(cmp{'>', v, imm(0)}, negate(cmp{'>', v, imm(two)})), nil
	case "msu":
		return cmp{'>', v, imm(two)}, nil
	}
	return nil, fail(x, "'%s' is not supported on this link type", x.word)
}

// Signalling messages (ITU-T Q.2931).
const (
	msgCallProceeding  = 0x02
	msgSetup           = 0x05
	msgConnect         = 0x07
	msgConnectAck      = 0x0f
	msgRelease         = 0x4d
	msgReleaseComplete = 0x5a
)

// cell tests for a kind of ATM cell in SunATM's framing; nil for another word.
func (g *gen) cell(word string) Node {
	channel := func(vci ...uint32) Node {
		var out []Node
		for _, v := range vci {
			out = append(out, equal(load{2, 2, nil}, v))
		}
		return and(equal(load{1, 1, nil}, 0), or(out...))
	}
	message := func(kinds ...uint32) Node {
		var out []Node
		for _, k := range kinds {
			out = append(out, equal(load{1, 9, nil}, k))
		}
		return or(out...)
	}
	switch word {
	case "lane":
		return g.lane()
	case "metac":
		return channel(1)
	case "bcc":
		return channel(2)
	case "oamf4sc":
		return channel(3)
	case "oamf4ec":
		return channel(4)
	case "oamf4", "oam":
		return channel(3, 4)
	case "sc":
		return channel(5)
	case "ilmic":
		return channel(16)
	case "connectmsg":
		return and(channel(5), message(msgSetup, msgCallProceeding, msgConnect, msgConnectAck, msgRelease, msgReleaseComplete))
	case "metaconnect":
		return and(channel(1), message(msgSetup, msgCallProceeding, msgConnect, msgRelease, msgReleaseComplete))
	}
	return nil
}

// lane tests for LAN emulation, and moves to the Ethernet frame in it.
func (g *gen) lane() Node {
	g.typed, g.header, g.typ, g.net = byEther, place{k: 6}, place{k: 18}, place{k: 20}
	g.ether, g.dst, g.src = true, 0, 6
	g.present = negate(equal(load{2, 4, nil}, 0xff00)) // not a control frame
	return equal(masked(load{1, 0, nil}, 0xf), 1)
}

// pfActions and pfReasons are the numbers of OpenBSD's and its descendants' pf.
var (
	pfActions = map[string]uint32{"pass": 0, "accept": 0, "drop": 1, "block": 1, "scrub": 2, "noscrub": 3, "nat": 4, "nonat": 5, "binat": 6, "nobinat": 7,
		"rdr": 8, "nordr": 9, "synproxy-drop": 10, "defer": 11, "dummynet": 11, "match": 12, "nodummynet": 12, "divert": 13, "nat64": 13, "rt": 14, "nonat64": 14, "afrt": 15}
	pfReasons = map[string]uint32{"match": 0, "bad-offset": 1, "fragment": 2, "short": 3, "normalize": 4, "memory": 5, "bad-timestamp": 6, "congestion": 7,
		"ip-option": 8, "proto-cksum": 9, "state-mismatch": 10, "state-insert": 11, "state-limit": 12, "src-limit": 13, "synproxy": 14,
		"map-failed": 15, "translate": 15, "dummynet": 15, "no-route": 16}
)

// pf tests the log header of pf.
func (g *gen) pf(x *other) (Node, error) {
	if g.link != frame.LinkPFLOG {
		return nil, fail(x, "'%s' is supported on PF logs alone", x.word)
	}
	arg := x.args[0]
	number := func(off, size int, names map[string]uint32) (Node, error) {
		v, ok := argument(arg, names)
		if !ok {
			return nil, fail(x, "unknown PF %s %q", x.word, arg.text)
		}
		return equal(load{size, off, nil}, v), nil
	}
	switch x.word {
	case "action":
		return number(2, 1, pfActions)
	case "reason":
		return number(3, 1, pfReasons)
	case "rnr", "rulenum":
		return number(36, 4, nil)
	case "srnr", "subrulenum":
		return number(40, 4, nil)
	case "rset", "ruleset":
		return g.textAt(x, 20, arg.text)
	}
	return g.textAt(x, 4, arg.text)
}

// textAt compares up to 15 bytes of text.
func (g *gen) textAt(x *other, off int, s string) (Node, error) {
	if len(s) > 15 {
		return nil, fail(x, "%q is longer than 15 bytes", s)
	}
	var out []Node
	for end := len(s); end > 0; {
		size := min(end, 4)
		if size == 3 {
			size = 2
		}
		var v uint32
		for _, c := range []byte(s[end-size : end]) {
			v = v<<8 | uint32(c)
		}
		end -= size
		out = append(out, equal(load{size, off + end, nil}, v))
	}
	return and(out...), nil
}
