package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
)

// oobMeta is what the kernel says beside a datagram.
type oobMeta struct {
	timeNS   int64      // receive time, 0 when not told
	drops    uint32     // datagrams dropped at this socket so far, modulo 2³²
	hasDrops bool       //
	local    netip.Addr // the address it was sent to
}

// dropCounter turns the kernel's cumulative counter, read at several places, into increments.
type dropCounter struct {
	mu   sync.Mutex
	last uint32
}

// advance returns by how much the counter has grown; a value from before the last one gives 0.
func (c *dropCounter) advance(counter uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int32(counter - c.last)
	if n <= 0 {
		return 0
	}
	c.last = counter
	return int(n)
}

// unmap gives IPv4 addresses of a dual-stack socket their own form.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// bindHint adds the way out to the usual errors of binding.
func bindHint(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; another collector has the port (see: ss -lunp), or choose another with --flows", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; no interface has this address", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w; ports below 1024 need CAP_NET_BIND_SERVICE", err)
	}
	return err
}

// passing reports whether accepting may go on after an error: the machine is short of something, or the peer is gone already.
func passing(err error) bool {
	return temporary(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.EPERM)
}

// temporary reports whether receiving may go on after an error.
func temporary(err error) bool {
	return errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNREFUSED)
}
