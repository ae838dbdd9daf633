package groom

// Header is a set of kinds of header that the strip step takes off.
type Header uint32

// The headers. A tunnel's header takes with it all that the tunnel's packet has in front of it.
const (
	HeaderVLAN      Header = 1 << iota // all 802.1Q/ad tags
	HeaderVLANOuter                    // the first of them
	HeaderVNTag
	HeaderETag   // 802.1BR
	HeaderPBB    // 802.1ah: I-TAG and the backbone's Ethernet header
	HeaderMPLS   // the label stack, with the control word of a pseudowire
	HeaderPPPoE  // with PPP
	HeaderNSH    //
	HeaderVXLAN  // with VXLAN-GPE
	HeaderGeneve //
	HeaderGRE    // with NVGRE and PPTP, but without ERSPAN
	HeaderERSPAN // types I, II and III
	HeaderTZSP   //
	HeaderGTPU   //
	HeaderIPIP   // IP in IP in any combination, EtherIP

	HeaderAll = HeaderIPIP<<1 - 1
)

// headerNames are the words for headers, in the order of the constants.
var headerNames = []string{"vlan", "vlan-outer", "vntag", "etag", "pbb", "mpls", "pppoe", "nsh", "vxlan", "geneve", "gre", "erspan", "tzsp", "gtp", "ipip"}
