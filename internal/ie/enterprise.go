package ie

// books are the elements of enterprises. Only what a peer's capture, the vendor's pages or two
// independent decoders agree on stands here; everything else is shown by number.
var books = [...]book{
	{VMware, "VMware", vmware},
	{CERT, "CERT", cert},
	{2636, "Juniper", juniper},
	{Cisco, "Cisco", cisco},
	{Ntop, "ntop", ntop},
	{NetFlow9Scope, "NetFlow v9 scope", netflow9Scope},
	{56506, "Antrea", antrea},
	{10704, "Barracuda", barracuda},
	{5951, "NetScaler", netscaler},
	{637, "Nokia", nokia},
	{41916, "Viptela", viptela},
}

// vmware is NSX's, the distributed switch's and Open vSwitch's. 885 was never assigned. 954 is not IANA's
// flowDirection: 1 is forward and 2 reverse.
var vmware = map[uint16]row{
	880: {"tenantProtocol", u8, idn, none},
	881: {"tenantSourceIPv4", ip4, any_, none},
	882: {"tenantDestIPv4", ip4, any_, none},
	883: {"tenantSourceIPv6", ip6, any_, none},
	884: {"tenantDestIPv6", ip6, any_, none},
	886: {"tenantSourcePort", u16, idn, none},
	887: {"tenantDestPort", u16, idn, none},
	888: {"egressInterfaceAttr", u16, idn, none},
	889: {"vxlanExportRole", u8, idn, none},
	890: {"ingressInterfaceAttr", u16, idn, none},
	891: {"tunnelType", u8, idn, none},
	892: {"tunnelKey", oct, any_, none},
	893: {"tunnelSourceIPv4Address", ip4, any_, none},
	894: {"tunnelDestinationIPv4Address", ip4, any_, none},
	895: {"tunnelProtocolIdentifier", u8, idn, none},
	896: {"tunnelSourceTransportPort", u16, idn, none},
	897: {"tunnelDestinationTransportPort", u16, idn, none},
	898: {"virtualObsID", str, any_, none},
	950: {"ruleId", u32, idn, none},
	951: {"vmUuid", str, any_, none},
	952: {"vnicIndex", u32, idn, none},
	953: {"sessionFlags", u8, idn, none},
	954: {"flowDirection", u8, idn, none},
	955: {"algControlFlowId", u64, idn, none},
	956: {"algType", u8, idn, none},
	957: {"algFlowType", u8, idn, none},
	958: {"averageLatency", u32, qty, us},
	959: {"retransmissionCount", u32, qty, none},
	960: {"vifUuid", oct, any_, none},
	961: {"vifId", str, any_, none},
}

// cert is what YAF sends in its basic flow records.
var cert = map[uint16]row{
	14:    {"initialTCPFlags", u8, flg, none},
	15:    {"unionTCPFlags", u8, flg, none},
	21:    {"reverseFlowDeltaMilliseconds", u32, qty, ms},
	33:    {"silkAppLabel", u16, idn, none},
	40:    {"flowAttributes", u16, flg, none},
	100:   {"expiredFragmentCount", u32, tot, none},
	101:   {"assembledFragmentCount", u32, tot, none},
	102:   {"meanFlowRate", u32, any_, none},
	103:   {"meanPacketRate", u32, any_, none},
	104:   {"flowTableFlushEventCount", u32, tot, none},
	105:   {"flowTablePeakCount", u32, any_, none},
	16398: {"reverseInitialTCPFlags", u8, flg, none},
	16399: {"reverseUnionTCPFlags", u8, flg, none},
	16424: {"reverseFlowAttributes", u16, flg, none},
}

var juniper = map[uint16]row{
	137: {"commonPropertiesId", u64, idn, none},
}

var cisco = map[uint16]row{
	12236: {"clientIPv4Address", ip4, any_, none},
	12237: {"serverIPv4Address", ip4, any_, none},
}

var ntop = map[uint16]row{
	118: {"l7Proto", u16, idn, none},
}

// antrea names the pods, nodes and policies of Kubernetes flows.
var antrea = map[uint16]row{
	100: {"sourcePodNamespace", str, any_, none},
	101: {"sourcePodName", str, any_, none},
	102: {"destinationPodNamespace", str, any_, none},
	103: {"destinationPodName", str, any_, none},
	104: {"sourceNodeName", str, any_, none},
	105: {"destinationNodeName", str, any_, none},
	108: {"destinationServicePort", u16, idn, none},
	109: {"destinationServicePortName", str, any_, none},
	137: {"flowType", u8, idn, none},
}

// barracuda is what the firewalls send as "extended uniflow".
var barracuda = map[uint16]row{
	1:  {"Timestamp", secs, any_, sec},
	2:  {"LogOp", u8, idn, none},
	3:  {"TrafficType", u8, idn, none},
	4:  {"FW_Rule", str, any_, none},
	5:  {"ServiceName", str, any_, none},
	6:  {"Reason", u32, idn, none},
	7:  {"ReasonText", str, any_, none},
	8:  {"BindIPv4Address", ip4, any_, none},
	9:  {"BindTransportPort", u16, idn, none},
	10: {"ConnIPv4Address", ip4, any_, none},
	11: {"ConnTransportPort", u16, idn, none},
	12: {"AuditCounter", u32, any_, none},
}

var netscaler = map[uint16]row{
	128: {"netscalerRoundTripTime", u32, qty, ms},
	129: {"netscalerTransactionId", u32, idn, none},
	130: {"netscalerHttpReqUrl", str, any_, none},
	131: {"netscalerHttpReqCookie", str, any_, none},
	132: {"netscalerFlowFlags", u64, flg, none},
	133: {"netscalerConnectionId", u32, idn, none},
	140: {"netscalerHttpReqReferer", str, any_, none},
	141: {"netscalerHttpReqMethod", str, any_, none},
	142: {"netscalerHttpReqHost", str, any_, none},
	143: {"netscalerHttpReqUserAgent", str, any_, none},
	151: {"netscalerAppNameAppId", u32, idn, none},
	183: {"netscalerHttpContentType", str, any_, none},
	185: {"netscalerHttpReqAuthorization", str, any_, none},
	186: {"netscalerHttpReqVia", str, any_, none},
	190: {"netscalerHttpReqXForwardedFor", str, any_, none},
	192: {"netscalerConnectionChainID", oct, any_, none},
	193: {"netscalerConnectionChainHopCount", u8, qty, hop},
	205: {"netscalerAaaUsername", str, any_, none},
	267: {"netscalerHttpDomainName", str, any_, none},
}

var nokia = map[uint16]row{
	91: {"natInsideSvcid", u16, idn, none},
	92: {"natOutsideSvcid", u16, idn, none},
	93: {"natSubString", str, any_, none},
}

var viptela = map[uint16]row{
	4321: {"viptelaVPNId", u64, idn, none},
}

// netflow9Scope is what an option record of NetFlow v9 can be about.
var netflow9Scope = map[uint16]row{
	1: {"scopeSystem", u32, idn, none},
	2: {"scopeInterface", u32, idn, none},
	3: {"scopeLineCard", u32, idn, none},
	4: {"scopeCache", u32, idn, none},
	5: {"scopeTemplate", u32, idn, none},
}
