package flow

import "strconv"

var protoNames = map[uint8]string{1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
	58: "icmp6", 88: "eigrp", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}

// ProtoText returns the usual name of an IP protocol, else its number.
func ProtoText(p uint8) string {
	if name, ok := protoNames[p]; ok {
		return name
	}
	return strconv.Itoa(int(p))
}

// DirectionText returns "ingress" or "egress" for a Record's Direction, "" for unknown.
func DirectionText(d uint8) string {
	switch d {
	case 0:
		return "ingress"
	case 1:
		return "egress"
	}
	return ""
}

// TCPFlagText returns the letters of the flags that are set, in the order of a connection's life, such as "SAPF": SYN, ACK, PSH, FIN.
func TCPFlagText(flags uint16) string {
	const letters = "SAPFRUEC"
	var out []byte
	for i, bit := range [len(letters)]uint16{0x02, 0x10, 0x08, 0x01, 0x04, 0x20, 0x40, 0x80} {
		if flags&bit != 0 {
			out = append(out, letters[i])
		}
	}
	return string(out)
}
