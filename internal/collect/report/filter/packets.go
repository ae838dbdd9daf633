package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
)

// PacketOptions say where the packets of a selection shall be looked for.
type PacketOptions struct {
	// Inner: the packets are inside a tunnel, as on an uplink. Otherwise they are plain, as at a VM's port, and do not tell
	// their segment.
	Inner bool
	// Addrs gives the addresses of a virtual machine; nil when they are not known.
	Addrs func(vm string) []netip.Addr
}

// PacketFilter is a flow filter said in the language of packet filters. Its expression lets every packet of a matching
// conversation pass, both ways, and others too when something is unsaid.
type PacketFilter struct {
	Expr   string   `json:"expr"` // "" for every packet
	Unsaid []Unsaid `json:"unsaid"`
}

// Unsaid is a part of a flow filter that a packet filter does not ask.
type Unsaid struct {
	Pos  int    `json:"pos"` // in the flow filter, bytes
	Len  int    `json:"len"`
	Text string `json:"text"`
	Why  string `json:"why"`
}

// ToPacketFilter says the filter in the language of internal/filter, as far as packets can tell it.
func (e *Expr) ToPacketFilter(o PacketOptions) PacketFilter {
	out := PacketFilter{Unsaid: []Unsaid{}}
	if e.Empty() {
		return out
	}
	c := packets{PacketOptions: o, text: e.text}
	s := c.say(e.root)
	if e.OneEnd() && s.text != "" {
		back := packets{PacketOptions: o, text: e.text, back: true}
		if b := back.say(e.root); b.text == "" {
			s.text = ""
		} else if b.text != s.text {
			s.text = "(" + s.text + ") or (" + b.text + ")"
		}
	}
	out.Expr = s.text
	out.Unsaid = append(out.Unsaid, c.unsaid...)
	out.bothEnds(e)
	return out
}

// bothEnds tells what is asked of both ends since packets do not say which of them is the client.
func (f *PacketFilter) bothEnds(e *Expr) {
	walkNodes(e.root, func(n node) {
		pos, end := n.at()
		c, ok := n.(*compare)
		told := slices.ContainsFunc(f.Unsaid, func(u Unsaid) bool { return u.Pos <= pos && end <= u.Pos+u.Len || u.Text == e.text[pos:end] })
		if ok && c.field.OneEnd() && f.Expr != "" && !told {
			f.Unsaid = append(f.Unsaid, Unsaid{pos, end - pos, e.text[pos:end], whyEnds})
		}
	})
}

// packets says nodes as packet filters.
type packets struct {
	PacketOptions
	text   string
	back   bool // packets from the server to the client
	unsaid []Unsaid
}

// said is a condition that all packets of matching flows fulfil, "" for none; exact says that no others do.
type said struct {
	text  string
	exact bool
}

func (c *packets) say(n node) said {
	switch n := n.(type) {
	case *andNode:
		return c.all(n.terms, c.say)
	case *orNode:
		return c.any(n.terms, c.say)
	case *notNode:
		known := len(c.unsaid)
		if s := c.say(n.term); s.exact {
			return said{"not (" + s.text + ")", true}
		}
		c.unsaid = c.unsaid[:known]
		return c.deny(n, n.term)
	}
	s, why := c.leaf(n)
	if why != "" {
		c.unsay(n, why)
	}
	return s
}

// deny says the contrary of a node that cannot be said exactly: of its parts what can. whole is what unsaid names for a part alone.
func (c *packets) deny(whole, n node) said {
	part := func(n node) said { return c.deny(n, n) }
	switch n := n.(type) {
	case *andNode:
		return c.any(n.terms, part)
	case *orNode:
		return c.all(n.terms, part)
	case *notNode:
		return c.say(n.term)
	}
	s, why := c.leaf(n)
	switch {
	case s.exact:
		return said{"not (" + s.text + ")", true}
	case why == "":
		c.unsay(whole, "what it denies can be told only in part")
	default:
		c.unsay(n, why)
	}
	return said{}
}

func (c *packets) unsay(n node, why string) {
	pos, end := n.at()
	c.unsaid = append(c.unsaid, Unsaid{pos, end - pos, c.text[pos:end], why})
}

