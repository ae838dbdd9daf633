package kernel

import (
	"encoding/binary"
	"unsafe"

	"crosstap/internal/apphint"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// asKeys returns bytes as values of a fixed length, in place.
func asKeys[T any](b []byte) []T {
	var x T
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(x)))
}

// flowKey is the key of a flow of either IP version; the rest of a shorter one is 0.
type flowKey [key6Len]byte

// set makes k the key that b begins with.
func (k *flowKey) set(b []byte) {
	n := key4Len
	if b[keyWhere]&whereV6 != 0 {
		n = key6Len
	}
	clear(k[copy(k[:], b[:n]):])
}

// flowState is a flow of which the record is not out yet.
type flowState struct {
	packets, octets, l2Octets uint64
	first, last               uint64 // nanoseconds of the monotonic clock
	flags                     uint16
	firstFlags, tos           uint8
	minTTL, maxTTL            uint8
	minLen, maxLen            uint16
}

// add adds the value of one processor, whose times are ticks of c.
func (s *flowState) add(v []byte, c *clock) {
	ne := binary.NativeEndian
	packets := ne.Uint64(v[valPackets:])
	if packets == 0 {
		return
	}
	first, last := c.ns(ne.Uint64(v[valFirst:])), c.ns(ne.Uint64(v[valLast:]))
	if s.packets == 0 {
		*s = flowState{first: first, last: last, minTTL: v[valMinTTL], maxTTL: v[valMaxTTL], minLen: ne.Uint16(v[valMinLen:]), firstFlags: v[valFirstFlags], tos: v[valToS]}
	} else if first < s.first {
		s.first, s.firstFlags, s.tos = first, v[valFirstFlags], v[valToS]
	}
	s.packets += packets
	s.octets += ne.Uint64(v[valOctets:])
	s.l2Octets += ne.Uint64(v[valL2:])
	s.last = max(s.last, last)
	s.flags |= ne.Uint16(v[valFlags:])
	s.minTTL, s.maxTTL = min(s.minTTL, v[valMinTTL]), max(s.maxTTL, v[valMaxTTL])
	s.minLen, s.maxLen = min(s.minLen, ne.Uint16(v[valMinLen:])), max(s.maxLen, ne.Uint16(v[valMaxLen:]))
}

const tcpSYN, tcpACK, tcpFIN, tcpRST = 0x02, 0x10, 0x01, 0x04

// record fills in a record, but where it was observed.
func (s *flowState) record(r *flow.Record, k *flowKey, offset int64) {
	be, addresses := binary.BigEndian, k[keyAddresses:]
	r.EtherType = wire.TypeIPv4
	if k[keyWhere]&whereV6 != 0 {
		r.EtherType, r.Src, r.Dst = wire.TypeIPv6, flow.V6(addresses[:16]), flow.V6(addresses[16:32])
	} else {
		r.Src, r.Dst = flow.V4(addresses[:4]), flow.V4(addresses[4:8])
	}
	r.Proto, r.Direction, r.VLAN = k[keyProto], k[keyWhere]&^whereV6, binary.NativeEndian.Uint16(k[keyVLAN:])
	if r.Proto == wire.ProtoICMP || r.Proto == wire.ProtoICMPv6 {
		r.ICMPTypeCode = be.Uint16(k[keyPorts+2:])
	} else {
		r.SrcPort, r.DstPort = be.Uint16(k[keyPorts:]), be.Uint16(k[keyPorts+2:])
	}
	r.DstMAC, r.SrcMAC = flow.MACFrom(k[keyMACs:]), flow.MACFrom(k[keyMACs+6:])
	r.StartNS, r.EndNS = int64(s.first)+offset, int64(s.last)+offset
	r.Packets, r.Octets, r.L2Octets = s.packets, s.octets, s.l2Octets
	r.TCPFlags, r.ToS, r.MinTTL, r.MaxTTL = s.flags, s.tos, s.minTTL, s.maxTTL
	r.MinLen, r.MaxLen = s.minLen, s.maxLen
	if r.Proto == wire.ProtoTCP {
		r.FirstTCPFlags = s.firstFlags
		switch s.firstFlags & (tcpSYN | tcpACK) {
		case tcpSYN:
			r.Client = flow.ClientSrc
		case tcpSYN | tcpACK:
			r.Client = flow.ClientDst
		}
	}
	r.App, r.AppHow = apphint.ByPort(r.Proto, r.SrcPort, r.DstPort, r.Client)
}

// Point is what records say about the place where a flow was observed.
type Point struct {
	ID      uint64 // observationPointId (element 138)
	IfIndex uint32
	IfName  string
	Name    string
	Host    string
	Role    flow.Role
}

func (p *Point) put(r *flow.Record) {
	r.Point, r.Role, r.Observer, r.ObserverHost = p.ID, p.Role, p.Name, p.Host
	if frame.Direction(r.Direction) == frame.Ingress {
		r.InIf, r.InIfName = p.IfIndex, p.IfName
	} else {
		r.OutIf, r.OutIfName = p.IfIndex, p.IfName
	}
}
