package apphint

import (
	"sync"

	"crosstap/internal/flow"
)

// ByPort names the application of a record that tells nothing else: by the port of the server, else by either port, else by the protocol.
func ByPort(proto uint8, src, dst uint16, client flow.Client) (string, flow.AppHow) {
	if !hasPorts(proto) {
		if name := protocols[proto]; name != "" {
			return name, flow.AppProto
		}
		return "", flow.AppUnknown
	}
	server, other := dst, src
	if client == flow.ClientDst {
		server, other = other, server
	}
	name := OfPort(proto, server)
	if name == "" && client == flow.ClientUnknown {
		name = OfPort(proto, other)
	}
	if name == "" {
		return "", flow.AppUnknown
	}
	return name, flow.AppPort
}

// OfPort names the service of a port, "" for one that has no name here.
func OfPort(proto uint8, port uint16) string {
	t := byPort()
	if t.named[port>>6]>>(port&63)&1 == 0 {
		return ""
	}
	s := t.services[t.index[port]]
	switch {
	case proto == protoUDP && s.transport&udp != 0, proto == protoTCP && s.transport&tcp != 0, proto == protoSCTP && s.transport&sctp != 0:
		return s.name
	}
	return ""
}

const (
	protoDCCP    = 33
	protoSCTP    = 132
	protoUDPLite = 136
)

func hasPorts(proto uint8) bool {
	switch proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		return true
	}
	return false
}

// overTLS are the ports of services that begin with a TLS handshake.
var overTLS = map[uint16]bool{
	443: true, 465: true, 563: true, 636: true, 853: true, 989: true, 990: true, 993: true, 995: true, 2376: true, 3269: true, 4740: true,
	5061: true, 5349: true, 5671: true, 5986: true, 6443: true, 6514: true, 8443: true, 8883: true, 10250: true, 16514: true,
}

// byPort are the services by port: what is asked for every record is not hashed. They are put in place when they are first asked for.
var byPort = sync.OnceValue(func() *places {
	t := &places{services: make([]service, 1, 256)}
	for port, s := range services {
		t.index[port], t.named[port>>6] = uint8(len(t.services)), t.named[port>>6]|1<<(port&63)
		t.services = append(t.services, s)
	}
	return t
})

// places gives each port its place in services. Most ports have none, which the bits of named tell from an eighth of the memory.
type places struct {
	named    [1 << 10]uint64
	index    [1 << 16]uint8
	services []service
}

const (
	tcp uint8 = 1 << iota
	udp
	sctp
	either = tcp | udp
)

type service struct {
	name      string
	transport uint8
}

