package rpcap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"crosstap/internal/frame"
	"crosstap/internal/urlopt"
)

// ParseServer reads rpcap://[ADDRESS][:PORT]?OPTIONS, or rpcaps:// with a certificate. Without an address it is loopback's.
func ParseServer(text string) (ServerConfig, error) {
	c := DefaultServerConfig()
	fail := func(format string, args ...any) (ServerConfig, error) {
		return c, fmt.Errorf("%s: %s", text, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(text)
	if err != nil {
		return c, fmt.Errorf("rpcap: %w", err)
	}
	if u.Scheme != "rpcap" && u.Scheme != "rpcaps" || u.User != nil || u.Path != "" && u.Path != "/" {
		return fail("want rpcap://[ADDRESS][:PORT]?user=NAME&password_file=FILE, or rpcaps://")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	} else if host == "*" {
		host = "::"
	}
	if port == "" {
		port = strconv.Itoa(DefaultPort)
	}
	a, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return fail("want an address of this host to listen on, * for all, and a port")
	}
	c.Addr = a.String()
	if err := c.options(u.RawQuery, u.Scheme == "rpcaps"); err != nil {
		return fail("%v", err)
	}
	return c, nil
}

func (c *ServerConfig) options(query string, secure bool) error {
	var cert, key string
	err := urlopt.Once(query, []string{"user", "password_file", "open", "data_port", "clients", "cert", "key"}, func(name, v string) (err error) {
		switch name {
		case "user":
			c.User = v
		case "password_file":
			c.Password, err = ReadPassword(v)
		case "open":
			err = urlopt.Bool(name, &c.Open, false).Set(v)
		case "data_port":
			var n uint64
			if n, err = strconv.ParseUint(v, 10, 16); err != nil {
				return errors.New("want a port")
			}
			c.DataPort = uint16(n)
		case "clients":
			if c.MaxClients, err = strconv.Atoi(v); err != nil {
				return errors.New("want a number")
			}
		case "cert", "key":
			if !secure {
				return errors.New("cert and key are for rpcaps://")
			}
			*map[string]*string{"cert": &cert, "key": &key}[name] = v
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case c.User != "" && c.Password == "":
		return fmt.Errorf("user=%s without password_file", c.User)
	case secure:
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("cert and key: %w", err)
		}
		c.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return nil
}

// ReadPassword reads a password from the first line of a file.
func ReadPassword(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || len(line) > maxText {
		return "", fmt.Errorf("password: the first line of %s is empty or too long", file)
	}
	return line, nil
}

// Sink is a server as the last stage of a tap.
type Sink struct {
	*Server
	to string
	l  net.Listener
}

// NewSink returns a sink for the URL that c was read from.
func NewSink(to string, c ServerConfig) (*Sink, error) {
	s, err := NewServer(c)
	if err != nil {
		return nil, err
	}
	return &Sink{Server: s, to: to}, nil
}

// Where returns the destination as it was given, without its options.
func (s *Sink) Where() string {
	where, _, _ := strings.Cut(s.to, "?")
	return where
}

// Open listens, so that a port that another program has ends the tap before it captures.
func (s *Sink) Open(ctx context.Context) (err error) {
	s.l, err = s.Listen(ctx)
	return err
}

// Close closes what Open has opened, when Run will not.
func (s *Sink) Close() {
	if s.l != nil {
		s.l.Close()
	}
}

// Exclusion is the filter for the packets of the control connections, and of the data connections when their port is known. Those with
// other ports the server knows itself.
func (s *Sink) Exclusion() string {
	a := s.Addr()
	if a == nil {
		return ""
	}
	ports := fmt.Sprintf("port %d", a.Port)
	if n := s.cfg.DataPort; n != 0 {
		ports = fmt.Sprintf("(%s or port %d)", ports, n)
	}
	if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsUnspecified() {
		return fmt.Sprintf("tcp and host %s and %s", ip.Unmap(), ports)
	}
	return "tcp and " + ports
}

// Run gives the frames of every batch from in to the clients, until in is closed or ctx ends. What waits for a
// client at the end is sent for a second more.
func (s *Sink) Run(ctx context.Context, in <-chan frame.Batch) error {
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(serving, s.l) }()
	defer stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				stop()
				return <-ended
			}
			s.Publish(b.Frames)
			b.Release()
		case err := <-ended:
			return err
		case <-ctx.Done():
			<-ended
			return ctx.Err()
		}
	}
}
