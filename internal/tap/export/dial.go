package export

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"crosstap/internal/pki"
)

// dialer makes connections to a target.
type dialer struct{ target Target }

// newDialer checks what the target says of certificates.
func newDialer(t *Target) (dialer, error) {
	d := dialer{*t}
	if (t.Cert == "") != (t.Key == "") {
		return d, errors.New("cert and key belong together: one of them is missing")
	}
	if t.Transport == TLS {
		if _, err := d.config(); err != nil {
			return d, err
		}
	}
	return d, nil
}

// config reads the certificates, anew for each connection, so that renewed ones are taken without a restart.
func (d dialer) config() (*tls.Config, error) {
	t := &d.target
	return pki.Client{CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: cmp.Or(t.ServerName, t.Host)}.Config()
}

// connection is a connection that knows how much of what was written the collector's host has acknowledged.
type connection struct {
	net.Conn // TLS, or counted
	counted  *countedConn
	peer     string // name in the collector's certificate
	expires  time.Time
	version  string
	grace    time.Duration // in which the collector may still refuse our certificate
}

// countedConn counts the bytes written.
type countedConn struct {
	*net.TCPConn
	n uint64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.n += uint64(n)
	return n, err
}

// dial makes a connection.
func (d dialer) dial(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nd := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	if d.target.Source.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(d.target.Source, 0))
	}
	raw, err := nd.DialContext(ctx, "tcp", d.target.address())
	if err != nil {
		return nil, err
	}
	counted := &countedConn{TCPConn: raw.(*net.TCPConn)}
	userTimeout(counted.TCPConn, streamTimeout)
	c := &connection{Conn: counted, counted: counted}
	if d.target.Transport != TLS {
		return c, nil
	}
	config, err := d.config()
	if err != nil {
		raw.Close()
		return nil, err
	}
	secure, begin := tls.Client(counted, config), time.Now()
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	c.Conn, c.grace = secure, min(max(2*time.Since(begin), leastGrace), dialTimeout)
	state := secure.ConnectionState()
	c.version = tls.VersionName(state.Version)
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		c.peer, c.expires = leaf.Subject.String(), leaf.NotAfter
	}
	return c, nil
}

const leastGrace = 50 * time.Millisecond

// welcome waits until a collector that does not like our certificate would have said so: with TLS 1.3 our side of the handshake
// is over before it has looked (RFC 8446, section 4.6), and what we send before it speaks would be acknowledged and lost.
func (c *connection) welcome(ctx context.Context, gone chan error) error {
	if c.grace == 0 {
		return nil
	}
	t := time.NewTimer(c.grace)
	defer t.Stop()
	select {
	case err := <-gone:
		gone <- err
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (c *connection) written() uint64 { return c.counted.n }

// acknowledged returns how many of the bytes written the collector's host has.
func (c *connection) acknowledged() uint64 {
	waiting, err := unacknowledged(c.counted.TCPConn)
	if err != nil {
		return 0
	}
	return c.written() - min(uint64(waiting), c.written())
}

// finish ends the connection in order: the collector reads to the end.
func (c *connection) finish(gone <-chan error) error {
	if s, ok := c.Conn.(*tls.Conn); ok {
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		_ = s.CloseWrite()
	}
	_ = c.counted.CloseWrite()
	return nil
}
