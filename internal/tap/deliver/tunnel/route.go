package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/wire"
)

// route is the interface that packets to a tool leave through, with all that carry it: the ports of a bridge, what a VLAN is on, the way that
// a tunnel takes.
type route struct {
	name  string
	index int
	space string // device and inode of the network namespace
	under []hop
	// source is the address that packets leave with, invalid when the kernel does not say.
	source netip.Addr
}

// hop is an interface below the one of the route.
type hop struct {
	index  int
	tunnel string // kind of the tunnel between the two, "" when packets look the same on both
}

// routeTo looks the route up in the namespace of the present thread.
func routeTo(tool netip.Addr, device string) (route, error) {
	h, err := netlink.NewHandle()
	if err != nil {
		return route{}, fmt.Errorf("route: %w", err)
	}
	defer h.Close()
	o := &netlink.RouteGetOptions{Oif: device}
	routes, err := h.RouteGetWithOptions(tool.AsSlice(), o)
	if err != nil || len(routes) == 0 {
		return route{}, fmt.Errorf("route to %s: %w", tool, err)
	}
	r := route{index: routes[0].LinkIndex, space: here()}
	if a, ok := netip.AddrFromSlice(routes[0].Src); ok {
		r.source = a.Unmap()
	}
	w, err := newWalker(h)
	if err != nil {
		return route{}, fmt.Errorf("route: %w", err)
	}
	if l := w.byIndex[r.index]; l != nil {
		r.name = l.Attrs().Name
	}
	w.below(r.index, "")
	r.under = w.hops
	return r, nil
}

// walker finds the interfaces below one.
type walker struct {
	h       *netlink.Handle
	byIndex map[int]netlink.Link
	seen    map[int]bool
	hops    []hop
}

func newWalker(h *netlink.Handle) (*walker, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	w := &walker{h: h, byIndex: map[int]netlink.Link{}, seen: map[int]bool{}}
	for _, l := range links {
		w.byIndex[l.Attrs().Index] = l
	}
	return w, nil
}

// below notes an interface and those below it; tunnel is the kind of a tunnel on the way to it.
func (w *walker) below(index int, tunnel string) {
	l := w.byIndex[index]
	if l == nil || w.seen[index] {
		return
	}
	w.seen[index] = true
	w.hops = append(w.hops, hop{index, tunnel})
	for _, p := range w.byIndex { // ports of a bridge, members of a bond
		if p.Attrs().MasterIndex == index && l.Type() != "vrf" {
			w.below(p.Attrs().Index, tunnel)
		}
	}
	to, kind := endpoint(l)
	if kind != "" {
		tunnel = kind
	}
	parent := l.Attrs().ParentIndex // of a tunnel, too, that is bound to one
	if v, ok := l.(*netlink.Vxlan); ok && parent == 0 {
		parent = v.VtepDevIndex
	}
	switch {
	case l.Attrs().NetNsID >= 0 || l.Type() == "veth": // below is another namespace, or nothing
	case parent != 0:
		w.below(parent, tunnel)
	case to != nil:
		if routes, err := w.h.RouteGet(to); err == nil && len(routes) > 0 {
			w.below(routes[0].LinkIndex, tunnel)
		}
	}
}

// endpoint returns the kind of a tunnel, "" for other interfaces, and its far end, nil when there are several.
func endpoint(l netlink.Link) (to net.IP, kind string) {
	switch t := l.(type) {
	case *netlink.Vxlan:
		return t.Group, "vxlan"
	case *netlink.Geneve:
		return t.Remote, "geneve"
	case *netlink.Gretap:
		return t.Remote, "gre"
	case *netlink.Gretun:
		return t.Remote, "gre"
	case *netlink.Iptun:
		return t.Remote, "ipip"
	case *netlink.Ip6tnl:
		return t.Remote, "ip6tnl"
	}
	return nil, ""
}

// here names the network namespace of the present thread.
func here() string {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, ":", st.Ino)
}

// tapped is what is known of the interfaces that frames come from.
type tapped struct {
	links []netlink.Link
	space string
}

// lookUp finds the interfaces; those that are not there the capture will miss, too.
func lookUp(names []string, space string) (t tapped, err error) {
	err = netns.Do(space, func() error {
		t.space = here()
		if len(names) == 0 {
			return nil
		}
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("interfaces: %w", err)
		}
		defer h.Close()
		for _, n := range names {
			if l, err := h.LinkByName(n); err == nil {
				t.links = append(t.links, l)
			}
		}
		return nil
	})
	return t, err
}