// all: what can be said of any of the terms.
func (c *packets) all(terms []node, say func(node) said) said {
	out := said{exact: true}
	var parts []string
	for _, t := range terms {
		s := say(t)
		out.exact = out.exact && s.exact
		if s.text != "" {
			parts = append(parts, "("+s.text+")")
		}
	}
	out.text = strings.Join(parts, " and ")
	return out
}

// any: all alternatives, or nothing when one of them cannot be said.
func (c *packets) any(terms []node, say func(node) said) said {
	out := said{exact: true}
	var parts []string
	for _, t := range terms {
		s := say(t)
		out.exact = out.exact && s.exact
		parts = append(parts, "("+s.text+")")
	}
	if slices.Contains(parts, "()") {
		return said{}
	}
	out.text = strings.Join(parts, " or ")
	return out
}

// Reasons for which something is unsaid.
const (
	whyFlow    = "holds of a whole flow, not of one packet"
	whyName    = "packets carry no names"
	whySegment = "a packet outside of its tunnel does not tell its segment"
	whyPlace   = "tells where a flow was seen, not what is in its packets"
	whyOrder   = "cannot be asked of one packet in that way"
	whyEnds    = "asked of both ends: a packet does not tell who opened the conversation"
)

func (c *packets) leaf(n node) (said, string) {
	switch n := n.(type) {
	case *family:
		return said{c.in(map[bool]string{false: "ip", true: "ip6"}[n.v6]), true}, ""
	case *present:
		return c.segments([]value{{lo: n.lo, hi: n.hi}}, flow.Segment(n.lo).Kind())
	case *compare:
		return c.compare(n)
	case *compareFields:
		return said{}, whyOrder
	case *newPair:
		return said{}, whyFlow
	}
	return said{}, whyOrder
}

// in puts a condition on the tenant's packet to where that is.
func (c *packets) in(expr string) string {
	if c.Inner {
		return "inner (" + expr + ")"
	}
	return expr
}

// end gives "src " or "dst " for a field of one end, "" for either.
func (c *packets) end(f *Field) string {
	if !f.OneEnd() {
		return ""
	}
	if strings.HasPrefix(f.Name, "src.") != c.back {
		return "src "
	}
	return "dst "
}

func (c *packets) compare(n *compare) (said, string) {
	f := n.field
	switch strings.TrimPrefix(strings.TrimPrefix(f.Name, "src."), "dst.") {
	case "ip":
		return c.each(n.values, func(v value) string { return c.in(c.end(f) + prefixWords(v.prefix)) })
	case "mac":
		if slices.ContainsFunc(n.values, func(v value) bool { return v.lo == 0 }) {
			return said{}, "a packet does not tell whether its Ethernet address was recorded"
		}
		return c.each(n.values, func(v value) string {
			return c.in("ether " + strings.TrimSpace(c.end(f)+"host") + " " + flow.MAC(v.lo).String())
		})
	case "vtep", "outer.ip":
		if !c.Inner {
			return said{}, "a packet outside of its tunnel does not tell the tunnel's ends"
		}
		return c.each(n.values, func(v value) string { return "outer (" + c.end(f) + prefixWords(v.prefix) + ")" })
	case "port":
		return c.ports(n)
	case "vni", "segment":
		return c.segments(n.values, flow.KindNone)
	case "vm":
		return c.machines(n)
	}
	return c.numbers(n)
}

// each joins what is said of each value.
func (c *packets) each(values []value, word func(value) string) (said, string) {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = word(v)
	}
	return said{strings.Join(parts, " or "), true}, ""
}

// prefixWords is "host A" or "net P".
func prefixWords(p netip.Prefix) string {
	if p.IsSingleIP() {
		return "host " + p.Addr().String()
	}
	return "net " + p.Masked().String()
}

// ports: a flow without ports has port 0, a packet without does not match.
func (c *packets) ports(n *compare) (said, string) {
	lo, hi := n.values[0].lo, n.values[0].hi
	switch n.op {
	case "<":
		lo, hi = 1, max(hi, 1)-1
	case "<=":
		lo = 1
	case ">":
		lo, hi = min(lo, max16-1)+1, max16
	case ">=":
		hi = max16
	case "=", "in":
		if slices.ContainsFunc(n.values, func(v value) bool { return v.lo == 0 }) {
			return said{}, "port 0 stands for packets without ports"
		}
		return c.each(n.values, func(v value) string { return c.in(c.end(n.field) + portWords(v.lo, v.hi)) })
	}
	switch {
	case lo == 0:
		return said{}, "port 0 stands for packets without ports"
	case lo > hi:
		return said{}, "no port is below that"
	}
	return said{c.in(c.end(n.field) + portWords(lo, hi)), true}, ""
}

func portWords(lo, hi uint64) string {
	if lo == hi {
		return "port " + strconv.FormatUint(lo, 10)
	}
	return fmt.Sprintf("portrange %d-%d", lo, hi)
}

// tunnelWords are the kinds of segment that have a word, and those that a number alone may mean.
var tunnelWords = []struct {
	kind flow.SegmentKind
	word string
	max  uint32
}{{flow.KindVXLAN, "vxlan", maxVNI}, {flow.KindGeneve, "geneve", maxVNI}, {flow.KindGRE, "gre", max32}}

func (c *packets) segments(values []value, kind flow.SegmentKind) (said, string) {
	if !c.Inner {
		return said{}, whySegment
	}
	var parts []string
	for _, v := range values {
		if v.lo == 0 || v.lo != v.hi && kind == flow.KindNone {
			return said{}, "a range of segments has no word in packet filters"
		}
		k, number := flow.Segment(v.lo).Kind(), " "+strconv.FormatUint(uint64(flow.Segment(v.lo).Number()), 10)
		if kind != flow.KindNone {
			number = ""
		}
		known := len(parts)
		for _, w := range tunnelWords {
			if (k == w.kind || k == flow.KindNone) && flow.Segment(v.lo).Number() <= w.max {
				parts = append(parts, "outer "+w.word+number)
			}
		}
		if len(parts) == known {
			return said{}, "segments of that kind have no word in packet filters"
		}
	}
	return said{strings.Join(parts, " or "), true}, ""
}

// machines: a name stands for the addresses it had, which another machine may have had too.
func (c *packets) machines(n *compare) (said, string) {
	if c.Addrs == nil || n.op != "=" && n.op != "in" {
		return said{}, whyName
	}
	var parts []string
	for _, v := range n.values {
		for _, a := range c.Addrs(v.text) {
			parts = append(parts, c.in(c.end(n.field)+"host "+a.String()))
		}
	}
	if len(parts) == 0 {
		return said{}, "no address is known of that machine"
	}
	return said{text: strings.Join(parts, " or ")}, ""
}

// numbers are fields whose values stand in each packet.
func (c *packets) numbers(n *compare) (said, string) {
	f := n.field
	word, ok := packetWords[f.Name]
	switch {
	case !ok && f.Level == Observation:
		return said{}, whyPlace
	case !ok && f.Kind == Text:
		return said{}, whyName
	case !ok:
		return said{}, whyFlow
	case f.Name == "ethertype" && slices.ContainsFunc(n.values, func(v value) bool { return v.lo < 0x600 }):
		return said{}, "types begin at 0x0600; less is a length"
	case n.op != "=" && n.op != "in" || slices.ContainsFunc(n.values, func(v value) bool { return v.hi-v.lo > 64 }):
		return said{}, whyOrder
	}
	return c.each(n.values, func(v value) string {
		var parts []string
		for x := v.lo; x <= v.hi; x++ {
			parts = append(parts, c.in(word(x)))
		}
		return strings.Join(parts, " or ")
	})
}

// packetWords say one value of a field.
var packetWords = map[string]func(uint64) string{
	"proto": func(n uint64) string {
		for _, name := range []string{"tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "esp", "ah", "pim", "vrrp"} {
			if protocols[name] == n {
				return name
			}
		}
		return fmt.Sprintf("ip proto %[1]d or ip6 proto %[1]d", n)
	},
	"ethertype": func(n uint64) string { return fmt.Sprintf("ether proto 0x%04x", n) },
	"icmp.type": func(n uint64) string { return fmt.Sprintf("icmp[0] = %[1]d or icmp6[0] = %[1]d", n) },
	"icmp.code": func(n uint64) string { return fmt.Sprintf("icmp[1] = %[1]d or icmp6[1] = %[1]d", n) },
	"tos":       func(n uint64) string { return fmt.Sprintf("ip[1] = %d or ip6[0:2] & 0xff0 = %d", n, n<<4) },
	"dscp":      func(n uint64) string { return fmt.Sprintf("ip[1] & 0xfc = %d or ip6[0:2] & 0xfc0 = %d", n<<2, n<<6) },
}
