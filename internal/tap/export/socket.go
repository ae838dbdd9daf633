package export

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"crosstap/internal/flowproto/ipfix"
)

// Bytes of headers before a message, and the path that is assumed when the system knows better only of wider
// ones: Ethernet's.
const (
	headersV4    = 20 + 8
	headersV6    = 40 + 8
	ethernetPath = 1500
)

// maxMessage returns the longest message for a path.
func maxMessage(mtu int, v6 bool) int {
	if mtu == 0 {
		mtu = ethernetPath
	}
	if v6 {
		return mtu - headersV6
	}
	return mtu - headersV4
}

// pathMTU knows how wide the way to a collector is.
type pathMTU struct {
	v6     bool
	wanted int // the operator's, 0 for none
}

// message returns the longest message that the path takes, as far as the system knows now.
func (p pathMTU) message(c *net.UDPConn) int {
	mtu := ethernetPath
	if p.wanted != 0 {
		mtu = p.wanted
	}
	if n, err := socketMTU(c, p.v6); err == nil && n > 0 {
		mtu = min(mtu, n)
	}
	return maxMessage(mtu, p.v6)
}

// narrower returns a length below one that was too long: what the system knows now, or else three quarters.
func (p pathMTU) narrower(c *net.UDPConn, tooLong int) int {
	if c != nil {
		if mtu, err := socketMTU(c, p.v6); err == nil && mtu > 0 {
			if n := maxMessage(mtu, p.v6); n < tooLong {
				return max(n, ipfix.MinMessage)
			}
		}
	}
	return max(tooLong*3/4, ipfix.MinMessage)
}

// canNarrow reports whether messages can be made shorter than n bytes.
func (p pathMTU) canNarrow(n int) bool { return n > ipfix.MinMessage }

// ready makes sure that there is a socket. It tries at most once a second.
func (s *sender) ready(ctx context.Context, now time.Time) bool {
	if s.conn != nil {
		return true
	}
	if now.Before(s.dialAt) {
		return false
	}
	s.dialAt = now.Add(retryAfter)
	if err := s.dial(ctx); err != nil {
		s.note(fmt.Errorf("export: %s: %w", s.target.address(), err))
		return false
	}
	return true
}

// dial opens a socket to the collector. A new socket is a new transport session: all templates go first.
func (s *sender) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: retryAfter}
	if s.target.Source.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.target.Source, 0))
	}
	c, err := d.DialContext(ctx, "udp", s.target.address())
	if err != nil {
		return err
	}
	conn := c.(*net.UDPConn)
	remote := conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	s.path = pathMTU{v6: remote.Is6(), wanted: s.target.MTU}
	if err := dontFragment(conn, s.path.v6); err != nil {
		s.log.Debug("path MTU discovery is not available", "error", err)
	}
	s.enc.SetMaxLen(s.path.message(conn))
	s.enc.Forget()
	s.mu.Lock()
	s.conn = conn
	s.st.Local, s.st.MaxMessage = conn.LocalAddr().String(), s.enc.MaxLen()
	s.mu.Unlock()
	s.failures = 0
	return nil
}

// close gives the socket up. The next message tries to get a new one.
func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close() // a UDP socket has nothing left to tell
		s.conn, s.st.Local = nil, ""
	}
}

// interrupt ends a write that waits.
func (s *sender) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.SetWriteDeadline(time.Now())
	}
}
