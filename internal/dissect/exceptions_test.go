package dissect_test

import (
	"slices"
	"strings"
)

// exception is a known difference from tshark.
type exception struct {
	file   string // a capture, or the beginning of the names of several
	frames []int  // numbers, none for all
	fields string // the fields concerned, "" for all
	why    string
}

func (e exception) covers(c captured, field string) bool {
	return strings.HasPrefix(c.file, e.file) && (e.fields == "" || slices.Contains(strings.Fields(e.fields), field)) &&
		(len(e.frames) == 0 || slices.Contains(e.frames, c.n))
}

// exceptions are all differences from tshark 4.0 that stay.
var exceptions = []exception{
	{"tap/tcpdump/bigtcp-ip", nil, "", "tshark 4.0 takes a length of 0 in UDP or IPv6 for an error; TestBigTCP compares with tcpdump instead"},
	{"tap/tcpdump/DTP.pcap", nil, "frame.protocols eth.dst", "tshark guesses Cisco ISL from a destination address"},
	{"tap/tcpdump/arp-oobr.pcap", []int{186, 1166}, "", "tshark goes on behind ATMARP, and reads no address after a wrong address length"},
	{"tap/tcpdump/mobility_opt_asan", nil, "frame.protocols", "tshark takes protocol 62 (CFTP) for mobility, which IANA numbers 135"},
	{"tap/tcpdump/nsh-over-vxlan-gpe.pcap", nil, "frame.protocols", "tshark leaves VXLAN-GPE out of the list; the VNI is compared"},
	{"collect/tcpdump/nsh-over-vxlan-gpe.pcap", nil, "frame.protocols", "tshark leaves VXLAN-GPE out of the list; the VNI is compared"},
	{"tap/tcpdump/wccp_redirect_gre.pcap", nil, "", "GRE protocol 0x883e, WCCP redirection, has no reader here"},
	{"tap/tcpdump/ipv4_invalid_total_length_2.pcap", nil, "", "tshark reads nothing of a header whose total length is below 20; the addresses are there"},
	{"tap/tcpdump/icmp-icmp_print-oobr-1.pcap", nil, "icmp.type icmp.code", "tshark reads nothing of an ICMP header of 3 bytes"},
	{"tap/tcpdump/LINKTYPE_IPV4_invalid.pcap", nil, "", "tshark reads IPv6 on a link type that is IPv4 only"},
	{"tap/tcpdump/LINKTYPE_IPV6_invalid.pcap", nil, "frame.protocols", "we keep the place of a header with a wrong version, tshark does not"},
	{"tap/tcpdump/beep-oobr.pcap", nil, "frame.protocols", "as before"},
	{"tap/tcpdump/hoobr_rt6_print.pcap", nil, "frame.protocols", "as before"},
	{"tap/zeek/testing/btest/Traces/tunnels/mpls-6in6-6in6-invalid-version-6.pcap", nil, "frame.protocols", "as before"},
	{"tap/gopacket/layers/testdata/linux_sll_oversized_addr.pcapng", []int{95}, "tcp.flags", "tshark reads no flags of a TCP header whose length is below 20"},
	{"tap/libpcap-filter/filter/ipv6_ext_headers.pcap", nil, "", "more than MaxLayers headers"},
	{"tap/zeek/testing/btest/Traces/pbb-recursive-frames.pcapng", nil, "", "more than MaxLayers headers"},
	{"tap/zeek/testing/btest/Traces/mobile-ipv6/ipv6-mobile-hoa.pcap", nil, "udp.checksum.status", "the home address option replaces the source in the pseudo-header"},
	{"tap/zeek/testing/btest/Traces/pppoe-over-qinq.pcap", nil, "tcp.checksum.status", "the IP length is right, the PPPoE length too short; tshark cuts at the latter"},
	{"cases/UDP-Lite", nil, "udp.length", "tshark puts a length where UDP-Lite has its checksum coverage"},
	{"tap/zeek/testing/btest/Traces/tunnels/gtp/gtp_create_pdp_ctx.pcap", []int{2, 3}, "frame.protocols gtp.teid gtp.message", "GTP-C on port 2123 is signalling, not a tunnel"},
}
