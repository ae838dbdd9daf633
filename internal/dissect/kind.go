package dissect

// The kinds of layer, from the link inwards.
const (
	KindNone Kind = iota
	KindNull      // BSD and OpenBSD loopback
	KindSLL       // Linux cooked v1
	KindSLL2      // Linux cooked v2
	KindEthernet
	KindLLC
	KindSNAP
	KindVLAN // 802.1Q or 802.1ad tag
	KindVNTag
	KindETag // 802.1BR
	KindPBB  // 802.1ah I-TAG
	KindMPLS // one label stack entry
	KindControlWord
	KindPPPoE
	KindPPP
	KindARP
	KindRaw // bare IP, no header of its own; never in a Packet
	KindIPv4
	KindIPv6
	KindHopByHop
	KindRouting
	KindFragment
	KindDestOpts
	KindMobility
	KindHIP
	KindShim6
	KindAH
	KindESP
	KindTCP
	KindUDP
	KindUDPLite
	KindDCCP
	KindSCTP
	KindICMP
	KindICMPv6
	KindGRE
	KindNVGRE
	KindERSPAN1 // no header of its own; never in a Packet
	KindERSPAN2
	KindERSPAN3
	KindEtherIP
	KindVXLAN
	KindVXLANGPE
	KindGeneve
	KindNSH
	KindGTPU
	KindTZSP
	numKinds
)

var kindNames = [numKinds]string{
	KindNull: "null", KindSLL: "sll", KindSLL2: "sll2", KindEthernet: "ethernet", KindLLC: "llc", KindSNAP: "snap",
	KindVLAN: "vlan", KindVNTag: "vntag", KindETag: "etag", KindPBB: "pbb", KindMPLS: "mpls", KindControlWord: "pwcw",
	KindPPPoE: "pppoe", KindPPP: "ppp", KindARP: "arp", KindRaw: "raw", KindIPv4: "ip", KindIPv6: "ip6",
	KindHopByHop: "hopopts", KindRouting: "routing", KindFragment: "fragment", KindDestOpts: "dstopts",
	KindMobility: "mobility", KindHIP: "hip", KindShim6: "shim6", KindAH: "ah", KindESP: "esp", KindTCP: "tcp", KindUDP: "udp",
	KindUDPLite: "udplite", KindDCCP: "dccp", KindSCTP: "sctp", KindICMP: "icmp", KindICMPv6: "icmp6", KindGRE: "gre",
	KindNVGRE: "nvgre", KindERSPAN1: "erspan1", KindERSPAN2: "erspan2", KindERSPAN3: "erspan3", KindEtherIP: "etherip",
	KindVXLAN: "vxlan", KindVXLANGPE: "vxlan-gpe", KindGeneve: "geneve", KindNSH: "nsh", KindGTPU: "gtp", KindTZSP: "tzsp",
}

// String returns the kind's name in lower case, as filters and tables write it.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "unknown"
}

// extension reports whether k is an IPv6 extension header that names a next header.
func (k Kind) extension() bool { return k >= KindHopByHop && k <= KindAH }
