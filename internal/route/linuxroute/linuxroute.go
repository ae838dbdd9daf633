//go:build linux

// Package linuxroute reads the routes of a Linux kernel.
package linuxroute

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/route"
)

// rest is how long routes are not asked for after there were too many: the kernel tells all of them or none.
const rest = 10 * time.Minute

// attempts is how often routes are asked for that changed while they were told.
const attempts = 4

// Reader reads the routes of one network namespace. Its zero value is ready; it is safe for concurrent use.
type Reader struct {
	until atomic.Int64 // routes are not asked for before, in nanoseconds of Unix time
}

// Read returns how the host sends its own packets; nil when its routes alone do not tell that, when there are more than Max, or when they
// change all the time. h is a way into the namespace, links are its interfaces by their index.
func (r *Reader) Read(h *netlink.Handle, links map[int]netlink.Link) *route.Table {
	if r.Resting() || !plainRules(h) {
		return nil
	}
	for range attempts {
		out, n, err := list(h, links)
		switch {
		case n > route.Max:
			r.until.Store(time.Now().Add(rest).UnixNano())
			return nil
		case err == nil:
			return out
		case !errors.Is(err, netlink.ErrDumpInterrupted):
			return nil
		}
	}
	return nil
}

// list asks the kernel for its routes until there are more than Max; n is how many there are.
func list(h *netlink.Handle, links map[int]netlink.Link) (out *route.Table, n int, err error) {
	out = &route.Table{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := h.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE, func(x netlink.Route) bool {
			if routes := ways(&x, family, links); len(routes) > 0 {
				out.Routes = append(out.Routes, routes...)
				n++
			}
			return n <= route.Max
		})
		if err != nil || n > route.Max {
			return nil, n, err
		}
	}
	return out, n, nil
}

// Resting reports whether there were too many routes a short time ago, so that Read does not ask for them.
func (r *Reader) Resting() bool { return time.Now().UnixNano() < r.until.Load() }

// plainRules reports whether the kernel looks into the tables local, main and default alone, in this order, for every packet.
func plainRules(h *netlink.Handle) bool {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := h.RuleList(family)
		if family == netlink.FAMILY_V6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return false
		}
		for _, x := range rules {
			switch x.Table {
			case unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT:
			default:
				return false
			}
			if x.Src != nil || x.Dst != nil || x.Mark != 0 || x.Mask != nil || x.Tos != 0 || x.IifName != "" || x.OifName != "" || x.Invert || x.SuppressPrefixlen >= 0 ||
				x.Sport != nil || x.Dport != nil || x.IPProto != 0 || x.UIDRange != nil || x.TunID != 0 || x.Goto >= 0 || x.Table == unix.RT_TABLE_LOCAL && x.Priority != 0 {
				return false
			}
		}
	}
	return true
}

// ways are what a route of the kernel says, one for each of its next hops; none for one that does not matter to packets of the host.
func ways(r *netlink.Route, family int, links map[int]netlink.Link) (out []route.Route) {
	switch r.Table {
	case unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT:
	default:
		return nil // of a VRF
	}
	one := route.Route{Metric: r.Priority, MTU: r.MTU}
	switch r.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_LOCAL:
		one.Kind = route.Local
	case unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE:
		one.Kind = route.Refused
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
		if l := links[h.LinkIndex]; l != nil {
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