// services are the ports that operators know by name, most of them as registered with IANA.
var services = map[uint16]service{
	7: {"echo", either}, 9: {"discard", either}, 13: {"daytime", either}, 19: {"chargen", either},
	20: {"ftp-data", tcp}, 21: {"ftp", tcp}, 22: {"ssh", tcp}, 23: {"telnet", tcp}, 25: {"smtp", tcp}, 37: {"time", either},
	43: {"whois", tcp}, 49: {"tacacs", either}, 53: {"dns", either}, 67: {"dhcp", udp}, 68: {"dhcp", udp}, 69: {"tftp", udp},
	79: {"finger", tcp}, 80: {"http", either}, 88: {"kerberos", either}, 110: {"pop3", tcp}, 111: {"sunrpc", either}, 113: {"ident", tcp},
	119: {"nntp", tcp}, 123: {"ntp", udp}, 135: {"msrpc", tcp}, 137: {"netbios-ns", udp}, 138: {"netbios-dgm", udp}, 139: {"netbios-ssn", tcp},
	143: {"imap", tcp}, 161: {"snmp", either}, 162: {"snmptrap", either}, 177: {"xdmcp", udp}, 179: {"bgp", tcp}, 194: {"irc", tcp},
	319: {"ptp-event", udp}, 320: {"ptp", udp}, 389: {"ldap", either}, 427: {"slp", either}, 443: {"https", either}, 445: {"smb", tcp},
	464: {"kpasswd", either}, 465: {"smtps", tcp}, 500: {"isakmp", udp}, 512: {"exec", tcp}, 513: {"login", tcp}, 514: {"syslog", either},
	515: {"printer", tcp}, 520: {"rip", udp}, 521: {"ripng", udp}, 530: {"rpc", tcp}, 543: {"klogin", tcp}, 546: {"dhcpv6", udp},
	547: {"dhcpv6", udp}, 548: {"afp", tcp}, 554: {"rtsp", either}, 563: {"nntps", tcp}, 587: {"submission", tcp}, 593: {"http-rpc", tcp},
	623: {"ipmi", udp}, 631: {"ipp", either}, 636: {"ldaps", tcp}, 639: {"msdp", tcp}, 646: {"ldp", either}, 666: {"doom", either},
	853: {"dns-tls", either}, 860: {"iscsi", tcp}, 873: {"rsync", tcp}, 902: {"vmware-nfc", either}, 989: {"ftps-data", tcp}, 990: {"ftps", tcp},
	993: {"imaps", tcp}, 995: {"pop3s", tcp}, 1080: {"socks", tcp}, 1099: {"rmi", tcp}, 1194: {"openvpn", either}, 1352: {"lotusnotes", tcp},
	1433: {"mssql", tcp}, 1434: {"mssql-browser", udp}, 1512: {"wins", either}, 1521: {"oracle", tcp}, 1645: {"radius", udp}, 1646: {"radius-acct", udp},
	1701: {"l2tp", udp}, 1720: {"h323", tcp}, 1723: {"pptp", tcp}, 1812: {"radius", either}, 1813: {"radius-acct", either}, 1883: {"mqtt", tcp},
	1900: {"ssdp", udp}, 1985: {"hsrp", udp}, 2049: {"nfs", either}, 2055: {"netflow", udp}, 2123: {"gtp-c", udp}, 2152: {"gtp-u", udp},
	2181: {"zookeeper", tcp}, 2222: {"ssh-alt", tcp}, 2375: {"docker", tcp}, 2376: {"docker-tls", tcp}, 2379: {"etcd", tcp}, 2380: {"etcd-peer", tcp},
	2598: {"citrix", tcp}, 2601: {"zebra", tcp}, 3000: {"grafana", tcp}, 3128: {"proxy", tcp}, 3260: {"iscsi", tcp}, 3268: {"ldap-gc", tcp},
	3269: {"ldaps-gc", tcp}, 3306: {"mysql", tcp}, 3389: {"rdp", either}, 3478: {"stun", either}, 3690: {"svn", tcp}, 3784: {"bfd", udp},
	3785: {"bfd-echo", udp}, 3868: {"diameter", tcp | sctp}, 4369: {"epmd", tcp}, 4420: {"nvme-tcp", tcp}, 4500: {"ipsec-nat", udp}, 4505: {"salt", tcp},
	4506: {"salt", tcp}, 4739: {"ipfix", either | sctp}, 4740: {"ipfixs", either | sctp}, 4784: {"bfd-multihop", udp}, 4789: {"vxlan", udp},
	4790: {"vxlan-gpe", udp}, 5000: {"upnp", tcp}, 5004: {"rtp", udp}, 5005: {"rtcp", udp}, 5044: {"beats", tcp}, 5060: {"sip", either | sctp},
	5061: {"sips", tcp}, 5201: {"iperf3", either}, 5222: {"xmpp", tcp}, 5269: {"xmpp-server", tcp}, 5349: {"stuns", either}, 5353: {"mdns", udp},
	5355: {"llmnr", either}, 5432: {"postgresql", tcp}, 5555: {"adb", tcp}, 5666: {"nrpe", tcp}, 5671: {"amqps", tcp}, 5672: {"amqp", tcp},
	5683: {"coap", udp}, 5900: {"vnc", tcp}, 5984: {"couchdb", tcp}, 5985: {"winrm", tcp}, 5986: {"winrm-tls", tcp}, 6000: {"x11", tcp},
	6081: {"geneve", udp}, 6343: {"sflow", udp}, 6379: {"redis", tcp}, 6443: {"kubernetes", tcp}, 6514: {"syslog-tls", tcp}, 6633: {"openflow", tcp},
	6640: {"ovsdb", tcp}, 6641: {"ovn-nb", tcp}, 6642: {"ovn-sb", tcp}, 6653: {"openflow", tcp}, 6667: {"irc", tcp}, 6783: {"weave", either},
	7000: {"cassandra", tcp}, 7472: {"metallb", either}, 8000: {"http-alt", tcp}, 8006: {"proxmox", tcp}, 8008: {"http-alt", tcp}, 8080: {"http-alt", tcp},
	8086: {"influxdb", tcp}, 8123: {"clickhouse", tcp}, 8443: {"https-alt", tcp}, 8472: {"vxlan", udp}, 8474: {"crosstap", tcp}, 8883: {"mqtts", tcp},
	8888: {"http-alt", tcp}, 9000: {"clickhouse", tcp}, 9042: {"cassandra", tcp}, 9090: {"prometheus", tcp}, 9092: {"kafka", tcp},
	9093: {"alertmanager", tcp}, 9100: {"node-exporter", tcp}, 9160: {"cassandra", tcp}, 9200: {"elasticsearch", tcp}, 9300: {"elasticsearch", tcp},
	9418: {"git", tcp}, 9995: {"netflow", udp}, 10050: {"zabbix-agent", tcp}, 10051: {"zabbix", tcp}, 10250: {"kubelet", tcp}, 11211: {"memcached", either},
	15672: {"rabbitmq", tcp}, 16509: {"libvirt", tcp}, 16514: {"libvirt-tls", tcp}, 25565: {"minecraft", tcp}, 27017: {"mongodb", tcp},
	33434: {"traceroute", udp}, 36412: {"s1ap", sctp}, 38412: {"ngap", sctp}, 50051: {"grpc", tcp}, 51820: {"wireguard", udp},
}

// protocols are the IP protocols without ports.
var protocols = [256]string{
	1: "icmp", 2: "igmp", 4: "ipip", 41: "ipv6", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 88: "eigrp", 89: "ospf", 94: "ipip",
	97: "etherip", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 137: "mpls",
}
