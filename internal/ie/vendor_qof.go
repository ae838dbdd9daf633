package ie

// qof is what QoF, a flow meter of ETH Zürich, tells of TCP. The bit 14 makes an element the same of the other direction.
func qof() map[uint16]row {
	return map[uint16]row{
		1024:  {"tcpSequenceCount", u64, dlt, oc},
		1025:  {"tcpRetransmitCount", u64, dlt, pk},
		1029:  {"minTcpRttMilliseconds", u32, qty, ms},
		1030:  {"lastTcpRttMilliseconds", u32, qty, ms},
		1045:  {"tcpReceiverStallCount", u32, dlt, none},
		17408: {"reverseTcpSequenceCount", u64, dlt, oc},
		17409: {"reverseTcpRetransmitCount", u64, dlt, pk},
		17429: {"reverseTcpReceiverStallCount", u32, dlt, none},
	}
}
