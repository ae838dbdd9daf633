package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/wire"
)

// way is where copies go.
type way struct {
	tool, source netip.Addr
	route        route
	mtu          int // of the path
	overhead     int // bytes in front of the frame
}

// headers returns the length of what is in front of the frame, the outer IP header included.
func (s *Sink) headers() int {
	n := s.encap.n
	switch {
	case s.cfg.Target.Kind == Interface:
		return 0
	case s.way.tool.Is6():
		n += ipv6Header
	default:
		n += ipv4Header
	}
	if s.cfg.Target.Kind.overUDP() {
		n += wire.UDPLen
	}
	return n
}

const resolveTimeout = 5 * time.Second

func (s *Sink) open(ctx context.Context) error {
	t := &s.cfg.Target
	if t.Kind == Interface {
		return s.openInterface()
	}
	var err error
	if s.way.tool, err = resolve(ctx, t.Host, t.Source); err != nil {
		return err
	}
	s.way.overhead = s.headers()
	if err := netns.Do(t.NetNS, s.openSockets); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	if t.Probe {
		s.ask()
	}
	s.watch()
	return nil
}

// resolve returns the tool's address, of the family of our own when that is given.
func resolve(ctx context.Context, host string, source netip.Addr) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	network := "ip"
	if source.IsValid() {
		if network = "ip6"; source.Is4() {
			network = "ip4"
		}
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return netip.Addr{}, err
	}
	return all[0].Unmap(), nil
}

// openSockets opens the lanes, and looks the route up.
func (s *Sink) openSockets() (err error) {
	t := &s.cfg.Target
	n := 1
	if t.Kind.overUDP() {
		n = t.Ports
	}
	for range n {
		l, err := s.socket(len(s.lanes))
		if err != nil {
			return err
		}
		s.lanes = append(s.lanes, l)
	}
	if s.way.source, err = localAddr(s.lanes[0].fd); err != nil {
		return err
	}
	if s.way.mtu, err = pathMTU(s.lanes[0].fd, s.way.tool.Is6()); err != nil {
		return err
	}
	if t.Path != 0 {
		s.way.mtu = min(s.way.mtu, t.Path)
	}
	s.way.route, err = routeTo(s.way.tool, t.Device)
	return err
}

// firstPort is the first of the dynamic ports, which RFC 7348, section 5, recommends as source ports.
const (
	firstPort = 49152
	portRange = 1 << 14
)

// socket makes the i-th socket.
func (s *Sink) socket(i int) (*lane, error) {
	t := &s.cfg.Target
	kind, proto := unix.SOCK_RAW, unix.IPPROTO_GRE
	if t.Kind.overUDP() {
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	}
	family := unix.AF_INET
	if s.way.tool.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, permission(err)
	}
	l := newLane(fd)
	if err := s.options(fd); err != nil {
		l.close()
		return nil, err
	}
	if err := s.bind(fd, i); err != nil {
		l.close()
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr(s.way.tool, t.Port)); err != nil {
		l.close()
		return nil, fmt.Errorf("no route to %s: %w", s.way.tool, err)
	}
	return l, nil
}

func permission(err error) error {
	if err == unix.EPERM || err == unix.EACCES {
		return fmt.Errorf("raw socket: %w: GRE, ERSPAN and interfaces need CAP_NET_RAW: run as root, or once \"setcap cap_net_raw+ep\" on the program", os.ErrPermission)
	}
	return fmt.Errorf("socket: %w", err)
}

const sendBuffer = 4 << 20

// deaf is a filter that takes nothing: a raw socket would collect all GRE packets that come.
var deaf = []unix.SockFilter{{Code: 0x06}}

