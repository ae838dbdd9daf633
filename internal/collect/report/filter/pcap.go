package filter

import (
	"net/netip"
	"strings"

	"crosstap/internal/flow"
)

// protocols by name, as pcap filters and /etc/protocols call them.
var protocols = map[string]uint64{"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmp6": 58, "icmpv6": 58,
	"ospf": 89, "pim": 103, "vrrp": 112, "sctp": 132, "udplite": 136}

// services by name: the well-known ones of data centres.
var services = map[string]uint64{"ssh": 22, "telnet": 23, "smtp": 25, "dns": 53, "domain": 53, "dhcp": 67, "bootps": 67, "bootpc": 68, "http": 80,
	"kerberos": 88, "ntp": 123, "snmp": 161, "bgp": 179, "ldap": 389, "https": 443, "smb": 445, "syslog": 514, "ldaps": 636, "nfs": 2049,
	"iscsi": 3260, "mysql": 3306, "rdp": 3389, "vxlan": 4789, "postgres": 5432, "postgresql": 5432, "amqp": 5672, "vnc": 5900, "redis": 6379, "mongodb": 27017}

// bareProtocols stand alone, and before other pcap words as in "tcp port 80".
var bareProtocols = map[string]bool{"tcp": true, "udp": true, "icmp": true, "icmp6": true, "sctp": true, "ip": true, "ip6": true, "igmp": true, "esp": true}

// segmentWords: "vxlan" or "vxlan 5001".
var segmentWords = map[string]flow.SegmentKind{"vxlan": flow.KindVXLAN, "geneve": flow.KindGeneve, "gre": flow.KindGRE, "nvgre": flow.KindNVGRE}

// maxVNI is the greatest number of a segment in VXLAN, Geneve and NVGRE.
const maxVNI = 1<<24 - 1

// pcapNames are suggested beside fields.
var pcapNames = []string{"host", "net", "port", "portrange", "tcp", "udp", "icmp", "icmp6", "sctp", "ip", "ip6", "vxlan", "geneve", "gre", "nvgre", "src", "dst", history}

// pcapStarts reports whether a pcap primitive begins here. Some words are fields too: an operator
// after them decides.
func (p *parser) pcapStarts() bool {
	t := p.peek()
	if t.kind != tWord {
		return false
	}
	word := strings.ToLower(t.text)
	after := p.look(1)
	operator := after.operator()
	if after.is("not") && bareProtocols[word] {
		operator = p.look(2).is("in") || p.look(2).is("like")
	}
	switch {
	case operator:
		return false
	case bareProtocols[word], word == "net", word == "portrange", word == "src", word == "dst":
		return true
	case word == "host", word == "port":
		return after.kind == tWord || after.kind == tString || after.kind == tLeft
	case word == "vlan":
		return after.kind == tWord || after.kind == tString
	}
	_, ok := segmentWords[word]
	return ok
}

// pcap reads one pcap primitive.
func (p *parser) pcap() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	t := p.take()
	word := strings.ToLower(t.text)
	p.before = qualifier{}
	if bareProtocols[word] {
		return protocol(t), nil
	}
	if i := p.i - 2; i >= 0 && p.tokens[i].kind == tWord && bareProtocols[strings.ToLower(p.tokens[i].text)] {
		p.before.protocol = p.tokens[i]
	}
	switch word {
	case "src", "dst":
		return p.pcapEnd(t, word)
	case "vlan":
		return p.operand(t, "vlan")
	}
	if k, ok := segmentWords[word]; ok {
		return p.segmentWord(t, k)
	}
	return p.pcapType(t, word, "")
}

// protocol is a protocol that stands alone.
func protocol(t token) node {
	word := strings.ToLower(t.text)
	if word == "ip" || word == "ip6" {
		return &family{span{t.pos, t.end}, word == "ip6"}
	}
	n := protocols[word]
	return &compare{span{t.pos, t.end}, Lookup("proto"), "=", []value{{lo: n, hi: n}}}
}

// pcapEnd: src or dst, then host, net, port, portrange or an address.
func (p *parser) pcapEnd(t token, end string) (node, error) {
	next := p.peek()
	word := strings.ToLower(next.text)
	if next.kind == tWord && (word == "host" || word == "net" || word == "port" || word == "portrange") {
		p.take()
		return p.pcapType(t, word, end+".")
	}
	if next.kind == tWord {
		if _, err := parseAddr(next.text); err == nil {
			return p.operand(t, end+".ip")
		}
	}
	return nil, fail(t, "there is no field "+quote(end), notRecorded[end]+"; or the pcap words "+end+" host, "+end+" net, "+end+" port")
}

// qualifier is what stands before the operand of a pcap primitive.
type qualifier struct {
	protocol token  // a bare protocol
	word     string // host, net, port or portrange; "" if the last primitive was none of them
	end      string // "src.", "dst." or ""
}

