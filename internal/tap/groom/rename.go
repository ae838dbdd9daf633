package groom

import (
	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// rename replaces the addresses in all headers of the frame under way by pseudonyms, also those that ICMP errors quote and that
// neighbour discovery, ARP and options carry. One that is not all there becomes zeros, with what is behind it in its header.
func (m *mask) rename(it *item) {
	p := &it.pkt
	for _, l := range p.Layers[:p.NLayers] {
		if int(l.Off) >= len(it.f.Data) {
			break
		}
		b := it.own()
		h, rest := b[l.Off:min(end(l), len(b))], b[min(end(l), len(b)):]
		switch l.Kind {
		case dissect.KindEthernet:
			m.macs(h, 0, 6)
		case dissect.KindSLL:
			m.macs(h, 6)
		case dissect.KindSLL2:
			m.macs(h, 12)
		case dissect.KindIPv4, dissect.KindIPv6:
			m.header(h)
		case dissect.KindRouting:
			m.routes(h)
		case dissect.KindDestOpts:
			m.homeAddress(h)
		case dissect.KindARP:
			m.arp(h)
		case dissect.KindICMP:
			m.quoted(rest, h[0] == 3 || h[0] == 4 || h[0] == 5 || h[0] == 11 || h[0] == 12)
			if h[0] == 5 && m.spec.Addresses && len(h) > 4 { // redirect: the gateway
				m.listed(h[4:min(8, len(h))], 4)
			}
		case dissect.KindICMPv6:
			m.quoted(rest, h[0] < 128)
			if h[0] >= 133 && h[0] <= 137 {
				m.neighbours(h[0], rest)
			}
		}
	}
}

func (m *mask) macs(h []byte, at ...int) {
	for _, i := range at {
		switch {
		case !m.spec.MACs || i >= len(h):
		case i+6 <= len(h):
			m.names.mac(h[i : i+6])
		default:
			clear(h[i:])
		}
	}
}

// header replaces the addresses of an IP header.
func (m *mask) header(h []byte) {
	const src4, src6 = 12, 8
	switch {
	case !m.spec.Addresses || len(h) == 0:
	case wire.IPv4(h).Valid():
		m.names.ip(wire.IPv4(h).Src())
		m.names.ip(wire.IPv4(h).Dst())
		m.routers(h[wire.IPv4Len:max(min(wire.IPv4(h).HeaderLen(), len(h)), wire.IPv4Len)])
	case wire.IPv6(h).Valid():
		m.names.ip(wire.IPv6(h).Src())
		m.names.ip(wire.IPv6(h).Dst())
	case h[0]>>4 == 4 && len(h) > src4:
		clear(h[src4:])
	case h[0]>>4 == 6 && len(h) > src6:
		clear(h[src6:])
	}
}

// routes replaces the addresses of a routing header.
func (m *mask) routes(h wire.IPv6Ext) {
	const first = 8
	switch {
	case !m.spec.Addresses || len(h) <= first:
	case h.Len() > len(h):
		clear(h[first:])
	default:
		for list := routes(h); len(list) > 0; list = list[16:] {
			m.names.ip(list[:16])
		}
	}
}

// routers replaces the addresses in options of IPv4: routes that are given and recorded, and time stamps with addresses (RFC 791, section 3.1). Places
// that are still free hold zeros.
func (m *mask) routers(o []byte) {
	const end, nop, record, stamps, loose, strict = 0, 1, 7, 68, 131, 137
	for len(o) > 0 && o[0] != end {
		n := 1
		if o[0] != nop {
			if len(o) < 4 || o[1] < 2 {
				return
			}
			n = min(int(o[1]), len(o))
		}
		switch {
		case o[0] == record || o[0] == loose || o[0] == strict:
			m.listed(o[3:max(n, 3)], 4)
		case o[0] == stamps && o[3]&0x0f != 0: // each in front of its time
			m.listed(o[4:max(n, 4)], 8)
		}
		o = o[n:]
	}
}

// listed replaces the addresses that stand at the start of every step bytes.
func (m *mask) listed(list []byte, step int) {
	for ; len(list) > 0; list = list[min(step, len(list)):] {
		switch a := list[:min(4, len(list))]; {
		case len(a) < 4:
			clear(a)
		case a[0]|a[1]|a[2]|a[3] != 0:
			m.names.ip(a)
		}
	}
}

// homeAddress replaces the address in a home address option (RFC 6275, section 6.3).
func (m *mask) homeAddress(h []byte) {
	const pad1, home = 0, 201
	if len(h) < wire.IPv6ExtMin || !m.spec.Addresses {
		return
	}
	for o := h[2:]; len(o) >= 2; {
		if o[0] == pad1 {
			o = o[1:]
			continue
		}
		n := 2 + int(o[1])
		switch {
		case n > len(o):
			clear(o[2:])
			return
		case o[0] == home && n == 18:
			m.names.ip(o[2:18])
		}
		o = o[n:]
	}
}

func (m *mask) arp(h wire.ARP) {
	if !h.Valid() {
		const addresses = 8
		clear(h[min(addresses, len(h)):])
		return
	}
	for _, a := range [][]byte{h.Sender(), h.Target()} {
		if n := len(a); m.spec.Addresses && (n == 4 || n == 16) {
			m.names.ip(a)
		}
	}
	for _, a := range [][]byte{h.SenderHW(), h.TargetHW()} {
		if len(a) == 6 {
			m.macs(a, 0)
		}
	}
}

// quoted replaces the addresses of the packet that an ICMP error quotes. Its checksums follow by the difference, also where not
// all that they cover is quoted.
func (m *mask) quoted(b []byte, is bool) {
	if !is || !m.spec.Addresses {
		return
	}
	var old [60]byte
	switch {
	case wire.IPv4(b).Valid():
		const src, options = 12, 20
		h := wire.IPv4(b)
		n := copy(old[:], h[:min(h.HeaderLen(), len(b))])
		m.header(b)
		h.SetChecksum(wire.UpdateChecksumBytes(h.Checksum(), old[src:n], h[src:n]))
		if n == h.HeaderLen() && h.FragOff() == 0 {
			quotedTransport(b[n:], h.Protocol(), old[src:options], h[src:options])
		}
	case wire.IPv6(b).Valid():
		addrs := b[8:40]
		copy(old[:], addrs)
		m.header(b)
		quotedTransport(b[wire.IPv6Len:], wire.IPv6(b).NextHeader(), old[:len(addrs)], addrs)
	default:
		m.header(b)
	}
}

// quotedTransport changes the checksum of a quoted transport header by the difference of its addresses.
func quotedTransport(b []byte, proto uint8, old, addrs []byte) {
	at := map[uint8]int{wire.ProtoTCP: 16, wire.ProtoUDP: 6, wire.ProtoICMPv6: 2}[proto]
	if at == 0 || at+2 > len(b) || proto == wire.ProtoUDP && get(b, at) == 0 {
		return
	}
	put(b, covered{at: at, udp: proto == wire.ProtoUDP}, wire.UpdateChecksumBytes(get(b, at), old, addrs))
}

// neighbours replaces what a message of neighbour discovery carries (RFC 4861, section 4): target and destination, and
// the addresses in its options.
func (m *mask) neighbours(kind byte, b []byte) {
	const solicitation, advertisement, redirect = 135, 136, 137
	fixed := map[byte]int{133: 0, 134: 8, solicitation: 16, advertisement: 16, redirect: 32}[kind]
	if len(b) < fixed {
		clear(b)
		return
	}
	if kind >= solicitation && m.spec.Addresses {
		for at := 0; at < fixed; at += 16 {
			m.names.ip(b[at : at+16])
		}
	}
	const sourceLink, targetLink, prefix = 1, 2, 3
	for o := b[fixed:]; len(o) > 2 && o[1] != 0; {
		n := int(o[1]) * 8
		if n > len(o) {
			clear(o[2:])
			break
		}
		switch {
		case o[0] == sourceLink || o[0] == targetLink:
			m.macs(o, 2)
		case o[0] == prefix && n >= 32 && m.spec.Addresses:
			m.names.ip(o[16:32])
		}
		o = o[n:]
	}
}
