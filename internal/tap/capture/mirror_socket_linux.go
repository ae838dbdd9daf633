package capture

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// bind opens one socket.
func bind(e *Endpoint, family int) (int, error) {
	kind, proto := unix.SOCK_DGRAM, 0
	if e.Encap.raw() {
		kind, proto = unix.SOCK_RAW, unix.IPPROTO_GRE
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err == unix.EPERM || err == unix.EACCES {
		return -1, fmt.Errorf("raw socket: %w: GRE and ERSPAN need CAP_NET_RAW: run as root, or once \"setcap cap_net_raw+ep\" on the program", os.ErrPermission)
	}
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	var to unix.Sockaddr
	if family == unix.AF_INET6 {
		sa := &unix.SockaddrInet6{Port: int(e.Port)}
		if e.Addr.IsValid() {
			sa.Addr = e.Addr.As16()
		} else if !e.Encap.raw() {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		}
		to = sa
	} else {
		sa := &unix.SockaddrInet4{Port: int(e.Port)}
		if e.Addr.IsValid() {
			sa.Addr = e.Addr.As4()
		}
		to = sa
	}
	if err := unix.Bind(fd, to); err != nil {
		unix.Close(fd)
		if err == unix.EADDRINUSE {
			return -1, fmt.Errorf("%w: another program or a tunnel interface of the kernel has the port: stop it, or capture from that interface with -i", err)
		}
		return -1, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

// prepare sets what the socket needs before its first packet.
func (s *mirrorSocket) prepare(buffer int) error {
	if buffer > 0 && unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer/2) != nil { // the kernel doubles it
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer/2)
	}
	s.granted, _ = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if s.granted < buffer/2 {
		s.mirror.log.Warn("the kernel grants a smaller socket buffer: raise net.core.rmem_max, or run with CAP_NET_ADMIN", "endpoint", s.endpoint.String(), "wanted", buffer, "granted", s.granted)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("time stamps: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1); err != nil {
		return fmt.Errorf("drop counter: %w", err)
	}
	if s.endpoint.Encap.raw() {
		return s.divide()
	}
	return nil
}

// divide has the kernel pass over GRE packets that are for the other kind of endpoint: what a raw socket does not want is no loss.
func (s *mirrorSocket) divide() error {
	const ldxMSH, ldInd, ldAbs, jeq, ret = 0xb1, 0x48, 0x28, 0x15, 0x06 // with a halfword from X + 2
	load := []unix.SockFilter{{Code: ldAbs, K: 2}}                      // an IPv6 socket sees no IP header
	if s.ip4 {
		load = []unix.SockFilter{{Code: ldxMSH, K: 0}, {Code: ldInd, K: 2}}
	}
	erspan, other := uint32(0), uint32(1<<18)
	if s.endpoint.Encap == EncapERSPAN {
		erspan, other = other, erspan
	}
	prog := append(load, unix.SockFilter{Code: jeq, Jt: 2, K: 0x88be}, unix.SockFilter{Code: jeq, Jt: 1, K: 0x22eb},
		unix.SockFilter{Code: ret, K: other}, unix.SockFilter{Code: ret, K: erspan})
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}
