//go:build linux

package linux

import (
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// restFromRoutes is how long routes are not asked for after there were too many: the kernel tells all of them or none.
const restFromRoutes = 10 * time.Minute

// routing reads how the host sends its own packets; nil when that cannot be told by its routes alone.
func (p *Platform) routing(s *state) *platform.Routing {
	if time.Now().UnixNano() < p.routesRest.Load() || !p.plainRules() {
		return nil
	}
	out := &platform.Routing{}
	n := 0
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := p.handle.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if routes := s.routes(&r, family); len(routes) > 0 {
				out.Routes = append(out.Routes, routes...)
				n++
			}
			return n <= platform.MaxRoutes
		})
		if err != nil { // also when they changed meanwhile: the next look comes soon
			return nil
		}
	}
	if n > platform.MaxRoutes {
		p.routesRest.Store(time.Now().Add(restFromRoutes).UnixNano())
		return nil
	}
	return out
}

// plainRules reports whether the kernel looks into the tables local, main and default alone, in this order, for every packet.
func (p *Platform) plainRules() bool {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := p.handle.RuleList(family)
		if family == netlink.FAMILY_V6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return false
		}
		for _, r := range rules {
			switch r.Table {
			case unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT:
			default:
				return false
			}
			if r.Src != nil || r.Dst != nil || r.Mark != 0 || r.Mask != nil || r.Tos != 0 || r.IifName != "" || r.OifName != "" || r.Invert || r.SuppressPrefixlen >= 0 ||
				r.Sport != nil || r.Dport != nil || r.IPProto != 0 || r.UIDRange != nil || r.TunID != 0 || r.Goto >= 0 || r.Table == unix.RT_TABLE_LOCAL && r.Priority != 0 {
				return false
			}
		}
	}
	return true
}

// routes are what a route of the kernel says, one for each of its next hops; none for one that does not matter to packets of the host.
func (s *state) routes(r *netlink.Route, family int) (out []platform.Route) {
	switch r.Table {
	case unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT:
	default:
		return nil // of a VRF
	}
	one := platform.Route{Metric: r.Priority, MTU: r.MTU}
	switch r.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_LOCAL:
		one.Kind = platform.RouteLocal
	case unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE:
		one.Kind = platform.RouteRefused
	default:
		return nil
	}
	if one.To = prefixOf(r, family); r.Table == unix.RT_TABLE_DEFAULT {
		one.Metric += 1 << 32 // it is asked last
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}
	}
	for _, h := range hops {
		if h.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
			continue
		}
		way := one
		if l := s.byIndex[h.LinkIndex]; l != nil {
			way.Dev = l.Attrs().Name
			if way.MTU == 0 {
				way.MTU = l.Attrs().MTU
			}
		}
		if gw, ok := netip.AddrFromSlice(h.Gw); ok {
			way.Via = gw.Unmap()
		} else if via, ok := h.Via.(*netlink.Via); ok {
			way.Via, _ = netip.AddrFromSlice(via.Addr)
		}
		out = append(out, way)
	}
	return out
}

// prefixOf is where a route leads: everywhere when the kernel names nothing.
func prefixOf(r *netlink.Route, family int) netip.Prefix {
	if r.Dst != nil {
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			ones, _ := r.Dst.Mask.Size()
			return netip.PrefixFrom(a.Unmap(), ones)
		}
	}
	if family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
