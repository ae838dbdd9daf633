package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"

	"github.com/pion/dtls/v3"
)

// bindDTLS opens a port for DTLS 1.2 (RFC 6347), as RFC 7011, section 11.1, wants for export over UDP.
func bindDTLS(_ context.Context, l *Listener) (transport, error) {
	c := &connections{l: l, open: make(map[*conn]struct{}), from: make(map[netip.Addr]int)}
	var err error
	if c.certs, err = newCertificates(l.cfg.TLS); err != nil {
		return nil, err
	}
	addr, err := net.ResolveUDPAddr("udp", l.cfg.Addr)
	if err != nil {
		return nil, err
	}
	opts := []dtls.ServerOption{
		dtls.WithGetCertificate(func(*dtls.ClientHelloInfo) (*tls.Certificate, error) { return &c.certs.get().cert, nil }),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
	}
	if l.cfg.TLS.ClientCA != "" {
		opts = append(opts, dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithVerifyPeerCertificate(c.certs.verify))
	}
	ln, err := dtls.ListenWithOptions("udp", addr, opts...)
	if err != nil {
		return nil, bindHint(err)
	}
	c.ln, c.addr = ln, addrPortOf(ln.Addr())
	return c, nil
}

// verify checks an exporter's certificate against the issuers in use now.
func (c *certificates) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 {
		return errors.New("the exporter shows no certificate")
	}
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, b := range raw[1:] {
		if cert, err := x509.ParseCertificate(b); err == nil {
			between.AddCert(cert)
		}
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: c.get().clients, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