// options sets what the socket has to have. Over IPv4 the UDP checksum is 0, as RFC 7348, section 5, and RFC 8926, section 3.3, allow; frames
// carry their own.
func (s *Sink) options(fd int) error {
	t := &s.cfg.Target
	set := func(what string, level, name, value int) error {
		if err := unix.SetsockoptInt(fd, level, name, value); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	if set("", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = set("", unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &deaf[0]}); err != nil {
		return fmt.Errorf("receive nothing: %w", err)
	}
	if t.Device != "" {
		if err := unix.BindToDevice(fd, t.Device); err != nil {
			return fmt.Errorf("dev %s: %w", t.Device, err)
		}
	}
	discover := unix.IP_PMTUDISC_DO // the same numbers for IPv6
	if t.MTU == Fragment {
		discover = unix.IP_PMTUDISC_DONT
	}
	ttl, level := t.TTL, unix.IPPROTO_IP
	if ttl == 0 {
		ttl = 64
	}
	list := []struct {
		what        string
		name, value int
	}{{"path MTU discovery", unix.IP_MTU_DISCOVER, discover}, {"errors", unix.IP_RECVERR, 1}, {"ttl", unix.IP_TTL, ttl}, {"dscp", unix.IP_TOS, t.DSCP << 2}}
	if s.way.tool.Is6() {
		level = unix.IPPROTO_IPV6
		list[0].name, list[1].name, list[2].name, list[3].name = unix.IPV6_MTU_DISCOVER, unix.IPV6_RECVERR, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS
	}
	for _, o := range list {
		if err := set(o.what, level, o.name, o.value); err != nil {
			return err
		}
	}
	if (t.Kind == VXLAN || t.Kind == Geneve) && s.way.tool.Is4() {
		return set("no checksum", unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
	}
	return nil
}

// bind gives the i-th socket its own address and, over UDP, a port of the dynamic range that differs from those of the others.
func (s *Sink) bind(fd, i int) error {
	t := &s.cfg.Target
	from := t.Source
	if !from.IsValid() {
		if from = netip.IPv4Unspecified(); s.way.tool.Is6() {
			from = netip.IPv6Unspecified()
		}
	}
	if from.Is4() != s.way.tool.Is4() {
		return fmt.Errorf("source %s and tool %s are of different families", from, s.way.tool)
	}
	if !t.Kind.overUDP() {
		if !t.Source.IsValid() {
			return nil
		}
		return named("source "+from.String(), unix.Bind(fd, sockaddr(from, 0)))
	}
	const attempts = 256
	start := int(mix(uint64(os.Getpid())<<16|uint64(i)) % portRange)
	var err error
	for k := range attempts {
		port := firstPort + (start+k*t.Ports)%portRange
		if err = unix.Bind(fd, sockaddr(from, uint16(port))); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return named("source "+from.String(), err)
}

func named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	to := &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
	if z := a.Zone(); z != "" {
		if i, err := net.InterfaceByName(z); err == nil {
			to.ZoneId = uint32(i.Index)
		} else if n, err := strconv.ParseUint(z, 10, 32); err == nil {
			to.ZoneId = uint32(n)
		}
	}
	return to
}

func localAddr(fd int) (netip.Addr, error) {
	sa, err := unix.Getsockname(fd)
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr), err
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr), err
	}
	return netip.Addr{}, fmt.Errorf("own address: %w", err)
}

// pathMTU returns the path MTU that the kernel knows for a connected socket.
func pathMTU(fd int, v6 bool) (mtu int, err error) {
	if v6 {
		mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
	} else {
		mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
	}
	return mtu, named("path MTU", err)
}

// openInterface opens the socket of an interface.
func (s *Sink) openInterface() error {
	t := &s.cfg.Target
	return netns.Do(t.NetNS, func() error {
		link, err := netlink.LinkByName(t.Host)
		if err != nil {
			return fmt.Errorf("interface %q: %w; there are: %s", t.Host, err, interfaces())
		}
		a := link.Attrs()
		if a.EncapType != "ether" && a.EncapType != "loopback" {
			return fmt.Errorf("interface %q: its link type is %s, and frames of Ethernet are sent", t.Host, a.EncapType)
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return permission(err)
		}
		l := newLane(fd)
		s.lanes = append(s.lanes, l)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		l.address(&unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(a.Index), Halen: 6})
		s.way.route = route{name: a.Name, index: a.Index}
		s.way.mtu = a.MTU
		return s.checkInterface()
	})
}

func interfaces() string {
	all, _ := net.Interfaces()
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return strings.Join(names, ", ")
}