// omission is where the words of a qualifier are left out, as the primitive before has them.
type omission struct {
	pos   int // in the expression, in bytes
	words string
}

// repeats reports whether an operand follows that has the qualifiers of the primitive before, as in "port 80 or 443" (pcap-filter(7)).
func (p *parser) repeats() bool {
	t := p.peek()
	if p.before.word == "" || t.kind != tWord && t.kind != tString || t.kind == tWord && (t.is("and") || t.is("or") || Lookup(t.text) != nil) {
		return false
	}
	return !p.look(1).operator()
}

// again reads an operand with the qualifiers of the primitive before.
func (p *parser) again() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	q, t := p.before, p.peek()
	words := strings.Replace(q.end, ".", " ", 1) + q.word + " "
	if q.protocol.text != "" {
		words = q.protocol.text + " " + words
	}
	p.omitted = append(p.omitted, omission{t.pos, words})
	n, err := p.pcapType(t, q.word, q.end)
	if err != nil || q.protocol.text == "" {
		return n, err
	}
	q.protocol.pos, q.protocol.end = t.pos, t.pos
	return &andNode{span{t.pos, p.end()}, []node{protocol(q.protocol), n}}, nil
}

// pcapType: host, net, port or portrange and its operand, or several in parentheses; end is "src.", "dst." or "".
func (p *parser) pcapType(t token, word, end string) (node, error) {
	p.before.word, p.before.end = word, end
	next := p.peek()
	if next.kind == tLeft {
		p.before.protocol = token{} // it holds for the whole parenthesis
		return p.parenthesis()
	}
	if next.kind != tWord && next.kind != tString {
		return nil, fail(next, "a value is expected after "+quote(word), "such as "+map[string]string{"host": "host 10.1.0.5", "net": "net 10.1.0.0/16",
			"port": "port 443", "portrange": "portrange 8000-8080"}[word])
	}
	switch word {
	case "host":
		if _, err := parseAddr(next.text); err != nil {
			return p.operand(t, end+"vm") // pcap resolves names; here a name is that of a VM
		}
		return p.operand(t, end+"ip")
	case "net":
		return p.network(t, end)
	}
	return p.operand(t, end+"port")
}

// network: a prefix, or the leading one to three numbers of an IPv4 network ("net 172.16.1" is 172.16.1.0/24).
func (p *parser) network(t token, end string) (node, error) {
	next := p.peek()
	if v, ok := leading(next.text); ok {
		p.take()
		return &compare{span{t.pos, p.end()}, Lookup(end + "ip"), "=", []value{{prefix: v}}}, nil
	}
	if _, err := parseAddr(next.text); err == nil && strings.Contains(next.text, "/") {
		return p.operand(t, end+"ip")
	} else if err == nil {
		return nil, fail(next, quote(next.text)+" is no network", "add the length of the prefix: "+next.text+"/24")
	}
	return nil, fail(next, quote(next.text)+" is no network", "such as 10.1.0.0/16")
}

// leading reads the first one to three numbers of an IPv4 address as a network of 8, 16 or 24 bits (pcap-filter(7), "net").
func leading(s string) (netip.Prefix, bool) {
	missing := 3 - strings.Count(s, ".")
	if missing < 1 {
		return netip.Prefix{}, false
	}
	a, err := netip.ParseAddr(s + strings.Repeat(".0", missing))
	if err != nil || !a.Is4() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, 32-8*missing), true
}

// operand reads the value of a field that a pcap word stands for.
func (p *parser) operand(t token, field string) (node, error) {
	f := Lookup(field)
	v, err := p.value(f)
	if err != nil {
		return nil, err
	}
	return &compare{span{t.pos, p.end()}, f, "=", []value{v}}, nil
}

// segmentWord: a kind of segment, perhaps with its number.
func (p *parser) segmentWord(t token, k flow.SegmentKind) (node, error) {
	f := Lookup("segment")
	next := p.peek()
	if next.kind != tWord || next.text == "" || next.text[0] < '0' || next.text[0] > '9' {
		return &present{span{t.pos, t.end}, f, uint64(flow.NewSegment(k, 0)), uint64(flow.NewSegment(k, max32))}, nil
	}
	p.take()
	of := Field{Name: t.text, Kind: VNI, Max: maxVNI}
	if k == flow.KindGRE {
		of.Max = max32
	}
	v, err := numberValue(next, &of, unit{})
	if err != nil {
		return nil, err
	}
	v.lo, v.hi = uint64(flow.NewSegment(k, uint32(v.lo))), uint64(flow.NewSegment(k, uint32(v.hi)))
	return &compare{span{t.pos, p.end()}, f, "=", []value{v}}, nil
}
