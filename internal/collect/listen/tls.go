package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSConfig names the files of TLS and DTLS, in PEM. They are read again when they change.
type TLSConfig struct {
	Cert, Key string // of the collector
	ClientCA  string // issuers of the exporters' certificates; every exporter must then show one (RFC 7011, section 11.3)
}

// identityFiles is what the files of a TLSConfig hold.
type identityFiles struct {
	cert    tls.Certificate
	clients *x509.CertPool // nil for none
	stamp   fileStamp
}

// fileStamp changes when one of the files does.
type fileStamp [3]struct {
	modified time.Time
	size     int64
}

func (c TLSConfig) names() [3]string { return [3]string{c.Cert, c.Key, c.ClientCA} }

// stamp looks at the files without reading them.
func (c TLSConfig) stamp() (s fileStamp, err error) {
	for i, name := range c.names() {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i].modified, s[i].size = info.ModTime(), info.Size()
	}
	return s, nil
}

// load reads the files.
func (c TLSConfig) load() (*identityFiles, error) {
	if c.Cert == "" || c.Key == "" {
		return nil, errors.New("a certificate and its key are needed; give --flows-cert and --flows-key")
	}
	f := new(identityFiles)
	var err error
	if f.stamp, err = c.stamp(); err != nil {
		return nil, err
	}
	if f.cert, err = tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		return nil, fmt.Errorf("certificate %s, key %s: %w", c.Cert, c.Key, err)
	}
	if c.ClientCA == "" {
		return f, nil
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, err
	}
	f.clients = x509.NewCertPool()
	if !f.clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client CA %s: no certificate in it", c.ClientCA)
	}
	return f, nil
}

// lookEvery is how often at most the files are looked at.
const lookEvery = time.Second

// certificates gives the newest usable content of the files. Its methods are safe for concurrent use.
type certificates struct {
	cfg TLSConfig

	mu      sync.Mutex
	now     *identityFiles
	lookedS time.Time
	failure string
}

func newCertificates(cfg TLSConfig) (*certificates, error) {
	f, err := cfg.load()
	if err != nil {
		return nil, err
	}
	return &certificates{cfg: cfg, now: f, lookedS: time.Now()}, nil
}

// get returns what is in use. Files that cannot be used leave what was; err tells of them.
func (c *certificates) get() *identityFiles {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.lookedS) < lookEvery {
		return c.now
	}
	c.lookedS = time.Now()
	stamp, err := c.cfg.stamp()
	if err == nil && stamp != c.now.stamp {
		var f *identityFiles
		if f, err = c.cfg.load(); err == nil {
			c.now = f
		}
	}
	c.failure = ""
	if err != nil {
		c.failure = err.Error()
	}
	return c.now
}

// err tells why new files are not in use, "" when they are.
func (c *certificates) err() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// server is the configuration of one handshake.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			f := c.get()
			cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{f.cert}, SessionTicketsDisabled: true}
			if f.clients != nil {
				cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, f.clients
			}
			return cfg, nil
		},
	}
}
