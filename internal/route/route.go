// Package route is how a host sends the packets that it makes itself: its routes, and which of them an address takes.
package route

import (
	"net/netip"
)

// Table is how a host sends the packets that it makes itself, as far as it is known: hosts that choose among tables by rules of their own, and those with
// more than Max routes, tell none.
type Table struct {
	Routes []Route `json:"routes"`
}

// Max is the most routes that a host tells.
const Max = 1024

// Kind tells what becomes of packets.
type Kind string

// The kinds of routes. The zero value sends packets on.
const (
	Local   Kind = "local"   // the addresses are the host's own
	Refused Kind = "refused" // unreachable, prohibit, blackhole
)

// Route is where packets for some addresses go.
type Route struct {
	To     netip.Prefix `json:"to"`
	Kind   Kind         `json:"kind,omitempty"`
	Dev    string       `json:"dev,omitempty"` // name of the interface that they leave through; "" when none is known
	Via    netip.Addr   `json:"via"`           // next hop; none when To is reached directly
	MTU    int          `json:"mtu,omitempty"` // bytes at the IP layer; 0 when it is not known
	Metric int          `json:"metric,omitempty"`
}

// Way returns the route that packets to an address take: an address of the host itself is always one, else the longest prefix, and of several the lowest
// metric, decides. It is false when there is no route.
func (r *Table) Way(to netip.Addr) (way Route, ok bool) {
	to = to.Unmap().WithZone("")
	for _, x := range r.Routes {
		if !x.To.Contains(to) {
			continue
		}
		if !ok || x.before(&way) {
			way, ok = x, true
		}
	}
	return way, ok
}

// before reports whether a route is taken in place of another one to the same address.
func (r *Route) before(o *Route) bool {
	switch own, other := r.Kind == Local, o.Kind == Local; {
	case own != other:
		return own
	case r.To.Bits() != o.To.Bits():
		return r.To.Bits() > o.To.Bits()
	}
	return r.Metric < o.Metric
}
