package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// Swept is what Sweep has removed.
type Swept struct {
	Interface string
	Direction frame.Direction
	Qdisc     bool // the qdisc, too: it was ours, and empty
}

// Sweep removes from the interfaces of a network namespace ("" for the process's own) the filters that processes of ours left at clsact
// qdiscs when they were killed: those whose lease has ended. Filters of others, and of processes that live, stay.
func Sweep(space string) (gone []Swept, err error) {
	err = netns.Do(space, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("kernel: sweep: %w", err)
		}
		defer h.Close()
		links, err := h.LinkList()
		if err != nil {
			return fmt.Errorf("kernel: sweep: interfaces: %w", err)
		}
		var errs []error
		for _, l := range links {
			swept, err := sweep(h, l.Attrs())
			gone, errs = append(gone, swept...), append(errs, err)
		}
		return errors.Join(errs...)
	})
	return gone, err
}

// sweep removes what is stale on one interface.
func sweep(h *netlink.Handle, a *netlink.LinkAttrs) (gone []Swept, err error) {
	mine := false
	for _, dir := range directions {
		list, err := filters(h, a.Index, dir)
		if err != nil {
			continue // no qdisc
		}
		for _, f := range list {
			b, ok := f.(*netlink.BpfFilter)
			if !ok || !strings.HasPrefix(b.Name, filterName) || !stale(b) {
				continue
			}
			if err := h.FilterDel(b); err != nil {
				return gone, fmt.Errorf("kernel: sweep: interface %s: %w", a.Name, err)
			}
			mine = mine || qdiscOf(b.Name)
			gone = append(gone, Swept{Interface: a.Name, Direction: dir})
		}
	}
	if !mine {
		return gone, nil
	}
	if err := dropEmpty(h, a.Index); err != nil {
		return gone, err
	}
	gone[len(gone)-1].Qdisc = !ours(h, a.Index)
	return gone, nil
}

// ours reports whether an interface has a qdisc that a filter there says is ours.
func ours(h *netlink.Handle, index int) bool {
	for _, dir := range directions {
		list, err := filters(h, index, dir)
		if err != nil {
			continue
		}
		for _, f := range list {
			if b, ok := f.(*netlink.BpfFilter); ok && qdiscOf(b.Name) {
				return true
			}
		}
	}
	return false
}

// stale reports whether a filter's program is one of ours whose lease has ended. Only with CAP_SYS_ADMIN the kernel lets others' programs be looked at; without
// it a filter is stale when the process that its name tells is gone.
func stale(b *netlink.BpfFilter) bool {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(b.Id))
	if errors.Is(err, os.ErrPermission) {
		return orphan(b.Name)
	}
	if err != nil {
		return false
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return false
	}
	maps, ok := info.MapIDs()
	if !ok {
		return false
	}
	for _, id := range maps {
		if end, ok := leaseEnd(id); ok {
			_, own := living.Load(id)
			return !own && monotonic() > end
		}
	}
	return false
}

// leaseEnd reads the map of a lease; false for other maps.
func leaseEnd(id ebpf.MapID) (end uint64, ok bool) { return endOf(id, leaseName) }

// endOf reads a moment of the map of that name; false for other maps.
func endOf(id ebpf.MapID, name string) (end uint64, ok bool) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return 0, false
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil || info.Name != name {
		return 0, false
	}
	return end, m.Lookup(uint32(0), &end) == nil
}
