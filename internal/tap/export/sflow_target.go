package export

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"crosstap/internal/flowproto/sflow"
	"crosstap/internal/urlopt"
)

// SFlowTarget is one collector of sFlow.
type SFlowTarget struct {
	Host     string
	Port     uint16
	Sample   uint32        // one packet in so many, chosen at random
	Header   int           // bytes of a packet that are sent
	Counters time.Duration // how often each interface's counters are sent, 0 for never
	Agent    netip.Addr    // the agent's address, invalid for the local one of the socket
	SubAgent uint32
	Source   netip.Addr
	MTU      int
	Filter   string
}

// Defaults of an sFlow target.
const (
	DefaultSFlowRate     = 256
	DefaultSFlowHeader   = 128
	DefaultSFlowCounters = 20 * time.Second
	sflowPort            = 6343
)

// ParseSFlow reads a URL such as sflow://HOST[:6343]?sample=256. docs/guide/export.md lists the options.
func ParseSFlow(s string) (SFlowTarget, error) {
	u, port, err := parseURL(s, []string{"sflow"})
	if err != nil {
		return SFlowTarget{}, err
	}
	t := SFlowTarget{
		Host: u.Hostname(), Port: sflowPort, Sample: DefaultSFlowRate, Header: DefaultSFlowHeader, Counters: DefaultSFlowCounters,
	}
	if port != 0 {
		t.Port = port
	}
	return t, readOptions(s, t.options(), u)
}

func (t *SFlowTarget) options() urlopt.Options {
	return urlopt.Options{
		urlopt.Addr("agent", &t.Agent),
		uint32Option("sub_agent", &t.SubAgent, "a number of 32 bits"),
		rateOption("sample", &t.Sample, "one packet in so many"),
		intOption("header", &t.Header, 16, sflow.MaxHeader, "bytes"),
		durationOption("counters", &t.Counters, DefaultSFlowCounters, 0, time.Hour),
		urlopt.Addr("source", &t.Source),
		intOption("mtu", &t.MTU, sflow.MinDatagram+headersV6, 65535, "bytes"),
		filterOption("filter", &t.Filter),
	}
}

// String returns the target as a URL.
func (t SFlowTarget) String() string {
	u := url.URL{Scheme: "sflow", Host: t.address(), RawQuery: t.options().Query()}
	return u.String()
}

func (t SFlowTarget) address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }
