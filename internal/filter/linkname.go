package filter

import (
	"maps"
	"slices"

	"crosstap/internal/frame"
)

var linkNames = map[string]frame.LinkType{
	"ethernet": frame.LinkEthernet, "linux-sll": frame.LinkSLL, "linux-sll2": frame.LinkSLL2, "raw": frame.LinkRaw, "ipv4": frame.LinkIPv4, "ipv6": frame.LinkIPv6,
	"null": frame.LinkNull, "loop": frame.LinkLoop, "wlan": frame.LinkWLAN, "radiotap": frame.LinkRadiotap, "prism": frame.LinkPrism, "avs": frame.LinkAVS,
	"ppi": frame.LinkPPI, "ppp": frame.LinkPPP, "ppp-hdlc": frame.LinkPPPHDLC, "pppd": frame.LinkPPPD, "ppp-ether": frame.LinkPPPEther, "c-hdlc": frame.LinkCiscoHDLC,
	"frelay": frame.LinkFrameRelay, "slip": frame.LinkSLIP, "slip-bsdos": frame.LinkSLIPBSDOS, "fddi": frame.LinkFDDI, "token-ring": frame.LinkTokenRing,
	"ip-over-fc": frame.LinkIPOverFC, "atm": frame.LinkATM, "atm-clip": frame.LinkATMCLIP, "sunatm": frame.LinkSunATM, "arcnet": frame.LinkARCNET,
	"arcnet-linux": frame.LinkARCNETLinux, "bacnet-ms-tp": frame.LinkMSTP, "mtp2": frame.LinkMTP2, "mtp2-phdr": frame.LinkMTP2PseudoHdr, "mtp3": frame.LinkMTP3,
	"pflog": frame.LinkPFLOG, "ltalk": frame.LinkLocalTalk, "ipnet": frame.LinkIPNET, "juniper-mfr": frame.LinkJuniperMFR, "apple-ieee1394": frame.LinkAppleIEEE1394,
	"netanalyzer": frame.LinkNetANALYZER, "netanalyzer-raw": frame.LinkNetANALYZERRaw, "dsa-brcm": frame.LinkBroadcomTag, "dsa": frame.LinkDSA,
}

// LinkNamed returns the link type with that name.
func LinkNamed(name string) (frame.LinkType, bool) {
	link, ok := linkNames[name]
	return link, ok
}

// LinkNames returns the names of the link types that filters are compiled for, sorted.
func LinkNames() []string { return slices.Sorted(maps.Keys(linkNames)) }

// linkName returns a link type's name.
func linkName(link frame.LinkType) string {
	for name, l := range linkNames {
		if l == link {
			return name
		}
	}
	return ""
}
