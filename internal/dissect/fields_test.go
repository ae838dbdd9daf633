package dissect_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// field is something both sides say of a frame, outermost occurrence first.
type field struct {
	name   string
	ours   func(p *dissect.Packet, data []byte) []string
	theirs func(text string) []string
	same   func(got, want []string) bool // slices.Equal when nil
}

// tsharkNames are tshark's names of the layers.
var tsharkNames = map[dissect.Kind]string{
	dissect.KindNull: "null", dissect.KindSLL: "sll", dissect.KindSLL2: "sll", dissect.KindEthernet: "eth", dissect.KindLLC: "llc",
	dissect.KindVLAN: "vlan", dissect.KindVNTag: "vntag", dissect.KindETag: "etag", dissect.KindPBB: "ieee8021ah", dissect.KindMPLS: "mpls",
	dissect.KindPPPoE: "pppoe", dissect.KindPPP: "ppp", dissect.KindARP: "arp", dissect.KindIPv4: "ip",
	dissect.KindIPv6: "ipv6", dissect.KindHopByHop: "ipv6.hopopts", dissect.KindRouting: "ipv6.routing", dissect.KindFragment: "ipv6.fraghdr",
	dissect.KindDestOpts: "ipv6.dstopts", dissect.KindMobility: "mipv6", dissect.KindHIP: "hip", dissect.KindShim6: "shim6",
	dissect.KindAH: "ah", dissect.KindESP: "esp", dissect.KindTCP: "tcp", dissect.KindUDP: "udp", dissect.KindUDPLite: "udplite",
	dissect.KindDCCP: "dccp", dissect.KindSCTP: "sctp", dissect.KindICMP: "icmp", dissect.KindICMPv6: "icmpv6", dissect.KindGRE: "gre",
	dissect.KindERSPAN2: "erspan", dissect.KindERSPAN3: "erspan", dissect.KindEtherIP: "etherip", dissect.KindVXLAN: "vxlan",
	dissect.KindVXLANGPE: "vxlan", dissect.KindGeneve: "geneve", dissect.KindNSH: "nsh", dissect.KindGTPU: "gtp", dissect.KindTZSP: "tzsp",
}

// sameNames are other names that tshark has for a layer; "" leaves one out that is no header of its own.
var sameNames = map[string]string{
	"ieee8021ad": "vlan", "vxlan_gpe": "vxlan", "pppoes": "pppoe", "pppoed": "pppoe", "ethertype": "", "frame": "", "raw": "", "data": "",
	"pwethheuristic": "", "pwethnocw": "", "pwethcw": "",
}

