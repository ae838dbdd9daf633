package meter

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// plain is arrive for the most frequent frames: Ethernet with at most one 802.1Q tag, IPv4 without options or IPv6 without extension headers, no fragment, no
// super-frame, TCP, or UDP to a port that is no tunnel's; all headers there and their lengths fitting. It reports false for any
// other, which it leaves to the dissector. The result is the same: the key is made of the header's bytes without a dissected packet
// between them, which would be written and read again.
func (w *front) plain(a *arrival, f *frame.Frame) bool {
	const (
		tagged   = wire.EthernetLen + wire.VLANLen
		shortest = tagged + wire.IPv4Len + wire.UDPLen
	)
	b := f.Data
	if len(b) < shortest || len(b) > 0xffff || f.Link != frame.LinkEthernet || f.VNet.Type != frame.GSONone {
		return false
	}
	be, le := binary.BigEndian, binary.LittleEndian
	eth := (*[shortest]byte)(b)
	n, t, vlan := wire.EthernetLen, be.Uint16(eth[12:]), uint64(0)
	if t == wire.TypeVLAN {
		n, t, vlan = tagged, be.Uint16(eth[16:]), uint64(be.Uint16(eth[14:])&0x0fff)
	}
	k := &a.key
	end := max(f.OrigLen, len(b))
	var trans, total int
	place := uint64(f.Dir) & dirMask
	switch {
	case t == wire.TypeIPv4:
		h := (*[wire.IPv4Len + wire.UDPLen]byte)(b[n:])
		if h[0] != 0x45 || be.Uint16(h[6:])&0x3fff != 0 {
			return false
		}
		trans, total = n+wire.IPv4Len, int(be.Uint16(h[2:]))
		a.tos, a.ttl = h[1], h[8]
		k[2] = uint64(h[9])
		k[4], k[5] = 0, v4Prefix|uint64(le.Uint32(h[12:]))<<32 // as flow.V4 lays an address out
		k[6], k[7] = 0, v4Prefix|uint64(le.Uint32(h[16:]))<<32
	case t == wire.TypeIPv6 && len(b) >= n+wire.IPv6Len+wire.UDPLen:
		h := (*[wire.IPv6Len]byte)(b[n:])
		if h[0]>>4 != 6 {
			return false
		}
		trans, total = n+wire.IPv6Len, wire.IPv6Len+int(be.Uint16(h[4:]))
		a.tos, a.ttl = h[0]<<4|h[1]>>4, h[7]
		k[2] = uint64(h[6])
		k[4], k[5] = le.Uint64(h[8:]), le.Uint64(h[16:])
		k[6], k[7] = le.Uint64(h[24:]), le.Uint64(h[32:])
		place |= placeV6
	default:
		return false
	}
	if n+total > end {
		return false
	}
	ports := be.Uint32(b[trans:])
	proto := uint8(k[2])
	start := trans + wire.UDPLen
	switch {
	case proto == wire.ProtoUDP:
		if start > n+total || w.cfg.Dissector.Tunnel(uint16(ports)) {
			return false
		}
		a.tcpFlags, a.sequenced, a.zeroWindow = 0, false, false
	case proto == wire.ProtoTCP && len(b) >= trans+wire.TCPLen:
		h := (*[wire.TCPLen]byte)(b[trans:])
		size := int(h[12]>>4) * 4
		if start = trans + size; size < wire.TCPLen || start > len(b) || start > n+total {
			return false
		}
		flags := be.Uint16(h[12:]) & 0x01ff
		a.sequenced, a.seq, a.tcpFlags = true, be.Uint32(h[4:]), flags
		a.seqLen = uint32(n+total-start) + uint32(flags&tcpFIN) + uint32(flags&tcpSYN>>1) // each takes a number
		a.zeroWindow = be.Uint16(h[14:]) == 0 && flags&(tcpSYN|tcpFIN|tcpRST) == 0
	default:
		return false
	}
	dst, src := be.Uint64(eth[:])>>16, be.Uint64(eth[6:])>>16
	k[0], k[1] = src<<16|vlan, dst<<16
	k[2] = uint64(ports)<<32 | uint64(proto)<<24 | place<<placeShift
	k[3] = uint64(f.Point) << 32
	k[8], k[9], k[10], k[11], k[12] = 0, 0, 0, 0, 0
	a.payload = nil
	if last := min(n+total, len(b)); start < last {
		a.payload = b[start:last]
	}
	z := &a.size // written in its place: what is put together elsewhere is waited for when it is copied
	z.packets, z.octets, z.l2Octets = 1, uint64(total), uint64(end)
	z.minLen = length(total)
	z.maxLen = z.minLen
	a.timeNS = f.TimeNS
	a.marks, a.outerPorts, a.vifs, a.pieceAt, a.learn = flow.Mark(0), 0, 0, noPiece, false
	a.hash = w.hasher.hash(k)
	return true
}
