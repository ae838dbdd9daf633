package export

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged returns how many bytes written to a connection the other host has not acknowledged (SIOCOUTQ, tcp(7)). It is
// still known when the connection is broken.
func unacknowledged(c *net.TCPConn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil {
		return 0, e
	}
	return n, err
}

// userTimeout makes the kernel give a connection up when data stay unacknowledged for so long (TCP_USER_TIMEOUT, tcp(7)).
func userTimeout(c *net.TCPConn, d time.Duration) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}

// lockFile opens a file that this process alone has.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			err = errSpoolBusy
		}
		return nil, err
	}
	return f, nil
}
