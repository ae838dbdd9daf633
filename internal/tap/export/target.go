package export

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/flowproto/ipfix"
)

// Target is one collector.
type Target struct {
	Host    string // name or address
	Port    uint16
	Profile ipfix.Profile
	Domain  uint32        // observation domain, 0 for the one of the Config
	Refresh time.Duration // how often templates are sent again, RFC 7011, section 8.1
	Source  netip.Addr    // local address, invalid for the one the system chooses
	MTU     int           // of the path, IP header included; 0 to ask the system
}

// Limits of a target's options.
const (
	DefaultRefresh = time.Minute
	minRefresh     = time.Second
	maxRefresh     = 24 * time.Hour
	minMTU         = ipfix.MinMessage + 48 // IPv6 and UDP header
)

// ParseTarget reads a URL: ipfix://HOST[:4739]?profile=ovs|vmware&domain=N&refresh=60s&source=IP&mtu=N
func ParseTarget(s string) (Target, error) {
	fail := func(format string, args ...any) (Target, error) {
		return Target{}, fmt.Errorf("export: %s: %s", s, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fail("not a URL, want ipfix://HOST[:%d]", ipfix.Port)
	case u.Scheme != "ipfix":
		return fail("scheme %q is not known here, want ipfix://HOST[:%d]", u.Scheme, ipfix.Port)
	case u.Hostname() == "":
		return fail("no host, want ipfix://HOST[:%d]", ipfix.Port)
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.Fragment != "":
		return fail("only a host, a port and options after ? are expected")
	}
	t := Target{Host: u.Hostname(), Port: ipfix.Port, Refresh: DefaultRefresh}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fail("port %q: want 1 to 65535", p)
		}
		t.Port = uint16(n)
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("options: %v", err)
	}
	for name, values := range options {
		if len(values) > 1 {
			return fail("%s is given %d times", name, len(values))
		}
		if err := t.option(name, values[0]); err != nil {
			return fail("%v", err)
		}
	}
	return t, nil
}

func (t *Target) option(name, v string) (err error) {
	switch name {
	case "profile":
		t.Profile, err = ipfix.ParseProfile(v)
	case "domain":
		var n uint64
		if n, err = strconv.ParseUint(v, 0, 32); err != nil {
			return fmt.Errorf("domain %q: want a number of 32 bits", v)
		}
		t.Domain = uint32(n)
	case "refresh":
		if t.Refresh, err = time.ParseDuration(v); err != nil || t.Refresh < minRefresh || t.Refresh > maxRefresh {
			return fmt.Errorf("refresh %q: want a duration from %v to %v, such as 60s", v, minRefresh, maxRefresh)
		}
	case "source":
		if t.Source, err = netip.ParseAddr(v); err != nil {
			return fmt.Errorf("source %q: want an IP address", v)
		}
	case "mtu":
		if t.MTU, err = strconv.Atoi(v); err != nil || t.MTU < minMTU || t.MTU > ipfix.MaxMessage {
			return fmt.Errorf("mtu %q: want %d to %d bytes", v, minMTU, ipfix.MaxMessage)
		}
	default:
		return fmt.Errorf("option %q is not known, use profile, domain, refresh, source or mtu", name)
	}
	return err
}

// String returns the target as a URL, without the options that are at their defaults.
func (t Target) String() string {
	q := url.Values{}
	if t.Profile != ipfix.OVS {
		q.Set("profile", t.Profile.String())
	}
	if t.Domain != 0 {
		q.Set("domain", strconv.FormatUint(uint64(t.Domain), 10))
	}
	if t.Refresh != DefaultRefresh {
		q.Set("refresh", t.Refresh.String())
	}
	if t.Source.IsValid() {
		q.Set("source", t.Source.String())
	}
	if t.MTU != 0 {
		q.Set("mtu", strconv.Itoa(t.MTU))
	}
	u := url.URL{Scheme: "ipfix", Host: t.address(), RawQuery: q.Encode()}
	return u.String()
}

func (t Target) address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }
