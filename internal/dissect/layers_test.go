package dissect_test

import (
	"fmt"
	"strings"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

func octets(digits string) int { return len(strings.Join(strings.Fields(digits), "")) / 2 }

// v4, v6, udpTo and so on put a header before a payload, with the right length.
func v4(proto int, payload string) string { return ip4(proto, 20+octets(payload)) + payload }
func v6(next int, payload string) string  { return ip6(next, octets(payload)) + payload }
func udpTo(port int, payload string) string {
	return udp(port, 8+octets(payload)) + payload
}
func eth(etherType string, payload string) string {
	return "020000000004 020000000003 " + etherType + " " + payload
}
func pppoe(payload string) string {
	return fmt.Sprintf("11 00 0007 %04x ", octets(payload)) + payload
}

const (
	pad    = " 0000000000000000"
	erspan = "02000000000b 02000000000a 0800 "
)

// cases are frames for every kind of header, with the layers they must give: those that the corpus has few of. They also go
// through tshark.
var cases = []struct {
	name  string
	link  frame.LinkType
	frame string
	want  string
}{
	{"C-TAG in S-TAG", 1, eth("88a8", "6064 8100 0065 0800 "+v4(6, tcp80)), "ethernet@0+14 vlan@14+4 vlan@18+4 ip@22+20 tcp@42+20"},
	{"four tags", 1, eth("88a8", "0001 9100 0002 8100 0003 8100 0004 0800 "+v4(6, tcp80)),
		"ethernet@0+14 vlan@14+4 vlan@18+4 vlan@22+4 vlan@26+4 ip@30+20 tcp@50+20"},
	{"VN-Tag", 1, eth("8926", "8041 0002 8100 0064 0800 "+v4(6, tcp80)), "ethernet@0+14 vntag@14+6 vlan@20+4 ip@24+20 tcp@44+20"},
	{"E-TAG", 1, eth("893f", "e001 1abc 0000 8100 0064 0800 "+v4(6, tcp80)), "ethernet@0+14 etag@14+8 vlan@22+4 ip@26+20 tcp@46+20"},
	{"I-TAG", 1, eth("88e7", "00123456 "+eth("0800", v4(6, tcp80))), "ethernet@0+14 pbb@14+4 ethernet@18+14 ip@32+20 tcp@52+20"},
	{"SNAP", 1, eth("0030", "aaaa03 000000 0800 "+v4(6, tcp80)), "ethernet@0+14 llc@14+3 snap@17+5 ip@22+20 tcp@42+20"},
	{"spanning tree", 1, eth("0007", "424203 00000000 "+pad), "ethernet@0+14 llc@14+3"},
	{"labels", 1, eth("8847", "00010040 0001113f "+v6(17, dns)), "ethernet@0+14 mpls@14+4 mpls@18+4 ip6@22+40 udp@62+8"},
	{"pseudowire", 1, eth("8847", "003e813f 00000001 "+eth("0800", v4(6, tcp80))),
		"ethernet@0+14 mpls@14+4 pwcw@18+4 ethernet@22+14 ip@36+20 tcp@56+20"},
	{"pseudowire without control word", 1, eth("8847", "003e913f "+eth("0800", v4(6, tcp80))),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 ip@32+20 tcp@52+20"},
	{"pseudowire without control word, a tag", 1, eth("8847", "003e913f "+eth("8100", "0005 0800 "+v4(6, tcp80))),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 vlan@32+4 ip@36+20 tcp@56+20"},
	{"pseudowire without control word, ARP", 1, eth("8847", "003e913f "+eth("0806", "0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002")),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 arp@32+28"},
	{"pseudowire without control word, padded", 1, eth("8847", "003e913f "+eth("0800", v4(6, tcp80)+pad)),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 ip@32+20 tcp@52+20"},
	{"pseudowire, an address that begins with 4", 1, eth("8847", "003e913f 4cc000000004 020000000003 0800 "+v4(6, tcp80)),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 ip@32+20 tcp@52+20"},
	{"pseudowire, an address that begins with 6", 1, eth("8847", "003e913f 60c547000a04 020000000003 86dd "+v6(6, tcp80)),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 ip6@32+40 tcp@72+20"},
	{"pseudowire, an address that begins with 1", 1, eth("8847", "003e913f 10c547000004 020000000003 0800 "+v4(6, tcp80)),
		"ethernet@0+14 mpls@14+4 ethernet@18+14 ip@32+20 tcp@52+20"},
	{"PPPoE", 1, eth("8864", pppoe("0021 "+v4(17, dns))), "ethernet@0+14 pppoe@14+6 ppp@20+2 ip@22+20 udp@42+8"},
	{"PPPoE, IPv6", 1, eth("8864", pppoe("0057 "+v6(17, dns))), "ethernet@0+14 pppoe@14+6 ppp@20+2 ip6@22+40 udp@62+8"},
	{"NSH on Ethernet", 1, eth("894f", "0fc6 0103 000001 ff 00000000 00000000 00000000 00000000 "+eth("0800", v4(6, tcp80))),
		"ethernet@0+14 nsh@14+24 ethernet@38+14 ip@52+20 tcp@72+20"},
	{"NSH metadata 2", 1, eth("894f", "0fc3 0201 000001 ff 0001 01 00 "+v4(6, tcp80)), "ethernet@0+14 nsh@14+12 ip@26+20 tcp@46+20"},
	{"IPv4 in IPv4 in IPv6", 1, eth("86dd", v6(4, v4(4, v4(6, tcp80)))), "ethernet@0+14 ip6@14+40 ip@54+20 ip@74+20 tcp@94+20"},
	{"IPv6 in IPv4", 1, eth("0800", v4(41, v6(17, dns))), "ethernet@0+14 ip@14+20 ip6@34+40 udp@74+8"},
	{"extension headers", 1, eth("86dd", v6(0, "2b 00 0104 00000000 3c 00 0000 00000000 11 00 0104 00000000 "+dns)),
		"ethernet@0+14 ip6@14+40 hopopts@54+8 routing@62+8 dstopts@70+8 udp@78+8"},
	{"AH", 1, eth("0800", v4(51, "06 04 0000 00000001 00000002 000000000000000000000000 "+tcp80)), "ethernet@0+14 ip@14+20 ah@34+24 tcp@58+20"},
	{"ESP", 1, eth("86dd", v6(50, "00000001 00000002 0102030405060708")), "ethernet@0+14 ip6@14+40 esp@54+8"},
	{"UDP-Lite", 1, eth("0800", v4(136, "c001 0035 0008 0000 01020304")), "ethernet@0+14 ip@14+20 udplite@34+8"},
	{"SCTP", 1, eth("0800", v4(132, "c001 0e59 00000001 00000000 00030010 00000001 00010000 00000000")), "ethernet@0+14 ip@14+20 sctp@34+12"},
	{"GRE, all fields", 1, eth("0800", v4(47, "b000 0800 0000 0000 00001389 00000001 "+v4(6, tcp80))), "ethernet@0+14 ip@14+20 gre@34+16 ip@50+20 tcp@70+20"},
	{"GRE, source route", 1, eth("0800", v4(47, "4000 0800 0000 0000 0800 00 04 0a000003 0000 00 00 "+v4(6, tcp80))),
		"ethernet@0+14 ip@14+20 gre@34+20 ip@54+20 tcp@74+20"},
	{"GRE, PPTP", 1, eth("0800", v4(47, "3081 880b 0018 0001 00000001 00000002 ff03 0021 "+v4(17, dns))),
		"ethernet@0+14 ip@14+20 gre@34+16 ppp@50+4 ip@54+20 udp@74+8"},
	{"GRE, Ethernet", 1, eth("0800", v4(47, "2000 6558 00001389 "+eth("0800", v4(6, tcp80)))), "ethernet@0+14 ip@14+20 gre@34+8 ethernet@42+14 ip@56+20 tcp@76+20"},
	{"GRE, MPLS", 1, eth("0800", v4(47, "0000 8847 0001113f "+v4(6, tcp80))), "ethernet@0+14 ip@14+20 gre@34+4 mpls@38+4 ip@42+20 tcp@62+20"},
	{"ERSPAN I", 1, eth("0800", v4(47, "0000 88be "+erspan+v4(6, tcp80))), "ethernet@0+14 ip@14+20 gre@34+4 ethernet@38+14 ip@52+20 tcp@72+20"},
	{"ERSPAN II", 1, eth("0800", v4(47, "1000 88be 00000007 1064 3123 00000456 "+erspan+v4(6, tcp80))),
		"ethernet@0+14 ip@14+20 gre@34+8 erspan2@42+8 ethernet@50+14 ip@64+20 tcp@84+20"},
	{"ERSPAN III", 1, eth("0800", v4(47, "1000 22eb 00000007 2064 3123 00000456 0011 8152 "+erspan+v4(6, tcp80))),
		"ethernet@0+14 ip@14+20 gre@34+8 erspan3@42+12 ethernet@54+14 ip@68+20 tcp@88+20"},
	{"ERSPAN III, platform", 1, eth("0800", v4(47, "1000 22eb 00000007 2064 3123 00000456 0011 815b 14010002 00000003 "+erspan+v4(6, tcp80))),
		"ethernet@0+14 ip@14+20 gre@34+8 erspan3@42+20 ethernet@62+14 ip@76+20 tcp@96+20"},
	{"ERSPAN III, clock marker", 1, eth("0800", v4(47, "1000 22eb 00000007 2064 3123 00000456 0011 1c00 "+pad)), "ethernet@0+14 ip@14+20 gre@34+8 erspan3@42+12"},
	{"EtherIP", 1, eth("0800", v4(97, "3000 "+eth("0800", v4(6, tcp80)))), "ethernet@0+14 ip@14+20 etherip@34+2 ethernet@36+14 ip@50+20 tcp@70+20"},
	{"MPLS in IP", 1, eth("0800", v4(137, "0001113f "+v4(6, tcp80))), "ethernet@0+14 ip@14+20 mpls@34+4 ip@38+20 tcp@58+20"},
	{"Ethernet in IPv6", 1, eth("86dd", v6(143, eth("0800", v4(6, tcp80)))), "ethernet@0+14 ip6@14+40 ethernet@54+14 ip@68+20 tcp@88+20"},
	{"VXLAN over IPv6", 1, eth("86dd", v6(17, udpTo(4789, vxlan1+eth("0800", v4(6, tcp80))))),
		"ethernet@0+14 ip6@14+40 udp@54+8 vxlan@62+8 ethernet@70+14 ip@84+20 tcp@104+20"},
	{"VXLAN, port 8472", 1, eth("0800", v4(17, udpTo(8472, vxlan1+eth("0800", v4(6, tcp80))))),
		"ethernet@0+14 ip@14+20 udp@34+8 vxlan@42+8 ethernet@50+14 ip@64+20 tcp@84+20"},
	{"VXLAN, group policy", 1, eth("0800", v4(17, udpTo(4789, "8808 0123 001389 00 "+eth("0800", v4(6, tcp80))))),
		"ethernet@0+14 ip@14+20 udp@34+8 vxlan@42+8 ethernet@50+14 ip@64+20 tcp@84+20"},
	{"Geneve with options", 1, eth("0800", v4(17, udpTo(6081, "0300 6558 001389 00 0102 80 02 0000000100000002 "+eth("0800", v4(6, tcp80))))),
		"ethernet@0+14 ip@14+20 udp@34+8 geneve@42+20 ethernet@62+14 ip@76+20 tcp@96+20"},
	{"mirror behind a gateway load balancer", 1, eth("0800", v4(17, udpTo(6081, "0000 0800 000000 00 "+v4(17, udpTo(4789, vxlan1+eth("0800", v4(6, tcp80))))))),
		"ethernet@0+14 ip@14+20 udp@34+8 geneve@42+8 ip@50+20 udp@70+8 vxlan@78+8 ethernet@86+14 ip@100+20 tcp@120+20"},
	{"GTP-U with extension", 1, eth("0800", v4(17, udpTo(2152, "34 ff 0030 00000009 0000 00 85 01 100900 "+v4(6, tcp80)))),
		"ethernet@0+14 ip@14+20 udp@34+8 gtp@42+16 ip@58+20 tcp@78+20"},
	{"MPLS over UDP", 1, eth("0800", v4(17, udpTo(6635, "0001113f "+v4(6, tcp80)))), "ethernet@0+14 ip@14+20 udp@34+8 mpls@42+4 ip@46+20 tcp@66+20"},
	{"GRE over UDP", 1, eth("0800", v4(17, udpTo(4754, "0000 0800 "+v4(6, tcp80)))), "ethernet@0+14 ip@14+20 udp@34+8 gre@42+4 ip@46+20 tcp@66+20"},
	{"TZSP", 1, eth("0800", v4(17, udpTo(37008, "01 00 0001 00 29 02 0040 3c 06 020000000009 01 "+eth("0800", v4(6, tcp80))))),
		"ethernet@0+14 ip@14+20 udp@34+8 tzsp@42+18 ethernet@60+14 ip@74+20 tcp@94+20"},
	{"TZSP keepalive", 1, eth("0800", v4(17, udpTo(37008, "01 04 0000"))), "ethernet@0+14 ip@14+20 udp@34+8 tzsp@42+4"},
	{"cooked", 113, "0000 0001 0006 020000000001 0000 0800 " + v4(6, tcp80), "sll@0+16 ip@16+20 tcp@36+20"},
	{"cooked 2", 276, "86dd 0000 00000002 0001 00 06 020000000001 0000 " + v6(17, dns), "sll2@0+20 ip6@20+40 udp@60+8"},
	{"raw", 101, v6(17, dns), "ip6@0+40 udp@40+8"},
	{"loopback", 0, "02000000 " + v4(6, tcp80), "null@0+4 ip@4+20 tcp@24+20"},
	{"loopback, big endian", 108, "00000018 " + v6(6, tcp80), "null@0+4 ip6@4+40 tcp@44+20"},
}

func TestLayers(t *testing.T) {
	for _, c := range cases {
		p := runLink(t, c.link, c.frame)
		if got := stack(p); got != c.want {
			t.Errorf("%s: layers = %s\n\twant %s", c.name, got, c.want)
		}
		if p.Issues&^dissect.Unsupported != 0 {
			t.Errorf("%s: issues = %#x", c.name, p.Issues)
		}
	}
}

// TestSegments checks what an encapsulation says of the level inside it.
func TestSegments(t *testing.T) {
	f := func(name string, cfg dissect.Config, digits string, level int, seg flow.Segment, tunnel uint8, vlan uint16) {
		t.Helper()
		p, b := dirty(), bytesOf(t, digits)
		dissect.New(cfg).Dissect(p, frame.LinkEthernet, b, len(b))
		if p.NLevels != level+1 {
			t.Fatalf("%s: %d levels, want %d: %s", name, p.NLevels, level+1, stack(p))
		}
		got := p.Inner()
		if got.Segment != seg || got.TunnelType != tunnel || got.VLAN != vlan {
			t.Errorf("%s: segment, tunnel, VLAN = %s %d, %d, %d, want %s %d, %d, %d", name,
				got.Segment.Kind(), got.Segment.Number(), got.TunnelType, got.VLAN, seg.Kind(), seg.Number(), tunnel, vlan)
		}
	}
	var c dissect.Config
	inner := eth("0800", v4(6, tcp80))
	f("none", c, inner, 0, 0, 0, 0)
	f("vxlan", c, eth("0800", v4(17, udpTo(4789, vxlan1+inner))), 1, flow.NewSegment(flow.KindVXLAN, 5001), dissect.TunnelVXLAN, 0)
	f("gpe without VNI", c, eth("0800", v4(17, udpTo(4790, "04 000001 001389 00 "+v4(6, tcp80)))), 1, 0, dissect.TunnelVXLAN, 0)
	f("gpe", c, eth("0800", v4(17, udpTo(4790, "0c 000001 001389 00 "+v4(6, tcp80)))), 1, flow.NewSegment(flow.KindVXLAN, 5001), dissect.TunnelVXLAN, 0)
	f("geneve", c, eth("0800", v4(17, udpTo(6081, "0000 6558 001389 00 "+inner))), 1, flow.NewSegment(flow.KindGeneve, 5001), dissect.TunnelGeneve, 0)
	f("gre", c, eth("0800", v4(47, "0000 0800 "+v4(6, tcp80))), 1, 0, dissect.TunnelGRE, 0)
	f("gre key", c, eth("0800", v4(47, "2000 6558 00138907 "+inner)), 1, flow.NewSegment(flow.KindGRE, 0x138907), dissect.TunnelGRE, 0)
	f("nvgre", dissect.Config{NVGRE: true}, eth("0800", v4(47, "2000 6558 00138907 "+inner)), 1, flow.NewSegment(flow.KindNVGRE, 5001), dissect.TunnelGRE, 0)
	f("pptp call", c, eth("0800", v4(47, "2001 880b 0018 0001 0021 "+v4(17, dns))), 1, 0, dissect.TunnelGRE, 0)
	f("ip in ip", c, eth("0800", v4(4, v4(6, tcp80))), 1, 0, 0, 0)
	f("erspan II, tag taken off", c, eth("0800", v4(47, "1000 88be 00000007 1064 1123 00000456 "+inner)), 1, 0, dissect.TunnelGRE, 100)
	f("erspan II, tag kept", c, eth("0800", v4(47, "1000 88be 00000007 1064 1923 00000456 "+eth("8100", "0065 0800 "+v4(6, tcp80)))), 1, 0, dissect.TunnelGRE, 101)
	f("erspan II, no tag", c, eth("0800", v4(47, "1000 88be 00000007 1001 0123 00000456 "+inner)), 1, 0, dissect.TunnelGRE, 0)
	f("vxlan in vxlan", c, eth("0800", v4(17, udpTo(4789, vxlan1+eth("0800", v4(17, udpTo(8472, "08000000 000007 00 "+inner)))))),
		2, flow.NewSegment(flow.KindVXLAN, 7), dissect.TunnelVXLAN, 0)
	f("gre in vxlan", c, eth("0800", v4(17, udpTo(4789, vxlan1+eth("0800", v4(47, "0000 0800 "+v4(6, tcp80)))))), 2, 0, dissect.TunnelGRE, 0)
}

// TestNoGuess: a tunnel is read on its configured destination port and nowhere else.
func TestNoGuess(t *testing.T) {
	f := func(name string, cfg dissect.Config, port int, want string) {
		t.Helper()
		p, b := dirty(), bytesOf(t, eth("0800", v4(17, udpTo(port, vxlan1+eth("0800", v4(6, tcp80))))))
		dissect.New(cfg).Dissect(p, frame.LinkEthernet, b, len(b))
		if got := p.Layers[p.NLayers-1].Kind.String(); got != want {
			t.Errorf("%s: the last layer is %s, want %s", name, got, want)
		}
	}
	f("usual port", dissect.Config{}, 4789, "tcp")
	f("another port", dissect.Config{}, 4788, "udp")
	f("same low bits", dissect.Config{}, 4789+64, "udp")
	f("port 0", dissect.Config{}, 0, "udp")
	f("named port", dissect.Config{VXLANPorts: []uint16{4788, 48789}}, 48789, "tcp")
	f("usual port not named", dissect.Config{VXLANPorts: []uint16{4788}}, 4789, "udp")
	f("no port", dissect.Config{VXLANPorts: []uint16{}}, 4789, "udp")
	f("usual port of another", dissect.Config{VXLANPorts: []uint16{6081}}, 6081, "tcp")
}

func TestValidate(t *testing.T) {
	f := func(c dissect.Config, want string) {
		t.Helper()
		got := ""
		if err := c.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Validate = %q, want %q", got, want)
		}
	}
	f(dissect.Config{}, "")
	f(dissect.DefaultConfig(), "")
	f(dissect.Config{VXLANPorts: []uint16{4789, 4789}}, "")
	f(dissect.Config{VXLANPorts: []uint16{0}}, "dissect: vxlan port 0: ports are 1 to 65535")
	f(dissect.Config{VXLANPorts: []uint16{4789}, GenevePorts: []uint16{4789}}, "dissect: port 4789: named for vxlan and for geneve; keep one")
}
