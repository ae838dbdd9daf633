// Package netflow5 reads and writes NetFlow version 5: a datagram is a header of 24 bytes and up to 30 records of 48 bytes
// each, all of IPv4 flows, all numbers in network byte order. There are no templates.
//
// The layout is that of Cisco's "NetFlow Export Datagram Format", tables B-3 and B-4.
package netflow5

import "encoding/binary"

// The numbers of the format.
const (
	Version    = 5
	HeaderLen  = 24
	RecordLen  = 48
	MaxRecords = 30
	MaxLen     = HeaderLen + MaxRecords*RecordLen // of a datagram, bytes
	Port       = 2055                             // the usual UDP port; none is registered
)

// Modes of sampling, as the upper two bits of the header's last field tell them.
const (
	SamplingNone          = 0
	SamplingDeterministic = 1 // one packet in every interval
	SamplingRandom        = 2 // one packet in interval on average
	MaxSamplingInterval   = 1<<14 - 1
)

// Header is the header of a datagram in place: version (16 bits), count (16), system uptime (32, ms), seconds (32) and
// nanoseconds (32) of the exporter's clock, flow sequence (32), engine type (8), engine id (8), sampling (16: mode 2, interval 14).
// Call Valid before the rest.
type Header []byte

// Valid reports whether the header is there and of this version. It says nothing about Count, which may promise more than
// there is.
func (h Header) Valid() bool {
	return len(h) >= HeaderLen && binary.BigEndian.Uint16(h) == Version
}

// Count returns the number of records that the header promises.
func (h Header) Count() int { return int(binary.BigEndian.Uint16(h[2:])) }

// UptimeMS returns the milliseconds since the exporter started, modulo 2³², when the datagram was made.
func (h Header) UptimeMS() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// UnixSecs returns the seconds of the exporter's clock when the datagram was made.
func (h Header) UnixSecs() uint32 { return binary.BigEndian.Uint32(h[8:]) }

// UnixNsecs returns the nanoseconds beside UnixSecs. Foreign exporters may put 10⁹ and more here.
func (h Header) UnixNsecs() uint32 { return binary.BigEndian.Uint32(h[12:]) }

// Sequence returns the number of flows that the engine had sent before this datagram, modulo 2³². Open vSwitch sends the
// number of the last record instead of the first one.
func (h Header) Sequence() uint32 { return binary.BigEndian.Uint32(h[16:]) }

// EngineType returns the kind of the engine that metered the flows.
func (h Header) EngineType() uint8 { return h[20] }

// EngineID returns the number of the engine.
func (h Header) EngineID() uint8 { return h[21] }

// SamplingMode returns the upper two bits of the sampling field.
func (h Header) SamplingMode() uint8 { return h[22] >> 6 }

// SamplingInterval returns N of one packet in N; 0 when the exporter does not sample.
func (h Header) SamplingInterval() uint16 {
	return binary.BigEndian.Uint16(h[22:]) & MaxSamplingInterval
}

// SetVersion writes the version, 5.
func (h Header) SetVersion() { binary.BigEndian.PutUint16(h, Version) }

// SetCount writes the number of records, at most MaxRecords.
func (h Header) SetCount(n int) { binary.BigEndian.PutUint16(h[2:], uint16(n)) }

// SetUptimeMS writes the milliseconds since the exporter started, modulo 2³².
func (h Header) SetUptimeMS(ms uint32) { binary.BigEndian.PutUint32(h[4:], ms) }

// SetUnix writes the exporter's clock.
func (h Header) SetUnix(secs, nsecs uint32) {
	binary.BigEndian.PutUint32(h[8:], secs)
	binary.BigEndian.PutUint32(h[12:], nsecs)
}

// SetSequence writes the number of flows sent before, modulo 2³².
func (h Header) SetSequence(n uint32) { binary.BigEndian.PutUint32(h[16:], n) }

// SetEngine writes type and number of the engine.
func (h Header) SetEngine(kind, id uint8) { h[20], h[21] = kind, id }

// SetSampling writes the mode and the interval, at most MaxSamplingInterval.
func (h Header) SetSampling(mode uint8, interval uint16) {
	binary.BigEndian.PutUint16(h[22:], uint16(mode)<<14|interval&MaxSamplingInterval)
}

