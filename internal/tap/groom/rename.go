package groom

import (
	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// rename replaces the addresses in all headers of the frame under way by pseudonyms, also those that ICMP errors quote and that
// neighbour discovery and ARP carry.
func (m *mask) rename(it *item) {
	p := &it.pkt
	for _, l := range within(p.Layers[:p.NLayers], len(it.f.Data)) {
		b := it.own()
		h := b[l.Off:end(l)]
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
			for list := routes(h); m.spec.Addresses && len(list) > 0; list = list[16:] {
				m.names.ip(list[:16])
			}
		case dissect.KindARP:
			m.arp(h)
		case dissect.KindICMP:
			m.quoted(b[end(l):], h[0] == 3 || h[0] == 4 || h[0] == 5 || h[0] == 11 || h[0] == 12)
			if h[0] == 5 && m.spec.Addresses && len(h) >= 8 { // redirect: the gateway
				m.names.ip(h[4:8])
			}
		case dissect.KindICMPv6:
			m.quoted(b[end(l):], h[0] < 128)
			if h[0] >= 133 && h[0] <= 137 {
				m.neighbours(h[0], b[end(l):])
			}
		}
	}
}

func (m *mask) macs(h []byte, at ...int) {
	for _, i := range at {
		if m.spec.MACs && i+6 <= len(h) {
			m.names.mac(h[i : i+6])
		}
	}
}

// header replaces the addresses of an IP header.
func (m *mask) header(h []byte) {
	switch {
	case !m.spec.Addresses:
	case wire.IPv4(h).Valid():
		m.names.ip(wire.IPv4(h).Src())
		m.names.ip(wire.IPv4(h).Dst())
	case wire.IPv6(h).Valid():
		m.names.ip(wire.IPv6(h).Src())
		m.names.ip(wire.IPv6(h).Dst())
	}
}

func (m *mask) arp(h wire.ARP) {
	if !h.Valid() {
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
	var old [32]byte
	switch {
	case wire.IPv4(b).Valid():
		h := wire.IPv4(b)
		addrs := h[12:20]
		copy(old[:], addrs)
		m.header(b)
		h.SetChecksum(wire.UpdateChecksumBytes(h.Checksum(), old[:8], addrs))
		if n := h.HeaderLen(); n <= len(b) && h.FragOff() == 0 {
			quotedTransport(b[n:], h.Protocol(), old[:8], addrs)
		}
	case wire.IPv6(b).Valid():
		addrs := b[8:40]
		copy(old[:], addrs)
		m.header(b)
		quotedTransport(b[wire.IPv6Len:], wire.IPv6(b).NextHeader(), old[:], addrs)
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
		return
	}
	if kind >= solicitation && m.spec.Addresses {
		for at := 0; at < fixed; at += 16 {
			m.names.ip(b[at : at+16])
		}
	}
	const sourceLink, targetLink, prefix = 1, 2, 3
	for o := b[fixed:]; len(o) >= 8 && o[1] != 0; {
		n := int(o[1]) * 8
		if n > len(o) {
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
