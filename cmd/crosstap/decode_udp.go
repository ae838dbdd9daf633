package main

import (
	"encoding/binary"
	"net/netip"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// udpDatagram is the outermost UDP datagram of a frame.
type udpDatagram struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	payload          []byte
	fragment         bool // the first fragment of a longer one
}

func (u udpDatagram) from() string { return netip.AddrPortFrom(u.src, u.srcPort).String() }

var decodeDissector = dissect.New(dissect.Config{
	VXLANPorts: []uint16{}, VXLANGPEPorts: []uint16{}, GenevePorts: []uint16{}, GTPUPorts: []uint16{}, MPLSPorts: []uint16{},
	TZSPPorts: []uint16{}, GREPorts: []uint16{},
})

// findUDP finds the outermost UDP datagram of a frame.
func findUDP(link frame.LinkType, data []byte) (u udpDatagram, ok bool) {
	var p dissect.Packet
	decodeDissector.Dissect(&p, link, data, len(data))
	for i := range p.NLevels {
		l := &p.Levels[i]
		if !l.HasIP || l.Proto != 17 || l.TransOff == 0 || l.FragOff != 0 || int(l.TransOff)+8 > len(data) {
			continue
		}
		udp := data[l.TransOff:]
		u = udpDatagram{src: l.Src.Netip(), dst: l.Dst.Netip(), srcPort: l.SrcPort, dstPort: l.DstPort, payload: udp[8:], fragment: l.MoreFrags}
		if n := int(binary.BigEndian.Uint16(udp[4:])) - 8; n >= 0 && n < len(u.payload) {
			u.payload = u.payload[:n] // without what pads a short Ethernet frame
		}
		return u, true
	}
	return u, false
}
