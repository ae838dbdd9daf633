package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"crosstap/internal/wire"
)

// rawSender sends UDP datagrams whose IP header it writes itself, so that they have the exporter's source address.
type rawSender struct {
	fd   int
	to   netip.AddrPort
	sa   unix.Sockaddr
	id   uint32 // of fragmented packets
	buf  []byte
	part []byte
}

// Lengths of headers.
const (
	lenIPv4, lenIPv6, lenUDP, lenFragment = 20, 40, 8, 8
	protoUDP, protoFragment               = 17, 44
	hops                                  = 64
)

// newRawSender opens a raw socket for datagrams to one target.
func newRawSender(to netip.AddrPort) (*rawSender, error) {
	s := &rawSender{to: to}
	family := unix.AF_INET
	if to.Addr().Is4() {
		s.sa = &unix.SockaddrInet4{Addr: to.Addr().As4()}
	} else {
		sa := &unix.SockaddrInet6{Addr: to.Addr().As16()}
		if z := to.Addr().Zone(); z != "" {
			return nil, fmt.Errorf("target %v: the source address cannot be kept with a zone", to)
		}
		family, s.sa = unix.AF_INET6, sa
	}
	var err error
	// IPPROTO_RAW means that the header is ours (raw(7), ipv6(7)).
	if s.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("target %v: keeping the source address needs CAP_NET_RAW: %w; give the capability, or source: own", to, err)
		}
		return nil, fmt.Errorf("target %v: raw socket: %w", to, err)
	}
	return s, nil
}

func (s *rawSender) close() error { return unix.Close(s.fd) }

// send sends a datagram as if it came from there, in fragments when it is too long for the way.
func (s *rawSender) send(from netip.AddrPort, data []byte) error {
	p, err := s.packet(from, data)
	if err != nil {
		return err
	}
	if err = unix.Sendto(s.fd, p, 0, s.sa); !errors.Is(err, unix.EMSGSIZE) {
		return err
	}
	mtu, err := s.mtu()
	if err != nil {
		return err
	}
	if len(p) <= mtu {
		return unix.EMSGSIZE
	}
	s.id++
	if s.to.Addr().Is4() {
		return s.fragment(p, lenIPv4, mtu)
	}
	return s.fragment(p, lenIPv6, mtu)
}

// packet writes headers and data. It stays valid until the next call.
func (s *rawSender) packet(from netip.AddrPort, data []byte) ([]byte, error) {
	n := lenUDP + len(data)
	if n > 65535-lenIPv4 {
		return nil, unix.EMSGSIZE
	}
	src, dst := from.Addr().AsSlice(), s.to.Addr().AsSlice()
	b := s.buf[:0]
	if s.to.Addr().Is4() {
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(lenIPv4+n))
		b = append(b, 0, 0, 0, 0, hops, protoUDP, 0, 0) // the kernel writes identification and checksum
	} else {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = append(b, protoUDP, hops)
	}
	b = append(append(b, src...), dst...)
	at := len(b)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), s.to.Port())
	b = append(binary.BigEndian.AppendUint16(b, uint16(n)), 0, 0)
	b = append(b, data...)
	sum := wire.TransportChecksum(src, dst, protoUDP, b[at:])
	if sum == 0 {
		sum = 0xffff // RFC 768: 0 means none
	}
	binary.BigEndian.PutUint16(b[at+6:], sum)
	s.buf = b
	return b, nil
}

// fragment sends a packet in parts (RFC 791, section 3.2; RFC 8200, section 4.5).
func (s *rawSender) fragment(p []byte, header, mtu int) error {
	head, body := p[:header], p[header:]
	room := mtu - header
	if header == lenIPv6 {
		room -= lenFragment
	}
	room &^= 7
	if room < 8 {
		return unix.EMSGSIZE
	}
	for off := 0; off < len(body); off += room {
		end := min(off+room, len(body))
		s.part = s.partOf(head, body[off:end], off, end < len(body))
		if err := unix.Sendto(s.fd, s.part, 0, s.sa); err != nil {
			return err
		}
	}
	return nil
}

// partOf writes one fragment.
func (s *rawSender) partOf(head, body []byte, off int, more bool) []byte {
	b := append(s.part[:0], head...)
	if len(head) == lenIPv4 {
		word := uint16(off / 8)
		if more {
			word |= 0x2000
		}
		binary.BigEndian.PutUint16(b[2:], uint16(lenIPv4+len(body)))
		binary.BigEndian.PutUint16(b[4:], max(uint16(s.id), 1)) // the kernel would replace 0
		binary.BigEndian.PutUint16(b[6:], word)
		return append(b, body...)
	}
	word := uint16(off)
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(b[4:], uint16(lenFragment+len(body)))
	b[6] = protoFragment
	b = append(b, protoUDP, 0)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, word), s.id)
	return append(b, body...)
}

// mtu returns that of the way to the target.
func (s *rawSender) mtu() (int, error) {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
	var sa unix.Sockaddr
	if s.to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Addr: s.to.Addr().As4(), Port: int(s.to.Port())}
	} else {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
		sa = &unix.SockaddrInet6{Addr: s.to.Addr().As16(), Port: int(s.to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil {
		return 0, err
	}
	return unix.GetsockoptInt(fd, level, option)
}
