package sflow

import (
	"math/bits"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/frame"
)

// The link types of a sampled header that are read.
const (
	headerEthernet = 1
	headerIPv4     = 11
	headerIPv6     = 12
	headerMPLS     = 13
	fcsLen         = 4
)

// sampledHeader reads the start of the packet itself.
func (w *walk) sampledHeader(c *cursor) {
	protocol, length, stripped := c.u32(), int(c.u32()), int(c.u32())
	b := c.opaque()
	if b == nil || length < 0 || stripped < 0 {
		return
	}
	link := frame.LinkRaw
	switch protocol {
	case headerEthernet:
		link = frame.LinkEthernet
		w.r.L2Octets = uint64(max(length-min(stripped, fcsLen), 0))
	case headerIPv4:
		link = frame.LinkIPv4
	case headerIPv6:
		link = frame.LinkIPv6
	case headerMPLS:
		w.r.MPLS, b = pop(b)
	default:
		return
	}
	w.header, w.origLen = b, max(length-stripped, len(b))
	sampled := w.r
	n := decode.Header(&w.packet, &w.r, link, b, w.origLen)
	if sampled.VLAN != 0 && w.r.VLAN == 0 {
		w.r.VLAN = sampled.VLAN
	}
	if protocol == headerMPLS {
		w.r.MPLS = sampled.MPLS
	}
	w.r.Octets = uint64(n)
}

// pop takes the label stack off a packet and returns the label on top.
func pop(b []byte) (top uint32, rest []byte) {
	for i := 0; len(b) >= 4; i++ {
		entry := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if i == 0 {
			top = entry >> 12
		}
		b = b[4:]
		if entry&0x100 != 0 {
			break
		}
	}
	return top, b
}

// ethernet reads what an agent tells of the link header beside, or instead of, the header itself.
func (w *walk) ethernet(c *cursor) {
	length, src, dst, typ := c.u32(), c.mac(), c.mac(), c.u32()
	if c.bad || w.header != nil {
		return
	}
	w.r.L2Octets, w.r.SrcMAC, w.r.DstMAC, w.r.EtherType = uint64(length), src, dst, uint16(typ)
}

// ip reads what an agent tells of the IP header.
func (w *walk) ip(c *cursor, v6 bool) {
	h := readIP(c, v6)
	if c.bad || w.header != nil {
		return
	}
	r := &w.r
	r.Src, r.Dst, r.SrcPort, r.DstPort, r.Proto = h.tunnel.Src, h.tunnel.Dst, h.tunnel.SrcPort, h.tunnel.DstPort, h.tunnel.Proto
	r.TCPFlags, r.ToS, r.Octets = h.flags&0xfff, h.tos, uint64(h.length)
	n := uint16(min(h.length, 0xffff))
	r.MinLen, r.MaxLen = n, n
	if r.EtherType == 0 {
		r.EtherType = 0x0800
		if v6 {
			r.EtherType = 0x86dd
		}
	}
}

type ipHeader struct {
	tunnel flow.Tunnel
	length uint32
	flags  uint16
	tos    uint8
}

func readIP(c *cursor, v6 bool) (h ipHeader) {
	h.length = c.u32()
	h.tunnel.Proto = uint8(c.u32())
	if v6 {
		h.tunnel.Src, h.tunnel.Dst = c.v6(), c.v6()
	} else {
		h.tunnel.Src, h.tunnel.Dst = c.v4(), c.v4()
	}
	h.tunnel.SrcPort, h.tunnel.DstPort = uint16(c.u32()), uint16(c.u32())
	h.flags, h.tos = uint16(c.u32()), uint8(c.u32())
	return h
}

// outer reads the outer header of a tunnel that the switch put on or took off.
func (w *walk) outer(c *cursor, format uint32) {
	const l2In, v4Out, v4In = 1022, 1023, 1024
	if format == l2In {
		return // link addresses of the outer frame: a record has no place for them
	}
	h := readIP(c, format != v4Out && format != v4In)
	if h.tunnel.Proto == udp && isTunnelPort(bits.ReverseBytes16(h.tunnel.DstPort)) {
		// Open vSwitch up to 3.1 at least writes both ports with their bytes swapped
		h.tunnel.SrcPort, h.tunnel.DstPort = bits.ReverseBytes16(h.tunnel.SrcPort), bits.ReverseBytes16(h.tunnel.DstPort)
	}
	if !c.bad {
		w.tunnel[1-format&1].tunnel = h.tunnel
	}
}

const udp = 17

// isTunnelPort reports whether tunnels over UDP usually go to a port.
func isTunnelPort(p uint16) bool { return p == 4789 || p == 4790 || p == 8472 || p == 6081 }
