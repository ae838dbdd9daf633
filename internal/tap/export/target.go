package export

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/urlopt"
)

// Format is what datagrams and messages are made of.
type Format uint8

// The formats of flow records.
const (
	IPFIX Format = iota
	NetFlow9
	NetFlow5
)

// Transport is what carries messages.
type Transport uint8

// The transports. TCP and TLS are IPFIX's alone.
const (
	UDP Transport = iota
	TCP
	TLS
)

// Target is one collector of flow records.
type Target struct {
	Format    Format
	Transport Transport
	Host      string // name or address
	Port      uint16
	Domain    uint32        // observation domain, source identifier; 0 for the one of the Config
	Source    netip.Addr    // local address, invalid for the one the system chooses
	MTU       int           // of the path, IP header included; 0 to ask the system
	Filter    string        // as for packets; "" for all records
	Sample    uint32        // one flow in so many; 0 and 1 for all
	Refresh   time.Duration // how often templates (RFC 7011, section 8.4) and options are sent again
	// RefreshPackets is after how many datagrams templates are sent again; 0 for never by number.
	RefreshPackets uint64

	// IPFIX
	Profile ipfix.Profile
	Biflow  bool // both directions of a flow in one record where they come together (RFC 5103)

	// NetFlow v5
	EngineType, EngineID uint8

	// TLS, all files in PEM
	CA         string // what the collector's certificate is checked with; "" for the system's authorities
	Cert, Key  string // our own
	ServerName string // in the collector's certificate; "" for Host

	// TCP and TLS: what may wait on the disk while the collector is away, and where; 0 bytes for nothing, "" for
	// a folder of the target's own in Config.SpoolDir.
	SpoolBytes int64
	SpoolDir   string
}

// Defaults and limits of a target's options.
const (
	DefaultRefresh    = time.Minute
	DefaultSpoolBytes = 256 << 20
	minRefresh        = time.Second
	maxRefresh        = 24 * time.Hour
	minMTU            = ipfix.MinMessage + 48 // IPv6 and UDP header
	minSpool          = 1 << 20
	portTLS           = 4740 // ipfixs
	portNetFlow       = 2055
)

// schemes are the formats and transports by the scheme of a URL.
var schemes = []struct {
	name      string
	format    Format
	transport Transport
	port      uint16
}{
	{"ipfix", IPFIX, UDP, ipfix.Port},
	{"ipfix+tcp", IPFIX, TCP, ipfix.Port},
	{"ipfix+tls", IPFIX, TLS, portTLS},
	{"netflow9", NetFlow9, UDP, portNetFlow},
	{"netflow5", NetFlow5, UDP, portNetFlow},
}

// Schemes returns the schemes of targets of flow records.
func Schemes() (names []string) {
	for _, s := range schemes {
		names = append(names, s.name)
	}
	return names
}

// scheme returns the scheme of a target's URL.
func (t *Target) scheme() string {
	for _, s := range schemes {
		if s.format == t.Format && s.transport == t.Transport {
			return s.name
		}
	}
	return "?"
}

// stream reports whether the target is reached over a connection.
func (t *Target) stream() bool { return t.Transport != UDP }

// ParseTarget reads a URL such as ipfix://HOST[:4739]?profile=vmware&domain=7. docs/guide/export.md lists the options.
func ParseTarget(s string) (Target, error) {
	u, port, err := parseURL(s, Schemes())
	if err != nil {
		return Target{}, err
	}
	t := Target{Host: u.Hostname(), Refresh: DefaultRefresh}
	for _, k := range schemes {
		if k.name == u.Scheme {
			t.Format, t.Transport, t.Port = k.format, k.transport, k.port
		}
	}
	if t.stream() {
		t.SpoolBytes = DefaultSpoolBytes
	}
	if port != 0 {
		t.Port = port
	}
	return t, readOptions(s, t.options(), u)
}

// String returns the target as a URL, without the options that are at their defaults.
func (t Target) String() string {
	u := url.URL{Scheme: t.scheme(), Host: t.address(), RawQuery: t.options().Query()}
	return u.String()
}

func (t Target) address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// options are the options that a target of this kind has.
func (t *Target) options() urlopt.Options {
	all := urlopt.Options{
		urlopt.Addr("source", &t.Source),
		intOption("mtu", &t.MTU, minMTU, ipfix.MaxMessage, "bytes"),
		filterOption("filter", &t.Filter),
		rateOption("sample", &t.Sample, "one flow in so many"),
	}
	if t.Format != NetFlow5 {
		all = append(all, uint32Option("domain", &t.Domain, "a number of 32 bits"), refreshOption("refresh", &t.Refresh))
	}
	switch {
	case t.Format == NetFlow5:
		return append(all, uint8Option("engine_type", &t.EngineType), uint8Option("engine_id", &t.EngineID))
	case !t.stream():
		all = append(all, uint64Option("refresh_packets", &t.RefreshPackets))
	}
	if t.Format == IPFIX {
		all = append(all, profileOption("profile", &t.Profile), urlopt.Bool("biflow", &t.Biflow, false))
	}
	if t.stream() {
		all = append(all, sizeOption("spool", &t.SpoolBytes), urlopt.Text("spool_dir", &t.SpoolDir))
	}
	if t.Transport == TLS {
		all = append(all, urlopt.Text("ca", &t.CA), urlopt.Text("cert", &t.Cert), urlopt.Text("key", &t.Key),
			urlopt.Text("server_name", &t.ServerName))
	}
	return all
}
