// Package pki reads what TLS needs from files in PEM.
package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Client says how the client's side of a connection is protected.
type Client struct {
	CA         string // file of the authorities for the server's certificate; "" for the system's
	Cert, Key  string // files of our own certificate and its key; "" for none
	ServerName string // in the server's certificate
}

// Config reads the files.
func (c Client) Config() (*tls.Config, error) {
	t := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		var err error
		if t.RootCAs, err = Authorities(c.CA); err != nil {
			return nil, err
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("cert and key belong together: one of them is missing")
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Authorities reads the certificates of a file.
func Authorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s: no certificate in it", path)
	}
	return pool, nil
}
