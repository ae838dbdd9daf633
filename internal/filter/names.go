package filter

// proto is a protocol qualifier.
type proto uint8

const (
	protoDefault proto = iota
	protoLink
	protoIP
	protoARP
	protoRARP
	protoSCTP
	protoTCP
	protoUDP
	protoICMP
	protoIGMP
	protoIGRP
	protoPIM
	protoVRRP
	protoCARP
	protoATalk
	protoAARP
	protoDECnet
	protoLAT
	protoSCA
	protoMOPDL
	protoMOPRC
	protoIPv6
	protoICMPv6
	protoAH
	protoESP
	protoISO
	protoESIS
	protoISIS
	protoISISL1
	protoISISL2
	protoISISIIH
	protoISISLSP
	protoISISSNP
	protoISISPSNP
	protoISISCSNP
	protoCLNP
	protoSTP
	protoIPX
	protoNetBEUI
	protoRadio
)

// protoWords are the keywords that name a protocol.
var protoWords = map[string]proto{
	"ether": protoLink, "link": protoLink, "fddi": protoLink, "tr": protoLink, "wlan": protoLink, "ppp": protoLink, "slip": protoLink,
	"ip": protoIP, "arp": protoARP, "rarp": protoRARP, "sctp": protoSCTP, "tcp": protoTCP, "udp": protoUDP, "icmp": protoICMP,
	"igmp": protoIGMP, "igrp": protoIGRP, "pim": protoPIM, "vrrp": protoVRRP, "carp": protoCARP, "atalk": protoATalk,
	"aarp": protoAARP, "decnet": protoDECnet, "lat": protoLAT, "sca": protoSCA, "moprc": protoMOPRC, "mopdl": protoMOPDL,
	"ip6": protoIPv6, "icmp6": protoICMPv6, "ah": protoAH, "esp": protoESP, "iso": protoISO, "esis": protoESIS, "es-is": protoESIS,
	"isis": protoISIS, "is-is": protoISIS, "l1": protoISISL1, "l2": protoISISL2, "iih": protoISISIIH, "lsp": protoISISLSP,
	"snp": protoISISSNP, "psnp": protoISISPSNP, "csnp": protoISISCSNP, "clnp": protoCLNP, "stp": protoSTP, "ipx": protoIPX,
	"netbeui": protoNetBEUI, "radio": protoRadio,
}

// EtherTypes and LLC service access points.
const (
	typeIPv4   = 0x0800
	typeARP    = 0x0806
	typeRARP   = 0x8035
	typeIPv6   = 0x86dd
	typeVLAN   = 0x8100
	typeQinQ   = 0x88a8
	typeQinQ9  = 0x9100
	typeMPLS   = 0x8847
	typePPPoED = 0x8863
	typePPPoES = 0x8864
	typeAARP   = 0x80f3
	typeATalk  = 0x809b
	typeDECnet = 0x6003
	typeLAT    = 0x6004
	typeSCA    = 0x6007
	typeMOPDL  = 0x6001
	typeMOPRC  = 0x6002
	typeIPX    = 0x8137
	typeLLDP   = 0x88cc
	typeSlow   = 0x8809
	typeLoop   = 0x9000
	typeTEB    = 0x6558
	typeNSH    = 0x894f
	typeVNTag  = 0x8926
	typeETag   = 0x893f
	typeERSP2  = 0x88be
	typeERSP3  = 0x22eb
	leastType  = 1536
	maxLength  = 1500 // a type field up to here is an IEEE 802.3 length

	sapSTP     = 0x42
	sapIPX     = 0xe0
	sapNetBEUI = 0xf0
	sapISO     = 0xfe
	sapSNAP    = 0xaa
)

// etherNames are the names after "ether proto".
var etherNames = map[string]uint32{
	"ip": typeIPv4, "arp": typeARP, "rarp": typeRARP, "ip6": typeIPv6, "aarp": typeAARP, "atalk": typeATalk, "decnet": typeDECnet,
	"lat": typeLAT, "sca": typeSCA, "mopdl": typeMOPDL, "moprc": typeMOPRC, "ipx": sapIPX, "netbeui": sapNetBEUI, "stp": sapSTP,
	"iso": sapISO, "lldp": typeLLDP, "slow": typeSlow, "loopback": typeLoop,
}

