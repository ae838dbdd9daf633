package settings

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"crosstap/internal/collect/listen"
	"crosstap/internal/nearest"
)

// FlowsAddress is where exporters send to.
type FlowsAddress struct {
	Transport listen.Transport
	Addr      string // IP:PORT
}

var transports = []string{"udp", "tcp", "tls", "dtls"} // in the order of listen.Transport

// ParseFlows reads IP:PORT, for UDP, or udp://, tcp://, tls:// or dtls://IP:PORT. Names are not resolved: what listens must
// not depend on DNS.
func ParseFlows(text string) (FlowsAddress, error) {
	scheme, addr, ok := strings.Cut(text, "://")
	if !ok {
		scheme, addr = "udp", text
	}
	i := slices.Index(transports, scheme)
	if i < 0 {
		return FlowsAddress{}, fmt.Errorf("address %q: transport %q: expected one of %s%s", text, scheme, strings.Join(transports, ", "), nearest.Behind(scheme, transports))
	}
	if err := checkAddress(addr); err != nil {
		return FlowsAddress{}, err
	}
	return FlowsAddress{listen.Transport(i), addr}, nil
}

// parsePrefix reads a network or one address.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q: expected an address or a network such as 10.0.0.0/8", text)
	}
	return p, nil
}

// AllowedExporters returns the networks of FlowsAllow.
func (s Settings) AllowedExporters() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range s.FlowsAllow {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Listeners returns what the collector listens on.
func (s Settings) Listeners() ([]listen.Config, error) {
	allow, err := s.AllowedExporters()
	if err != nil {
		return nil, fmt.Errorf("flows-allow: %w", err)
	}
	var out []listen.Config
	for _, text := range s.Flows {
		a, err := ParseFlows(text)
		if err != nil {
			return nil, fmt.Errorf("flows: %w", err)
		}
		c := listen.DefaultConfig()
		c.Transport, c.Addr, c.Allow, c.Sockets = a.Transport, a.Addr, allow, int(s.FlowsSockets)
		if s.FlowsBuffer > 0 {
			c.ReceiveBuffer = int(s.FlowsBuffer)
		}
		if a.Transport == listen.TLS || a.Transport == listen.DTLS {
			if s.FlowsCert == "" || s.FlowsKey == "" {
				return nil, fmt.Errorf("flows: %s: a certificate and its key are needed; give flows-cert and flows-key", text)
			}
			c.TLS = listen.TLSConfig{Cert: s.FlowsCert, Key: s.FlowsKey, ClientCA: s.FlowsClientCA}
		}
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("flows: %s: %w", text, err)
		}
		out = append(out, c)
	}
	return out, nil
}
