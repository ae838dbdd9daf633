package listen

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	oobLen   = 256 // room for the control messages below
	msgTrunc = unix.MSG_TRUNC

	memInfoDrops = 8 // index of the drop counter in what SO_MEMINFO gives (linux/sock_diag.h)
	memInfoVars  = 9
)

// prepare sets the socket's options and returns the receive buffer that the kernel granted. What an old
// kernel refuses is done without: only the buffer's size is asked back.
func prepare(conn *net.UDPConn, buffer int) (granted int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	local := conn.LocalAddr().(*net.UDPAddr)
	ctlErr := raw.Control(func(f uintptr) {
		fd := int(f)
		if buffer > 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // capped at net.core.rmem_max
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
		if local.IP.IsUnspecified() {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
		granted, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	if ctlErr != nil {
		return 0, ctlErr
	}
	if err != nil {
		return 0, fmt.Errorf("receive buffer: %w", err)
	}
	return granted / 2, nil // the kernel doubles the value for its own bookkeeping (socket(7))
}

// lost reads how many datagrams the kernel dropped at the socket because its buffer was full.
func (s *udpSocket) lost() (n uint32, ok bool) {
	var info [memInfoVars]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	return info[memInfoDrops], e == 0 && size == uint32(unsafe.Sizeof(info))
}

// parseOOB reads a datagram's control messages. It does not allocate.
func parseOOB(b []byte) oobMeta {
	var m oobMeta
	for len(b) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return m
		}
		b = rest
		switch {
		case hdr.Level == unix.SOL_SOCKET && hdr.Type == unix.SCM_TIMESTAMPNS:
			m.timeNS = timespecNS(data)
		case hdr.Level == unix.SOL_SOCKET && hdr.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			m.drops, m.hasDrops = binary.NativeEndian.Uint32(data), true
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= 12:
			m.local = netip.AddrFrom4([4]byte(data[8:12]))
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			m.local = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
	}
	return m
}

// timespecNS reads a struct timespec of 64-bit or 32-bit words.
func timespecNS(b []byte) int64 {
	switch len(b) {
	case 16:
		return int64(binary.NativeEndian.Uint64(b))*1e9 + int64(binary.NativeEndian.Uint64(b[8:]))
	case 8:
		return int64(int32(binary.NativeEndian.Uint32(b)))*1e9 + int64(binary.NativeEndian.Uint32(b[4:]))
	}
	return 0
}
