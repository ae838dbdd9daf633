package listen

import (
	"net/netip"
	"sync/atomic"
)

// allowList says whose datagrams are taken. An empty list takes everyone's.
type allowList struct {
	nets atomic.Pointer[[]netip.Prefix]
}

func (a *allowList) set(nets []netip.Prefix) {
	own := make([]netip.Prefix, len(nets))
	for i, p := range nets {
		own[i] = unmapPrefix(p)
	}
	a.nets.Store(&own)
}

// ok reports whether an address is on the list. The address is never IPv4-mapped.
func (a *allowList) ok(addr netip.Addr) bool {
	nets := *a.nets.Load()
	if len(nets) == 0 {
		return true
	}
	addr = addr.WithZone("")
	for _, p := range nets {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// unmapPrefix turns ::ffff:192.0.2.0/120 into 192.0.2.0/24.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