// largest returns the length of the longest frame that the interfaces take: their MTU with an Ethernet header and a tag.
func (t tapped) largest() (n int) {
	for _, l := range t.links {
		if a := l.Attrs(); a.Flags&net.FlagLoopback == 0 {
			n = max(n, a.MTU+wire.EthernetLen+wire.VLANLen)
		}
	}
	return n
}

// loop refuses a way on which our own copies would be captured again and could not be told apart: through a tunnel over a tapped interface, or
// into a segment whose tunnel interface is tapped.
func (t tapped) loop(to *Target, w *way) error {
	for _, l := range t.links {
		a := l.Attrs()
		for _, h := range w.route.under {
			if t.space == w.route.space && h.index == a.Index && h.tunnel != "" {
				return fmt.Errorf("loop: the route to %s leaves through %s, a %s tunnel over %s, which is tapped: copies would be copied again; send them another way (dev=, source=), or tap %s instead",
					w.tool, w.route.name, h.tunnel, a.Name, w.route.name)
			}
		}
		if v, ok := l.(*netlink.Vxlan); ok && to.Kind == VXLAN && uint32(v.VxlanId) == to.VNI && uint16(v.Port) == to.Port {
			return fmt.Errorf("loop: VNI %d is the segment of %s, which is tapped: the copies would come back as its traffic; choose another vni", to.VNI, a.Name)
		}
	}
	return nil
}

// injection refuses an interface through which frames would come back to a tapped one. Such copies look like the frames themselves, or stand in a tunnel that is
// not ours: no filter could tell.
func (t tapped) injection(to *Target, r route, ingressOnly bool) error {
	if t.space != here() {
		return nil
	}
	for _, l := range t.links {
		a := l.Attrs()
		switch {
		case a.Index == r.index:
			return fmt.Errorf("loop: %s is tapped: what is sent through it would be captured again", to.Host)
		case a.MasterIndex != 0 && a.MasterIndex == r.index:
			return fmt.Errorf("loop: %s is the switch of the tapped port %s: what is sent through it would be captured again", to.Host, a.Name)
		case a.ParentIndex != 0 && a.ParentIndex == r.index && a.NetNsID < 0 && l.Type() == "veth":
			return fmt.Errorf("loop: %s is the other end of %s, which is tapped: what is sent through it would be captured again", to.Host, a.Name)
		}
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	defer h.Close()
	w, err := newWalker(h)
	if err != nil {
		return err
	}
	if err := t.switches(to, r, w); err != nil || ingressOnly { // then what leaves through a tapped interface is not captured
		return err
	}
	w.below(r.index, "")
	for _, l := range t.links {
		a := l.Attrs()
		i := slices.IndexFunc(w.hops, func(x hop) bool { return x.index == a.Index })
		switch {
		case i < 0:
		case w.hops[i].tunnel != "":
			return fmt.Errorf("loop: %s is a %s tunnel over %s, which is tapped: what is sent through it would be captured again", to.Host, w.hops[i].tunnel, a.Name)
		default:
			return fmt.Errorf("loop: %s stands on %s, which is tapped: what is sent through it would be captured again", to.Host, a.Name)
		}
	}
	return nil
}

// switches refuses a port whose switch is tapped as a whole, and one end of a cable whose other end is a port of a tapped switch.
func (t tapped) switches(to *Target, r route, w *walker) error {
	own := w.byIndex[r.index]
	if own == nil {
		return nil
	}
	a := own.Attrs()
	into := 0
	if a.ParentIndex != 0 && a.NetNsID < 0 && own.Type() == "veth" {
		if peer := w.byIndex[a.ParentIndex]; peer != nil {
			into = peer.Attrs().MasterIndex
		}
	}
	for _, l := range t.links {
		switch x := l.Attrs(); {
		case a.MasterIndex != 0 && x.Index == a.MasterIndex:
			return fmt.Errorf("loop: %s is a port of %s, which is tapped: what is sent through it could be captured again", to.Host, x.Name)
		case into != 0 && x.Index == into:
			return fmt.Errorf("loop: %s leads into %s, which is tapped: what is sent through it would be captured again", to.Host, x.Name)
		case into != 0 && x.MasterIndex == into:
			return fmt.Errorf("loop: %s leads into the switch of the tapped port %s: what is sent through it could be captured again", to.Host, x.Name)
		}
	}
	return nil
}
