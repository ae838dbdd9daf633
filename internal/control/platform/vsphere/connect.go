package vsphere

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/session/keepalive"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

const (
	dialTimeout  = 15 * time.Second
	loginWithin  = 30 * time.Second
	keepAlive    = 5 * time.Minute // a vCenter ends a session after 30 idle minutes
	logoutWithin = 5 * time.Second
)

// connection is one session with the server.
type connection struct {
	client  *vim25.Client
	session *session.Manager
	vcenter bool // else a single ESXi host
	user    string

	tags   turn // of who makes the tagger
	tagger *tagger
}

// turn is one after the other, for as long as each has time to wait.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) give() { <-t }

// errLogin marks what no new attempt mends.
type errLogin struct{ error }

func (e errLogin) Unwrap() error { return e.error }

// errPin says that another certificate came than the one that was expected.
type errPin struct{ host, got string }

func (e errPin) Error() string {
	return fmt.Sprintf("the certificate of %s is not the pinned one: its SHA-256 is %s; set this as thumbprint if you trust it", e.host, e.got)
}

// dial connects and logs in.
func (s *settings) dial(ctx context.Context) (*connection, error) {
	sc := soap.NewClient(s.url, false)
	config, err := s.tlsConfig()
	if err != nil {
		return nil, errLogin{err}
	}
	t := sc.DefaultTransport()
	t.TLSClientConfig = config
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	t.DialTLSContext = nil // govmomi's own dials without a time limit
	t.TLSHandshakeTimeout = dialTimeout
	sc.UserAgent = "crosstap"
	client, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, s.explainDial(err)
	}
	client.RoundTripper = keepalive.NewHandlerSOAP(client.RoundTripper, keepAlive, func() error {
		_, err := methods.GetCurrentTime(context.Background(), client)
		return err
	})
	c := &connection{client: client, session: session.NewManager(client), vcenter: client.IsVC(), user: s.User, tags: newTurn()}
	password, err := s.Password()
	if err != nil {
		return nil, errLogin{err}
	}
	if err := c.session.Login(ctx, url.UserPassword(s.User, password)); err != nil {
		return nil, s.explainDial(err)
	}
	return c, nil
}

// tlsConfig trusts the pinned certificate, else the authorities.
func (s *settings) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s: no certificate in PEM in it", s.CAFile)
		}
	}
	if s.pin != nil {
		config.InsecureSkipVerify = true // the pin below says which certificate, and takes no other
		config.VerifyConnection = func(state tls.ConnectionState) error {
			sum := sha256.Sum256(state.PeerCertificates[0].Raw)
			if !bytes.Equal(sum[:], s.pin) {
				return errPin{s.url.Host, colons(sum[:])}
			}
			return nil
		}
	}
	return config, nil
}

// colons writes a thumbprint as vSphere shows it.
func colons(sum []byte) string {
	text := strings.ToUpper(hex.EncodeToString(sum))
	var b strings.Builder
	for i := 0; i < len(text); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(text[i : i+2])
	}
	return b.String()
}

// explainDial says why nobody got in, and whether another attempt can help.
func (s *settings) explainDial(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var pin errPin
	var denied types.InvalidLogin
	switch {
	case errors.As(err, &pin):
		return errLogin{pin}
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		return errLogin{fmt.Errorf("certificate of %s: %w; give its authority (ca) or the SHA-256 of the certificate (thumbprint)", s.url.Host, err)}
	case fault.Is(err, &denied):
		return errLogin{fmt.Errorf("%w: %s does not take this password for user %q (InvalidLogin)", platform.ErrDenied, s.url.Host, s.User)}
	case fault.Is(err, &types.NoPermission{}):
		return errLogin{fmt.Errorf("%w: user %q may not log in to %s (NoPermission)", platform.ErrDenied, s.User, s.url.Host)}
	}
	return fmt.Errorf("%w: %s: %w", platform.ErrUnreachable, s.url.Host, err)
}

// connected returns the present session, or a new one. A server that takes the connection and does not answer holds nobody up for longer than
// loginWithin.
func (v *VSphere) connected(ctx context.Context) (*connection, error) {
	if c := v.present(); c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loginWithin, fmt.Errorf("no answer within %v", loginWithin))
	defer cancel()
	if err := v.dialing.take(ctx); err != nil {
		return nil, fmt.Errorf("platform %s: %w: %s: another attempt is under way: %w", v.set.Name, platform.ErrUnreachable, v.set.url.Host, err)
	}
	defer v.dialing.give()
	if c := v.present(); c != nil {
		return c, nil
	}
	c, err := v.set.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", v.set.Name, err)
	}
	v.mu.Lock()
	v.conn = c
	v.mu.Unlock()
	return c, nil
}

func (v *VSphere) present() *connection {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conn
}

// forget drops a session that the server no longer knows.
func (v *VSphere) forget(c *connection) {
	v.mu.Lock()
	if v.conn == c {
		v.conn = nil
	}
	v.mu.Unlock()
	c.release()
}

// release ends what runs for a session, and its idle connections.
func (c *connection) release() {
	if k, ok := c.client.RoundTripper.(*keepalive.HandlerSOAP); ok {
		k.Stop()
	}
	c.client.CloseIdleConnections()
}

// with runs f in a session, and once more in a new one when the server has ended the old one. Nothing of f was done then.
func (v *VSphere) with(ctx context.Context, f func(*connection) error) error {
	for attempt := 0; ; attempt++ {
		c, err := v.connected(ctx)
		if err != nil {
			return err
		}
		err = f(c)
		if err == nil || !sessionGone(err) {
			return err
		}
		v.forget(c)
		if attempt > 0 {
			return err
		}
	}
}

func sessionGone(err error) bool { return fault.Is(err, &types.NotAuthenticated{}) }

// Close ends the session with the server, if there is one. The platform can be used again afterwards.
func (v *VSphere) Close() error {
	v.mu.Lock()
	c := v.conn
	v.conn = nil
	v.mu.Unlock()
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), logoutWithin)
	defer cancel()
	_ = c.session.Logout(ctx) // the server ends it by itself too
	c.release()
	return nil
}
