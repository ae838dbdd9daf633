package export

import (
	"net"

	"golang.org/x/sys/unix"
)

// socketMTU returns the path MTU that the kernel knows for a connected socket.
func socketMTU(c *net.UDPConn, v6 bool) (mtu int, err error) {
	err = control(c, func(fd int) (err error) {
		if v6 {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
			return err
		}
		mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		return err
	})
	return mtu, err
}

// dontFragment makes the kernel discover the path MTU and refuse longer datagrams (RFC 7011, section 10.3.3).
func dontFragment(c *net.UDPConn, v6 bool) error {
	return control(c, func(fd int) error {
		if v6 {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
}

func control(c *net.UDPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