func theirStack(text string) []string {
	var out []string
	for name := range strings.SplitSeq(text, ":") {
		if same, ok := sameNames[name]; ok {
			name = same
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

func ourStack(p *dissect.Packet, data []byte) []string {
	var out []string
	for i, l := range p.Layers[:p.NLayers] {
		name := tsharkNames[l.Kind]
		if i > 0 && p.Layers[i-1].Kind == dissect.KindPBB {
			continue // tshark has the customer's addresses as fields of the I-TAG
		}
		if h := wire.GRE(data[l.Off:]); l.Kind == dissect.KindGRE && h.Valid() && h.Protocol() == wire.TypeERSPAN && !h.HasSeq() {
			out = append(out, name) // tshark names type I too, which has no header
			name = "erspan"
		}
		if name == "" || name == "mpls" && len(out) > 0 && out[len(out)-1] == "mpls" { // tshark takes the label stack as one
			continue
		}
		out = append(out, name)
	}
	return out
}

// list splits the occurrences of a tshark field.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "|")
}

// numbers reads the occurrences as numbers in any base, so that 0x10 and 16 are the same.
func numbers(text string) []string {
	out := list(text)
	for i, s := range out {
		if n, err := strconv.ParseUint(s, 0, 64); err == nil {
			out[i] = strconv.FormatUint(n, 10)
		}
	}
	return out
}

// header makes a field of what get reads from each whole header of a kind.
func header[H ~[]byte](name string, get func(h H) any, kinds ...dissect.Kind) field {
	ours := func(p *dissect.Packet, data []byte) []string {
		var out []string
		for i, l := range p.Layers[:p.NLayers] {
			inTag := i > 0 && p.Layers[i-1].Kind == dissect.KindPBB
			if !slices.Contains(kinds, l.Kind) || inTag || i == p.NLayers-1 && cut(p) {
				continue
			}
			if v := get(data[l.Off : l.Off+l.Len]); v != nil {
				out = append(out, text(v))
			}
		}
		return out
	}
	return field{name: name, ours: ours, theirs: numbers}
}

// cut reports whether the last layer may not be whole.
func cut(p *dissect.Packet) bool { return p.Issues&(dissect.Truncated|dissect.Malformed) != 0 }

func text(v any) string {
	switch v := v.(type) {
	case []byte:
		if len(v) == 6 {
			return net.HardwareAddr(v).String()
		}
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	case bool:
		if v {
			return "1"
		}
		return "0"
	}
	return fmt.Sprint(v)
}

// level makes a field of what get says of each level that is used.
func level(name string, use func(f *dissect.Flow) bool, get func(f *dissect.Flow) any) field {
	ours := func(p *dissect.Packet, _ []byte) []string {
		var out []string
		for i := range p.NLevels {
			if f := &p.Levels[i]; use(f) {
				out = append(out, text(get(f)))
			}
		}
		return out
	}
	return field{name: name, ours: ours, theirs: numbers}
}

func is4(f *dissect.Flow) bool   { return f.HasIP && f.EtherType == wire.TypeIPv4 }
func is6(f *dissect.Flow) bool   { return f.HasIP && f.EtherType == wire.TypeIPv6 }
func isTCP(f *dissect.Flow) bool { return f.Proto == wire.ProtoTCP && f.TransOff != 0 }
func isUDP(f *dissect.Flow) bool {
	return (f.Proto == wire.ProtoUDP || f.Proto == wire.ProtoUDPLite) && f.TransOff != 0 // tshark has one name for both
}
func isSCTP(f *dissect.Flow) bool {
	return f.Proto == wire.ProtoSCTP && f.TransOff != 0
}
func isICMP(f *dissect.Flow) bool  { return f.Proto == wire.ProtoICMP && f.TransOff != 0 && is4(f) }
func isICMP6(f *dissect.Flow) bool { return f.Proto == wire.ProtoICMPv6 && f.TransOff != 0 && is6(f) }

// tpid returns what get says of tags that have (or have not) the 802.1ad EtherType before them.
func tpid(name string, service bool) field {
	ours := func(p *dissect.Packet, data []byte) []string {
		var out []string
		for i, l := range p.Layers[:p.NLayers] {
			if l.Kind != dissect.KindVLAN || l.Len < wire.VLANLen || i == p.NLayers-1 && cut(p) {
				continue
			}
			if s := l.Off > 1 && data[l.Off-2] == 0x88; s == service {
				out = append(out, text(wire.VLAN(data[l.Off:]).ID()))
			}
		}
		return out
	}
	return field{name: name, ours: ours, theirs: numbers}
}

var fields = []field{
	{name: "frame.protocols", ours: ourStack, theirs: theirStack},
	header("eth.dst", func(h wire.Ethernet) any { return h.Dst() }, dissect.KindEthernet),
	header("eth.src", func(h wire.Ethernet) any { return h.Src() }, dissect.KindEthernet),
	tpid("vlan.id", false),
	tpid("ieee8021ad.id", true),
	header("vntag.dst", func(h wire.VNTag) any { return h.DstVIF() }, dissect.KindVNTag),
	header("vntag.src", func(h wire.VNTag) any { return h.SrcVIF() }, dissect.KindVNTag),
	header("etag.ecid_base", func(h wire.ETag) any { return h.ECID() & 0xfff }, dissect.KindETag),
	header("etag.iecid_base", func(h wire.ETag) any { return h.IngressECID() & 0xfff }, dissect.KindETag),
	header("ieee8021ah.isid", func(h wire.ITag) any { return h.SID() }, dissect.KindPBB),
	header("mpls.label", func(h wire.MPLS) any { return h.Label() }, dissect.KindMPLS),
	header("mpls.ttl", func(h wire.MPLS) any { return h.TTL() }, dissect.KindMPLS),
	header("pppoe.session_id", func(h wire.PPPoE) any { return h.Session() }, dissect.KindPPPoE),
	header("arp.opcode", func(h wire.ARP) any { return h.Op() }, dissect.KindARP),
	header("arp.src.proto_ipv4", arp4(wire.ARP.Sender), dissect.KindARP),
	header("arp.dst.proto_ipv4", arp4(wire.ARP.Target), dissect.KindARP),
	level("ip.src", is4, func(f *dissect.Flow) any { return f.Src.Netip() }),
	level("ip.dst", is4, func(f *dissect.Flow) any { return f.Dst.Netip() }),
	level("ip.len", is4, func(f *dissect.Flow) any { return f.IPLen32 }),
	level("ip.id", is4, func(f *dissect.Flow) any { return f.IPID }),
	level("ip.ttl", is4, func(f *dissect.Flow) any { return f.TTL }),
	level("ip.dsfield", is4, func(f *dissect.Flow) any { return f.ToS }),
	level("ip.frag_offset", is4, func(f *dissect.Flow) any { return f.FragOff / 8 }),
	level("ip.flags.mf", is4, func(f *dissect.Flow) any { return f.MoreFrags }),
	header("ip.checksum.status", func(h wire.IPv4) any { return wire.ChecksumOK(h) }, dissect.KindIPv4),
	transportSum("tcp.checksum.status", isTCP),
	transportSum("udp.checksum.status", isUDP),
	header("ip.proto", func(h wire.IPv4) any { return h.Protocol() }, dissect.KindIPv4),
	level("ipv6.src", is6, func(f *dissect.Flow) any { return netip.AddrFrom16(f.Src) }),
	level("ipv6.dst", is6, func(f *dissect.Flow) any { return netip.AddrFrom16(f.Dst) }),
	level("ipv6.tclass", is6, func(f *dissect.Flow) any { return f.ToS }),
	level("ipv6.hlim", is6, func(f *dissect.Flow) any { return f.TTL }),
	header("ipv6.plen", func(h wire.IPv6) any { return h.PayloadLen() }, dissect.KindIPv6),
	header("ipv6.flow", func(h wire.IPv6) any { return h.FlowLabel() }, dissect.KindIPv6),
	header("ipv6.fraghdr.ident", func(h wire.IPv6Fragment) any { return h.ID() }, dissect.KindFragment),
	header("ipv6.fraghdr.more", func(h wire.IPv6Fragment) any { return h.MoreFragments() }, dissect.KindFragment),
	header("ipv6.routing.type", func(h wire.IPv6Ext) any { return h.RoutingType() }, dissect.KindRouting),
	header("ah.spi", func(h wire.AH) any { return h.SPI() }, dissect.KindAH),
	header("esp.spi", func(h wire.ESP) any { return h.SPI() }, dissect.KindESP),
	level("tcp.srcport", isTCP, func(f *dissect.Flow) any { return f.SrcPort }),
	level("tcp.dstport", isTCP, func(f *dissect.Flow) any { return f.DstPort }),
	tcpFlags(),
	header("tcp.hdr_len", func(h wire.TCP) any { return h.HeaderLen() }, dissect.KindTCP),
	level("udp.srcport", isUDP, func(f *dissect.Flow) any { return f.SrcPort }),
	level("udp.dstport", isUDP, func(f *dissect.Flow) any { return f.DstPort }),
	header("udp.length", func(h wire.UDP) any { return h.Length() }, dissect.KindUDP),
	level("sctp.srcport", isSCTP, func(f *dissect.Flow) any { return f.SrcPort }),
	level("sctp.dstport", isSCTP, func(f *dissect.Flow) any { return f.DstPort }),
	level("icmp.type", isICMP, func(f *dissect.Flow) any { return f.ICMPTypeCode >> 8 }),
	level("icmp.code", isICMP, func(f *dissect.Flow) any { return f.ICMPTypeCode & 0xff }),
	level("icmpv6.type", isICMP6, func(f *dissect.Flow) any { return f.ICMPTypeCode >> 8 }),
	level("icmpv6.code", isICMP6, func(f *dissect.Flow) any { return f.ICMPTypeCode & 0xff }),
	header("gre.proto", func(h wire.GRE) any { return h.Protocol() }, dissect.KindGRE),
	header("gre.key", greKey, dissect.KindGRE),
	header("gre.sequence_number", greSeq, dissect.KindGRE),
	header("erspan.spanid", func(h wire.ERSPAN) any { return h.Session() }, dissect.KindERSPAN2, dissect.KindERSPAN3),
	header("erspan.vlan", func(h wire.ERSPAN) any { return h.VLAN() }, dissect.KindERSPAN2, dissect.KindERSPAN3),
	header("erspan.cos", func(h wire.ERSPAN) any { return h.CoS() }, dissect.KindERSPAN2, dissect.KindERSPAN3),
	header("erspan.truncated", func(h wire.ERSPAN) any { return h.Truncated() }, dissect.KindERSPAN2, dissect.KindERSPAN3),
	header("erspan.index", func(h wire.ERSPAN) any { return h.Index() }, dissect.KindERSPAN2),
	header("erspan.encap", func(h wire.ERSPAN) any { return h.Encap() }, dissect.KindERSPAN2),
	header("erspan.timestamp", func(h wire.ERSPAN) any { return h.Timestamp() }, dissect.KindERSPAN3),
	header("erspan.sgt", func(h wire.ERSPAN) any { return h.SGT() }, dissect.KindERSPAN3),
	header("erspan.ft", func(h wire.ERSPAN) any { return h.FrameType() }, dissect.KindERSPAN3),
	header("erspan.hw", func(h wire.ERSPAN) any { return h.HardwareID() }, dissect.KindERSPAN3),
	header("erspan.direction", func(h wire.ERSPAN) any { return h.Egress() }, dissect.KindERSPAN3),
	header("erspan.gra", func(h wire.ERSPAN) any { return h.Granularity() }, dissect.KindERSPAN3),
	header("erspan.o", func(h wire.ERSPAN) any { return h.HasPlatform() }, dissect.KindERSPAN3),
	header("erspan.platid", platform, dissect.KindERSPAN3),
	header("vxlan.vni", func(h wire.VXLAN) any { return h.VNI() }, dissect.KindVXLAN, dissect.KindVXLANGPE),
	header("vxlan.gbp", policy, dissect.KindVXLAN),
	header("geneve.vni", func(h wire.Geneve) any { return h.VNI() }, dissect.KindGeneve),
	header("geneve.proto_type", func(h wire.Geneve) any { return h.Protocol() }, dissect.KindGeneve),
	header("nsh.spi", func(h wire.NSH) any { return h.SPI() }, dissect.KindNSH),
	header("nsh.si", func(h wire.NSH) any { return h.SI() }, dissect.KindNSH),
	header("nsh.ttl", func(h wire.NSH) any { return h.TTL() }, dissect.KindNSH),
	header("nsh.mdtype", func(h wire.NSH) any { return h.MDType() }, dissect.KindNSH),
	header("gtp.teid", func(h wire.GTPU) any { return h.TEID() }, dissect.KindGTPU),
	header("gtp.message", func(h wire.GTPU) any { return h.Type() }, dissect.KindGTPU),
	header("tzsp.encap", func(h wire.TZSP) any { return h.Protocol() }, dissect.KindTZSP),
}

// transportSum compares what both sides say of transport checksums, where both can say something.
func transportSum(name string, use func(f *dissect.Flow) bool) field {
	f := level(name, use, func(*dissect.Flow) any { return unverified })
	f.ours = func(p *dissect.Packet, data []byte) []string {
		var out []string
		for i := range p.NLevels {
			if f := &p.Levels[i]; use(f) {
				out = append(out, transportStatus(p, f, data))
			}
		}
		return out
	}
	f.same = func(got, want []string) bool {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] && got[i] <= "1" && want[i] <= "1" {
				return false
			}
		}
		return true
	}
	return f
}

