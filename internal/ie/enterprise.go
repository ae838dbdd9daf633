package ie

// books are the elements of enterprises. Only what a peer's capture, the vendor's pages or two
// independent decoders agree on stands here; everything else is shown by number.
var books = [...]book{
	{VMware, "VMware", vmware},
	{CERT, "CERT", cert},
	{Cisco, "Cisco", cisco},
	{637, "Nokia", nokia},
	{2636, "Juniper", juniper},
	{3054, "Ixia", ixia},
	{5951, "NetScaler", netscaler},
	{8057, "CESNET", cesnet},
	{10704, "Barracuda", barracuda},
	{13745, "Plixer", plixer},
	{PaloAlto, "Palo Alto Networks", paloAlto},
	{26866, "Gigamon", gigamon},
	{Ntop, "ntop", ntop},
	{35566, "QoF", qof},
	{39499, "Flowmon", flowmon},
	{41916, "Viptela", viptela},
	{56506, "Antrea", antrea},
	{NetFlow9Scope, "NetFlow v9 scope", netflow9Scope},
}

// vmware is NSX's, the distributed switch's and Open vSwitch's. 885 was never assigned. 954 is not IANA's
// flowDirection: 1 is forward and 2 reverse.
func vmware() map[uint16]row {
	return map[uint16]row{
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
}

func juniper() map[uint16]row {
	return map[uint16]row{
		137: {"commonPropertiesId", u64, idn, none},
	}
}

// antrea names the pods, nodes and policies of Kubernetes flows, and counts at both nodes.
func antrea() map[uint16]row {
	return map[uint16]row{
		100: {"sourcePodNamespace", str, any_, none},
		101: {"sourcePodName", str, any_, none},
		102: {"destinationPodNamespace", str, any_, none},
		103: {"destinationPodName", str, any_, none},
		104: {"sourceNodeName", str, any_, none},
		105: {"destinationNodeName", str, any_, none},
		106: {"destinationClusterIPv4", ip4, any_, none},
		107: {"destinationClusterIPv6", ip6, any_, none},
		108: {"destinationServicePort", u16, idn, none},
		109: {"destinationServicePortName", str, any_, none},
		110: {"ingressNetworkPolicyName", str, any_, none},
		111: {"ingressNetworkPolicyNamespace", str, any_, none},
		112: {"egressNetworkPolicyName", str, any_, none},
		113: {"egressNetworkPolicyNamespace", str, any_, none},
		115: {"ingressNetworkPolicyType", u8, idn, none},
		118: {"egressNetworkPolicyType", u8, idn, none},
		120: {"packetTotalCountFromSourceNode", u64, tot, pk},
		121: {"octetTotalCountFromSourceNode", u64, tot, oc},
		122: {"packetDeltaCountFromSourceNode", u64, dlt, pk},
		123: {"octetDeltaCountFromSourceNode", u64, dlt, oc},
		124: {"reversePacketTotalCountFromSourceNode", u64, tot, pk},
		125: {"reverseOctetTotalCountFromSourceNode", u64, tot, oc},
		126: {"reversePacketDeltaCountFromSourceNode", u64, dlt, pk},
		127: {"reverseOctetDeltaCountFromSourceNode", u64, dlt, oc},
		128: {"packetTotalCountFromDestinationNode", u64, tot, pk},
		129: {"octetTotalCountFromDestinationNode", u64, tot, oc},
		130: {"packetDeltaCountFromDestinationNode", u64, dlt, pk},
		131: {"octetDeltaCountFromDestinationNode", u64, dlt, oc},
		132: {"reversePacketTotalCountFromDestinationNode", u64, tot, pk},
		133: {"reverseOctetTotalCountFromDestinationNode", u64, tot, oc},
		134: {"reversePacketDeltaCountFromDestinationNode", u64, dlt, pk},
		135: {"reverseOctetDeltaCountFromDestinationNode", u64, dlt, oc},
		136: {"tcpState", str, any_, none},
		137: {"flowType", u8, idn, none},
	}
}

// barracuda is what the firewalls send as "extended uniflow".
func barracuda() map[uint16]row {
	return map[uint16]row{
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
}

func nokia() map[uint16]row {
	return map[uint16]row{
		91: {"natInsideSvcid", u16, idn, none},
		92: {"natOutsideSvcid", u16, idn, none},
		93: {"natSubString", str, any_, none},
	}
}

func viptela() map[uint16]row {
	return map[uint16]row{
		4321: {"viptelaVPNId", u64, idn, none},
	}
}

// netflow9Scope is what an option record of NetFlow v9 can be about.
func netflow9Scope() map[uint16]row {
	return map[uint16]row{
		1: {"scopeSystem", u32, idn, none},
		2: {"scopeInterface", u32, idn, none},
		3: {"scopeLineCard", u32, idn, none},
		4: {"scopeCache", u32, idn, none},
		5: {"scopeTemplate", u32, idn, none},
	}
}

// paloAlto is App-ID and User-ID, which PAN-OS sends in NetFlow v9 as 56701 and 56702.
func paloAlto() map[uint16]row {
	return map[uint16]row{
		56701: {"panAppId", str, any_, none},
		56702: {"panUserId", str, any_, none},
	}
}
