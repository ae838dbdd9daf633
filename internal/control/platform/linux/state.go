//go:build linux

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/route"
)

// state is what the kernel says, as it says it.
type state struct {
	links   []netlink.Link
	byIndex map[int]netlink.Link
	addrs   map[int][]netlink.Addr
	fdb     []netlink.Neigh // of bridges: MAC and port
	arp     []netlink.Neigh // address and MAC
	vlans   map[int32][]*nl.BridgeVlanInfo
	tunnels map[uint16]uint32 // VLAN to VNI, of bridges with one VXLAN device for many
	qdiscs  map[int]string    // "clsact" or "ingress", by interface
	made    map[int]bool      // qdiscs that say by themselves that they are ours
	filters map[int][]tcFilter
	spaces  map[int]*neighbour
	routing *route.Table // nil when it is not known
}

// attempts is how often a list is asked for that changed while it was told.
const attempts = 4

// listed asks until the list is whole. One that never is counts as it is: the next look comes soon.
func listed[T any](ask func() ([]T, error)) (out []T, err error) {
	for range attempts {
		if out, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, nil
}

// read asks the kernel for everything.
func (p *Platform) read() (*state, error) {
	s := &state{byIndex: map[int]netlink.Link{}, addrs: map[int][]netlink.Addr{}, filters: map[int][]tcFilter{}}
	var err error
	if s.links, err = listed(p.handle.LinkList); err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range s.links {
		s.byIndex[l.Attrs().Index] = l
	}
	all, err := listed(func() ([]netlink.Addr, error) { return p.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		s.addrs[a.LinkIndex] = append(s.addrs[a.LinkIndex], a)
	}
	if err := p.readBridges(s); err != nil {
		return nil, err
	}
	s.spaces, s.routing = neighbours(p.netnsID), p.routes.Read(p.handle, s.byIndex)
	return s, p.readFilters(s)
}

func (p *Platform) readBridges(s *state) (err error) {
	if s.fdb, err = listed(func() ([]netlink.Neigh, error) { return p.handle.NeighList(0, unix.AF_BRIDGE) }); err != nil {
		return fmt.Errorf("list forwarding entries: %w", err)
	}
	if s.arp, err = listed(func() ([]netlink.Neigh, error) { return p.handle.NeighList(0, netlink.FAMILY_ALL) }); err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for range attempts {
		if s.vlans, err = p.handle.BridgeVlanList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list VLANs of bridges: %w", err)
	}
	tunnels, err := listed(p.handle.BridgeVlanTunnelShow)
	if err != nil {
		return fmt.Errorf("list VNIs of VLANs: %w", err)
	}
	s.tunnels = map[uint16]uint32{}
	for _, t := range tunnels {
		s.tunnels[t.Vid] = t.TunId
	}
	return nil
}

func (p *Platform) readFilters(s *state) (err error) {
	if s.qdiscs, s.made, err = p.socket.qdiscs(); err != nil {
		return err
	}
	for index, kind := range s.qdiscs {
		list, err := p.portFilters(index, kind)
		if err != nil && !gone(err) {
			return err
		}
		s.filters[index] = list
	}
	return nil
}

// portFilters lists the filters of both hooks of an interface.
func (p *Platform) portFilters(index int, qdisc string) ([]tcFilter, error) {
	list, err := p.socket.filters(index, platform.Ingress)
	if err != nil || qdisc != "clsact" {
		return list, err
	}
	out, err := p.socket.filters(index, platform.Egress)
	return append(list, out...), err
}

// gone reports whether the kernel says that the interface, or the qdisc on it, is no longer there.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// netnsID returns the number under which our namespace knows another (RTM_GETNSID); false when it does not.
func (p *Platform) netnsID(fd int) (id int, known bool) {
	const nsid, byFD = 1, 3 // NETNSA_NSID, NETNSA_FD
	const none = 0xffffffff // NETNSA_NSID_NOT_ASSIGNED
	r := &request{kind: unix.RTM_GETNSID, about: "namespace", parts: []nl.NetlinkRequestData{
		rtgenmsg{}, nl.NewRtAttr(byFD, binary.NativeEndian.AppendUint32(nil, uint32(fd))),
	}}
	id = -1
	_ = p.socket.ask(r, func(b []byte) {
		if len(b) < 4 {
			return
		}
		if v, ok := find(attrs(b[4:]), nsid); ok && len(v) >= 4 && binary.NativeEndian.Uint32(v) != none {
			id = int(binary.NativeEndian.Uint32(v))
		}
	})
	return id, id >= 0
}

// rtgenmsg is struct rtgenmsg: a family, padded.
type rtgenmsg struct{}

func (rtgenmsg) Len() int          { return 4 }
func (rtgenmsg) Serialize() []byte { return make([]byte, 4) }

// mirrored tells which interfaces mirred actions copy to, whoever made them.
func (s *state) mirrored() map[int]bool {
	out := map[int]bool{}
	for _, list := range s.filters {
		for _, f := range list {
			for _, m := range f.mirrors {
				out[m.target] = true
			}
		}
	}
	return out
}

// indexes lists the interfaces with filters in a fixed order.
func (s *state) indexes() []int {
	out := make([]int, 0, len(s.filters))
	for i := range s.filters {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}
