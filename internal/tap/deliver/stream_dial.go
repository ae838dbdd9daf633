package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/pki"
)

// dialer makes connections to a receiver.
type dialer struct {
	target *StreamTarget
	to     netip.AddrPort
}

// newDialer checks what the target says of certificates.
func newDialer(t *StreamTarget) (dialer, error) {
	d := dialer{target: t}
	if err := t.validate(); err != nil {
		return d, err
	}
	_, err := d.config()
	return d, err
}

// config reads the certificates, anew for each connection, so that renewed ones are taken without a restart.
func (d dialer) config() (*tls.Config, error) {
	t := d.target
	return pki.Client{CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: cmp.Or(t.ServerName, t.Host)}.Config()
}

// connection is a TLS connection that knows how much of what was written the receiver's host has acknowledged.
type connection struct {
	*tls.Conn
	raw     *countedConn
	peer    string // name in the receiver's certificate
	expires time.Time
	version string
	grace   time.Duration // in which the receiver may still refuse our certificate
	gone    chan error    // gets why the connection ended
	ended   atomic.Bool
}

// countedConn counts the bytes written.
type countedConn struct {
	*net.TCPConn
	n atomic.Uint64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.n.Add(uint64(n))
	return n, err
}

const (
	dialTimeout = 5 * time.Second
	userTimeout = 20 * time.Second // for data to be acknowledged
	leastGrace  = 50 * time.Millisecond
)

// dial makes a connection.
func (d dialer) dial(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	nd := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	if d.target.Source.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(d.target.Source, 0))
	}
	var raw net.Conn
	err = netns.Do(d.target.NetNS, func() (err error) {
		raw, err = nd.DialContext(ctx, "tcp", d.to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	c := &connection{raw: &countedConn{TCPConn: raw.(*net.TCPConn)}, gone: make(chan error, 1)}
	c.control(func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	c.Conn = tls.Client(c.raw, config)
	begin := time.Now()
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	c.grace = min(max(2*time.Since(begin), leastGrace), dialTimeout)
	state := c.ConnectionState()
	c.version = tls.VersionName(state.Version)
	if len(state.PeerCertificates) > 0 {
		c.peer, c.expires = state.PeerCertificates[0].Subject.String(), state.PeerCertificates[0].NotAfter
	}
	go c.listen()
	return c, nil
}

// listen waits for the end of the connection. A receiver has nothing to say.
func (c *connection) listen() {
	_, err := io.Copy(io.Discard, c.Conn)
	if err == nil {
		err = errors.New("closed by the receiver")
	}
	c.ended.Store(true)
	c.gone <- err
}

// welcome waits until a receiver that does not like our certificate would have said so: with TLS 1.3 our side of the handshake
// is over before it has looked (RFC 8446, section 4.6).
func (c *connection) welcome(ctx context.Context) error {
	t := time.NewTimer(c.grace)
	defer t.Stop()
	select {
	case err := <-c.gone:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (c *connection) control(f func(fd int)) {
	if raw, err := c.raw.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

func (c *connection) written() uint64 { return c.raw.n.Load() }

// acknowledged returns how many of the bytes written the receiver's host has (SIOCOUTQ, tcp(7)).
func (c *connection) acknowledged() uint64 {
	waiting, err := 0, error(unix.EBADF)
	c.control(func(fd int) { waiting, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ) })
	if err != nil {
		return 0
	}
	return c.written() - min(uint64(waiting), c.written())
}

// broken reports whether the connection has ended by an error.
func (c *connection) broken() bool {
	code := 0
	c.control(func(fd int) { code, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) })
	return code != 0
}

// interrupt ends a write that waits.
func (c *connection) interrupt() { _ = c.SetWriteDeadline(time.Now()) }

// finish tells the receiver that nothing more comes.
func (c *connection) finish() {
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.CloseWrite()
	_ = c.raw.CloseWrite()
}

func (c *connection) close() { _ = c.raw.Close() }
