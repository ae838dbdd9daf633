package deliver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"crosstap/internal/urlopt"
)

// StreamTarget is a receiver of pcapng over TLS.
type StreamTarget struct {
	Host       string
	Port       uint16
	Source     netip.Addr // local address, invalid for the one the system chooses
	NetNS      string     // file of the network namespace to connect from; "" for the process's own
	CA         string     // PEM file that the receiver's certificate is checked with; "" for the system's authorities
	Cert, Key  string     // PEM files of our own certificate; "" for none
	ServerName string     // in the receiver's certificate; "" for Host
	Queue      int        // bytes that may wait
}

// Bounds of a stream's queue.
const (
	DefaultQueue = 16 << 20
	minQueue     = 1 << 20
	maxQueue     = 4 << 30
)

// ParseStream reads a URL such as tls://HOST:PORT?ca=FILE&cert=FILE&key=FILE.
func ParseStream(s string) (StreamTarget, error) {
	fail := func(format string, args ...any) (StreamTarget, error) {
		return StreamTarget{}, fmt.Errorf("deliver: %s: %s", s, fmt.Sprintf(format, args...))
	}
	base, query, _ := strings.Cut(s, "?")
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "tls" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return fail("want tls://HOST:PORT with options after ?")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 || u.Hostname() == "" {
		return fail("want tls://HOST:PORT, the port from 1 to 65535")
	}
	t := StreamTarget{Host: u.Hostname(), Port: uint16(port), Queue: DefaultQueue}
	err = urlopt.Once(query, []string{"ca", "cert", "key", "netns", "queue", "server_name", "source"}, func(name, value string) (err error) {
		switch name {
		case "ca", "cert", "key", "server_name", "netns":
			p := map[string]*string{"ca": &t.CA, "cert": &t.Cert, "key": &t.Key, "server_name": &t.ServerName, "netns": &t.NetNS}[name]
			if *p = value; value == "" {
				err = errors.New("is empty")
			}
		case "source":
			if t.Source, err = netip.ParseAddr(value); err != nil {
				err = errors.New("want an IP address")
			}
		case "queue":
			var n int64
			n, err = urlopt.ParseSize(value, minQueue, maxQueue)
			t.Queue = int(n)
		}
		return err
	})
	if err != nil {
		return fail("%v", err)
	}
	if err := t.validate(); err != nil {
		return fail("%v", err)
	}
	return t, nil
}

func (t *StreamTarget) validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("cert and key belong together: one of them is missing")
	}
	return nil
}

// String returns the target as a URL without its options.
func (t StreamTarget) String() string {
	return "tls://" + net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}