// Record is one flow's record in place. At RecordLen bytes or more every method is safe.
//
//	 0 source address 4        16 packets 4             32 source port 2        40 source AS 2
//	 4 destination address 4   20 octets 4              34 destination port 2   42 destination AS 2
//	 8 next hop 4              24 first switched 4, ms  36 zero 1               44 source mask 1
//	12 input interface 2       28 last switched 4, ms   37 TCP flags 1          45 destination mask 1
//	14 output interface 2                               38 protocol 1, 39 ToS 1 46 zero 2
type Record []byte

// Src returns the four bytes of the source address.
func (r Record) Src() []byte { return r[0:4:4] }

// Dst returns the four bytes of the destination address.
func (r Record) Dst() []byte { return r[4:8:8] }

// NextHop returns the four bytes of the next router's address.
func (r Record) NextHop() []byte { return r[8:12:12] }

// Input returns the SNMP index of the interface that the packets came in by.
func (r Record) Input() uint16 { return binary.BigEndian.Uint16(r[12:]) }

// Output returns the SNMP index of the interface that the packets left by.
func (r Record) Output() uint16 { return binary.BigEndian.Uint16(r[14:]) }

// Packets returns the number of packets.
func (r Record) Packets() uint32 { return binary.BigEndian.Uint32(r[16:]) }

// Octets returns the number of layer-3 bytes.
func (r Record) Octets() uint32 { return binary.BigEndian.Uint32(r[20:]) }

// FirstMS returns the exporter's uptime at the first packet, in milliseconds modulo 2³².
func (r Record) FirstMS() uint32 { return binary.BigEndian.Uint32(r[24:]) }

// LastMS returns the exporter's uptime at the last packet, in milliseconds modulo 2³².
func (r Record) LastMS() uint32 { return binary.BigEndian.Uint32(r[28:]) }

// SrcPort returns the source port of TCP and UDP, 0 for ICMP.
func (r Record) SrcPort() uint16 { return binary.BigEndian.Uint16(r[32:]) }

// DstPort returns the destination port of TCP and UDP; for ICMP the type in the high byte and the code in the low one.
func (r Record) DstPort() uint16 { return binary.BigEndian.Uint16(r[34:]) }

// TCPFlags returns the union of the TCP control bits of all packets.
func (r Record) TCPFlags() uint8 { return r[37] }

// Proto returns the IP protocol.
func (r Record) Proto() uint8 { return r[38] }

// ToS returns the type of service byte of the flow's first packet.
func (r Record) ToS() uint8 { return r[39] }

// SrcAS returns the autonomous system of the source, 0 for not known.
func (r Record) SrcAS() uint16 { return binary.BigEndian.Uint16(r[40:]) }

// DstAS returns the autonomous system of the destination, 0 for not known.
func (r Record) DstAS() uint16 { return binary.BigEndian.Uint16(r[42:]) }

// SrcMask returns the length of the source's prefix, 0 for not known.
func (r Record) SrcMask() uint8 { return r[44] }

// DstMask returns the length of the destination's prefix, 0 for not known.
func (r Record) DstMask() uint8 { return r[45] }

// SetInterfaces writes the SNMP indexes of the input and the output interface.
func (r Record) SetInterfaces(in, out uint16) {
	binary.BigEndian.PutUint16(r[12:], in)
	binary.BigEndian.PutUint16(r[14:], out)
}

// SetCounts writes the numbers of packets and of layer-3 bytes.
func (r Record) SetCounts(packets, octets uint32) {
	binary.BigEndian.PutUint32(r[16:], packets)
	binary.BigEndian.PutUint32(r[20:], octets)
}

// SetTimes writes the uptime at the first and the last packet, in milliseconds modulo 2³².
func (r Record) SetTimes(firstMS, lastMS uint32) {
	binary.BigEndian.PutUint32(r[24:], firstMS)
	binary.BigEndian.PutUint32(r[28:], lastMS)
}

// SetPorts writes the ports; for ICMP 0, and type and code.
func (r Record) SetPorts(src, dst uint16) {
	binary.BigEndian.PutUint16(r[32:], src)
	binary.BigEndian.PutUint16(r[34:], dst)
}

// SetIP writes TCP control bits, protocol and type of service.
func (r Record) SetIP(tcpFlags, proto, tos uint8) { r[37], r[38], r[39] = tcpFlags, proto, tos }
