package rpcap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"crosstap/internal/pki"
	"crosstap/internal/urlopt"
)

// Target is an interface of another host, as a URL names it.
type Target struct {
	ClientConfig
	Device   string
	Sampling Sampling
	Here     bool // the filter runs here, not at the remote end
}

// IsTarget reports whether a text is the URL of an interface of another host.
func IsTarget(text string) bool {
	return strings.HasPrefix(text, "rpcap://") || strings.HasPrefix(text, "rpcaps://")
}

// ParseTarget reads rpcap://[USER@]HOST[:PORT]/INTERFACE?OPTIONS; rpcaps:// is TLS. Without an interface Device is "".
func ParseTarget(text string) (Target, error) {
	var t Target
	fail := func(format string, args ...any) (Target, error) {
		return t, fmt.Errorf("rpcap: %s", fmt.Sprintf(format, args...)) // without the URL: it may hold a password
	}
	u, err := url.Parse(text)
	if err != nil {
		return fail("the URL cannot be read: want rpcap://[USER@]HOST[:%d]/INTERFACE", DefaultPort)
	}
	if u.Hostname() == "" || !IsTarget(text) || u.Fragment != "" {
		return fail("%s: want rpcap://[USER@]HOST[:%d]/INTERFACE, or rpcaps:// for TLS", u.Redacted(), DefaultPort)
	}
	t.Host, t.Device = u.Hostname(), strings.TrimPrefix(u.Path, "/")
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fail("port %q: want 1 to 65535", p)
		}
		t.Port = uint16(n)
	}
	t.User = u.User.Username()
	t.Password, _ = u.User.Password()
	if u.Scheme == "rpcaps" {
		t.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if err := urlopt.Once(u.RawQuery, []string{"password_file", "sample", "filter", "ca", "server_name"}, t.option); err != nil {
		return fail("%s: %v", u.Redacted(), err)
	}
	return t, nil
}

func (t *Target) option(name, v string) (err error) {
	switch name {
	case "ca", "server_name":
		if t.TLS == nil {
			return errors.New("it is for rpcaps://")
		}
	}
	switch name {
	case "password_file":
		t.Password, err = ReadPassword(v)
	case "sample":
		t.Sampling, err = parseSample(v)
	case "filter":
		if v != "here" && v != "there" {
			return errors.New("want there, at the remote end, or here")
		}
		t.Here = v == "here"
	case "ca":
		t.TLS.RootCAs, err = pki.Authorities(v)
	case "server_name":
		t.TLS.ServerName = v
	}
	return err
}

// parseSample reads N for one frame in N, or Nms for the first after so many milliseconds.
func parseSample(v string) (Sampling, error) {
	digits, ms := strings.CutSuffix(v, "ms")
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n == 0 {
		return Sampling{}, errors.New("want N for one frame in N, or Nms for the first after so many milliseconds")
	}
	if ms {
		return Sampling{SampleAfter, uint32(n)}, nil
	}
	return Sampling{SampleEvery, uint32(n)}, nil
}

// String returns the target without its password.
func (t Target) String() string {
	port := t.Port
	if port == 0 {
		port = DefaultPort
	}
	scheme := "rpcap"
	if t.TLS != nil {
		scheme = "rpcaps"
	}
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s://%s:%d/%s", scheme, host, port, t.Device)
}
