//go:build unix

package vm

import "syscall"

// bound limits both buffers of a socket to streamBuffer.
func bound(c syscall.RawConn) error {
	var err error
	set := func(fd uintptr) {
		if err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, streamBuffer); err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, streamBuffer)
		}
	}
	if e := c.Control(set); e != nil {
		return e
	}
	return err
}