// ipNames are the names after "ip proto", "ip6 proto" and "proto" (IANA protocol numbers).
var ipNames = map[string]uint32{
	"ip": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "igrp": 9, "pup": 12, "udp": 17, "hmp": 20,
	"xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37, "idpr-cmtp": 38, "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44,
	"idrp": 45, "rsvp": 46, "gre": 47, "esp": 50, "ipsec-esp": 50, "ah": 51, "ipsec-ah": 51, "skip": 57, "ipv6-icmp": 58, "icmp6": 58, "ipv6-nonxt": 59,
	"ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88, "ospf": 89, "ax.25": 93, "ipip": 94, "etherip": 97, "encap": 98, "pim": 103,
	"ipcomp": 108, "vrrp": 112, "carp": 112, "l2tp": 115, "isis": 124, "sctp": 132, "fc": 133, "mobility-header": 135, "udplite": 136,
	"mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140, "wesp": 141, "rohc": 142, "ethernet": 143,
}

// isoNames are the network layer protocol identifiers after "iso proto".
var isoNames = map[string]uint32{"clnp": 0x81, "esis": 0x82, "isis": 0x83}

// service is a name after "port" with the transports that have it.
type service struct {
	port     uint16
	tcp, udp bool
}

// services are the names people type after "port", from the IANA service name registry.
var services = map[string]service{
	"echo": {7, true, true}, "discard": {9, true, true}, "daytime": {13, true, true}, "chargen": {19, true, true}, "ftp-data": {20, true, false},
	"ftp": {21, true, false}, "ssh": {22, true, false}, "telnet": {23, true, false}, "smtp": {25, true, false}, "time": {37, true, true},
	"domain": {53, true, true}, "bootps": {67, false, true}, "bootpc": {68, false, true}, "tftp": {69, false, true}, "gopher": {70, true, false},
	"finger": {79, true, false}, "http": {80, true, false}, "www": {80, true, false}, "kerberos": {88, true, true}, "pop3": {110, true, false},
	"sunrpc": {111, true, true}, "auth": {113, true, false}, "nntp": {119, true, false}, "ntp": {123, false, true}, "epmap": {135, true, false},
	"netbios-ns": {137, false, true}, "netbios-dgm": {138, false, true}, "netbios-ssn": {139, true, false}, "imap2": {143, true, false},
	"imap": {143, true, false}, "snmp": {161, true, true}, "snmp-trap": {162, true, true}, "bgp": {179, true, false}, "irc": {194, true, true},
	"ldap": {389, true, true}, "https": {443, true, true}, "microsoft-ds": {445, true, true}, "isakmp": {500, false, true}, "exec": {512, true, false},
	"login": {513, true, false}, "shell": {514, true, false}, "syslog": {514, false, true}, "printer": {515, true, false}, "route": {520, false, true},
	"ldaps": {636, true, true}, "domain-s": {853, true, true}, "rsync": {873, true, false}, "imaps": {993, true, false}, "pop3s": {995, true, false},
	"socks": {1080, true, false}, "openvpn": {1194, true, true}, "ms-sql-s": {1433, true, false}, "l2tp": {1701, false, true}, "radius": {1812, false, true},
	"radius-acct": {1813, false, true}, "nfs": {2049, true, true}, "mysql": {3306, true, false}, "ms-wbt-server": {3389, true, true}, "svn": {3690, true, false},
	"ipfix": {4739, true, true}, "vxlan": {4789, false, true}, "sip": {5060, true, true}, "sip-tls": {5061, true, true}, "xmpp-client": {5222, true, false},
	"mdns": {5353, false, true}, "postgresql": {5432, true, false}, "amqp": {5672, true, false}, "geneve": {6081, false, true}, "x11": {6000, true, false},
	"sflow": {6343, true, true}, "redis": {6379, true, false}, "ircd": {6667, true, false}, "http-alt": {8080, true, true},
}

// constants are the names allowed in arithmetic, such as tcp[tcpflags] & tcp-syn.
var constants = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1, "tcpflags": 13,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8, "icmp-routeradvert": 9,
	"icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15,
	"icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4, "icmp6-echo": 128,
	"icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130, "icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132,
	"icmp6-routersolicit": 133, "icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140, "icmp6-ineighbordiscoverysolicit": 141,
	"icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143, "icmp6-homeagentdiscoveryrequest": 144,
	"icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146, "icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148,
	"icmp6-certpathadvert": 149, "icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,
	"tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20, "tcp-ece": 0x40, "tcp-cwr": 0x80,
}
