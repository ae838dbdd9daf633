package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// wayOut tells wrappers where packets go: the interface (0 for nowhere) and the addresses of the link, destination first. User space
// keeps it in step with routes and neighbours. The programs themselves count the packets in seq.
type wayOut struct {
	m, seq *ebpf.Map
	loop   *ebpf.Map // how many copies of our own copies were seen
	wall   *ebpf.Map // what has to be added to the monotonic clock, in nanoseconds
	since  time.Time // when they were last set to 0
	space  string    // file of the network namespace
	tool   netip.Addr
	via    string // interface, "" to follow the routes
	now    [wayLen]byte
}

// Offsets in the map's value.
const (
	wayIndex = 0
	wayMACs  = 4
	wayLen   = 16
)

func newWayOut(space string, o *Outer) (*wayOut, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_way", Type: ebpf.Array, KeySize: 4, ValueSize: wayLen, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("way out: %w", permission(err))
	}
	seq, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_seq", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("sequence numbers: %w", permission(err))
	}
	loop, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_loop", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		_, _ = m.Close(), seq.Close()
		return nil, fmt.Errorf("loops: %w", permission(err))
	}
	wall, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_wall", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		_, _, _ = m.Close(), seq.Close(), loop.Close()
		return nil, fmt.Errorf("wall clock: %w", permission(err))
	}
	w := &wayOut{m: m, seq: seq, loop: loop, wall: wall, since: time.Now(), space: space, tool: o.Tool, via: o.Device}
	w.tellTime()
	return w, nil
}

// tellTime tells the programs what time it is.
func (w *wayOut) tellTime() { _ = w.wall.Put(uint32(0), uint64(wallOffset())) }

// tripTime is the time in which tripAt copies of copies are a loop.
const tripTime = 10 * time.Second

// looped reports whether our own copies come back to be copied. A few may be the echo of another tap.
func (w *wayOut) looped() bool {
	var n uint64
	if w.loop.Lookup(uint32(0), &n) != nil || n >= tripAt {
		return n >= tripAt
	}
	if time.Since(w.since) > tripTime {
		w.since = time.Now()
		_ = w.loop.Put(uint32(0), uint64(0))
	}
	return false
}

// errNoNeighbour says that nobody has answered yet for the address of the next hop.
var errNoNeighbour = errors.New("the next hop does not answer (ARP or neighbour discovery)")

// follow looks the route and the neighbour up and tells the programs. While there is none, copies are lost, and counted so.
func (w *wayOut) follow() error {
	w.tellTime()
	var next [wayLen]byte
	err := netns.Do(w.space, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return w.find(h, next[:])
	})
	if next == w.now {
		return err
	}
	if uerr := w.m.Put(uint32(0), next[:]); uerr != nil {
		return errors.Join(err, uerr)
	}
	w.now = next
	return err
}

// find writes interface and addresses to b.
func (w *wayOut) find(h *netlink.Handle, b []byte) error {
	routes, err := h.RouteGetWithOptions(w.tool.AsSlice(), &netlink.RouteGetOptions{Oif: w.via})
	if err != nil || len(routes) == 0 {
		return fmt.Errorf("route to %s: %w", w.tool, err)
	}
	l, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return fmt.Errorf("route to %s: %w", w.tool, err)
	}
	a := l.Attrs()
	switch {
	case a.Flags&net.FlagUp == 0:
		return fmt.Errorf("route to %s: interface %s is down", w.tool, a.Name)
	case a.EncapType == "loopback":
		binary.NativeEndian.PutUint32(b[wayIndex:], uint32(a.Index))
		return nil
	case a.EncapType != "ether" || len(a.HardwareAddr) != 6:
		return fmt.Errorf("route to %s: interface %s is not Ethernet", w.tool, a.Name)
	}
	hop := w.tool.AsSlice()
	if gw := routes[0].Gw; gw != nil {
		hop = gw
	}
	mac, err := neighbour(h, a.Index, hop)
	if err != nil {
		return fmt.Errorf("route to %s through %s: %s: %w", w.tool, a.Name, net.IP(hop), err)
	}
	copy(b[wayMACs:], mac)
	copy(b[wayMACs+6:], a.HardwareAddr)
	binary.NativeEndian.PutUint32(b[wayIndex:], uint32(a.Index))
	return nil
}

// neighbour returns the link address of a next hop, and has the kernel ask for it unless it was heard of lately.
func neighbour(h *netlink.Handle, index int, hop net.IP) (net.HardwareAddr, error) {
	family := unix.AF_INET
	if hop.To4() == nil {
		family = unix.AF_INET6
	}
	list, err := h.NeighList(index, family)
	if err != nil {
		return nil, fmt.Errorf("neighbours: %w", err)
	}
	const fresh, usable = netlink.NUD_REACHABLE | netlink.NUD_PERMANENT | netlink.NUD_NOARP, netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE
	for _, n := range list {
		if !n.IP.Equal(hop) || len(n.HardwareAddr) != 6 {
			continue
		}
		if n.State&fresh != 0 {
			return n.HardwareAddr, nil
		}
		if n.State&usable != 0 {
			_ = ask(h, index, family, hop)
			return n.HardwareAddr, nil
		}
	}
	if err := ask(h, index, family, hop); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	return nil, errNoNeighbour
}

// ask has the kernel use a neighbour's entry, as if a packet were on its way.
func ask(h *netlink.Handle, index, family int, hop net.IP) error {
	const use = 0x01 // NTF_USE
	return h.NeighSet(&netlink.Neigh{LinkIndex: index, Family: family, IP: hop, State: netlink.NUD_NONE, Flags: use})
}

func (w *wayOut) close() {
	_ = w.m.Close()
	_ = w.seq.Close()
	_ = w.loop.Close()
	_ = w.wall.Close()
}
