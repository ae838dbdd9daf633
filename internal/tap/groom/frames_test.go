package groom_test

import (
	"encoding/binary"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// packet describes a frame to make.
type packet struct {
	src, dst         byte // last bytes of the addresses
	srcPort, dstPort uint16
	id               uint16
	ttl, tos         byte
	mac              byte
	vlan             uint16 // 0 for none
	tcp              bool
	flags            uint16
	seq              uint32
	payload          []byte
}

// frame makes the frame, with right checksums.
func (p packet) frame(timeNS int64, point uint32) frame.Frame {
	b := []byte{2, 0, 0, 0, 1, p.mac, 2, 0, 0, 0, 2, p.mac}
	if p.vlan != 0 {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), p.vlan)
	}
	b = append(b, 8, 0)
	n, proto := 8, byte(wire.ProtoUDP)
	if p.tcp {
		n, proto = 20, wire.ProtoTCP
	}
	ip := make(wire.IPv4, 20, 20+n+len(p.payload))
	ip[0], ip[1], ip[6] = 0x45, p.tos, 0x40
	ip.SetTotalLen(uint16(20 + n + len(p.payload)))
	ip.SetID(p.id)
	ip.SetTTL(p.ttl)
	ip.SetProtocol(proto)
	copy(ip.Src(), []byte{10, 0, 0, p.src})
	copy(ip.Dst(), []byte{10, 0, 0, p.dst})
	ip.UpdateChecksum()
	seg := make([]byte, n, n+len(p.payload))
	wire.UDP(seg).SetSrcPort(p.srcPort)
	wire.UDP(seg).SetDstPort(p.dstPort)
	at := 6
	if p.tcp {
		wire.TCP(seg).SetSeq(p.seq)
		seg[12] = 5 << 4
		wire.TCP(seg).SetFlags(p.flags)
		at = 16
	} else {
		wire.UDP(seg).SetLength(uint16(n + len(p.payload)))
	}
	seg = append(seg, p.payload...)
	binary.BigEndian.PutUint16(seg[at:], wire.TransportChecksum(ip.Src(), ip.Dst(), proto, seg))
	b = append(append(b, ip...), seg...)
	return frame.Frame{Data: b, OrigLen: len(b), TimeNS: timeNS, Point: point, Link: frame.LinkEthernet}
}