// unverified is what tshark says of checksums that it cannot verify; 0 is bad, 1 good.
const unverified = "2"

func transportStatus(p *dissect.Packet, f *dissect.Flow, data []byte) string {
	end := int(f.NetOff) + int(f.IPLen32)
	routed := slices.ContainsFunc(p.Layers[:p.NLayers], func(l dissect.Layer) bool { return l.Kind == dissect.KindRouting })
	if f.MoreFrags || end > len(data) || f.PayloadOff == 0 || f.Proto == wire.ProtoUDPLite || routed {
		return unverified // with a routing header another address than the destination is summed
	}
	segment := data[f.TransOff:end]
	if f.Proto == wire.ProtoUDP {
		h := wire.UDP(segment)
		if h.Checksum() == 0 || int(h.Length()) > len(h) || h.Length() < wire.UDPLen {
			return unverified
		}
		segment = segment[:h.Length()]
	}
	src, dst := f.Src[:], f.Dst[:]
	if is4(f) {
		src, dst = src[12:], dst[12:]
	}
	return text(wire.TransportChecksum(src, dst, f.Proto, segment) == 0)
}

// tcpFlags leaves out the three bits that tshark counts as flags and RFC 9293 reserves.
func tcpFlags() field {
	f := level("tcp.flags", isTCP, func(f *dissect.Flow) any { return f.TCPFlags })
	f.theirs = func(text string) []string {
		out := numbers(text)
		for i, s := range out {
			n, _ := strconv.Atoi(s)
			out[i] = strconv.Itoa(n & 0x1ff)
		}
		return out
	}
	return f
}

// arp4 leaves out packets about other addresses than IPv4's.
func arp4(get func(wire.ARP) []byte) func(wire.ARP) any {
	return func(h wire.ARP) any {
		if h[5] != 4 || h.Protocol() != wire.TypeIPv4 {
			return nil
		}
		return get(h)
	}
}

func greKey(h wire.GRE) any {
	if !h.HasKey() || h.Version() != 0 {
		return nil
	}
	return h.Key()
}

func greSeq(h wire.GRE) any {
	if !h.HasSeq() {
		return nil
	}
	return h.Seq()
}

func platform(h wire.ERSPAN) any {
	if !h.HasPlatform() {
		return nil
	}
	return wire.ERSPANPlatform(h[wire.ERSPAN3Len:]).ID()
}

func policy(h wire.VXLAN) any {
	return h.Policy()
}
