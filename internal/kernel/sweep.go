package kernel

import (
	"errors"
	"fmt"
	"strings"
	"time"

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
	Ended     bool // what has kept the qdisc since a tap ended in good order
}

// Sweep removes from the interfaces of a network namespace ("" for the process's own) the filters that processes of ours left at clsact
// qdiscs when they were killed: those whose process is gone, or whose lease has ended; and qdiscs that stayed when a tap ended. Filters of others, and of processes
// that live, stay.
func Sweep(space string) (gone []Swept, err error) {
	return sweepIn(space, stale)
}

// sweepIn removes the filters that one reports to be stale.
func sweepIn(space string, stale func(*netlink.BpfFilter) bool) (gone []Swept, err error) {
	err = netns.Do(space, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("kernel: sweep: %w", err)
		}
		defer h.Close()
		links, err := whole(h.LinkList)
		if err != nil {
			return fmt.Errorf("kernel: sweep: interfaces: %w", err)
		}
		mine, err := marked()
		errs := []error{err}
		for _, l := range links {
			swept, err := sweep(h, nil, l.Attrs(), stale)
			if err == nil && swept == nil && mine[l.Attrs().Index] {
				swept, err = sweepEmpty(h, l.Attrs())
			}
			gone, errs = append(gone, swept...), append(errs, err)
		}
		return errors.Join(errs...)
	})
	return gone, err
}

// errBusy says that something of ours stays for a while.
var errBusy = errors.New("traffic passes: removing the qdisc would lose packets; its last filter, which does nothing after its lease, stays until a quiet moment")

// sweep removes what is stale on one interface of a namespace, nil for the present thread's. The last filter says that the qdisc is ours, and goes with it.
func sweep(h *netlink.Handle, space *netns.Space, a *netlink.LinkAttrs, stale func(*netlink.BpfFilter) bool) (gone []Swept, err error) {
	defer space.Lock(patience)()
	var dead []*netlink.BpfFilter
	last, mine := true, false
	for _, dir := range directions {
		list, err := filters(h, a.Index, dir)
		if err != nil {
			continue // no qdisc
		}
		for _, f := range list {
			b, ok := f.(*netlink.BpfFilter)
			if !ok || !strings.HasPrefix(b.Name, filterName) && !holds(b) || !stale(b) {
				last = false
				continue
			}
			dead, mine = append(dead, b), mine || ClaimsQdisc(b.Name, b.ClassId)
		}
	}
	for i, b := range dead {
		if mine && last && i == len(dead)-1 && !silent(h, a.Index) {
			return gone, fmt.Errorf("kernel: sweep: interface %s: %w", a.Name, errBusy)
		}
		switch err := h.FilterDel(b); {
		case vanished(err): // another one swept, too
			continue
		case err != nil:
			return gone, fmt.Errorf("kernel: sweep: interface %s: %w", a.Name, err)
		}
		gone = append(gone, Swept{Interface: a.Name, Direction: directionOf(b), Ended: holds(b)})
	}
	if !mine || len(gone) == 0 {
		return gone, nil
	}
	if err := dropEmpty(h, a.Index); err != nil {
		return gone, err
	}
	gone[len(gone)-1].Qdisc = !claimed(h, a.Index)
	return gone, nil
}

// sweepEmpty removes a qdisc of ours without filters: whoever made it was killed before it had some.
func sweepEmpty(h *netlink.Handle, a *netlink.LinkAttrs) (gone []Swept, err error) {
	defer (*netns.Space)(nil).Lock(patience)()
	for _, dir := range directions {
		if list, err := filters(h, a.Index, dir); err != nil || len(list) > 0 {
			return nil, nil // gone, or in use
		}
	}
	if !silent(h, a.Index) {
		return nil, fmt.Errorf("kernel: sweep: interface %s: %w", a.Name, errBusy)
	}
	if err := dropEmpty(h, a.Index); err != nil {
		return nil, err
	}
	return []Swept{{Interface: a.Name, Qdisc: true, Ended: true}}, nil
}

func directionOf(f *netlink.BpfFilter) frame.Direction {
	if f.Parent == parentOf(frame.Egress) {
		return frame.Egress
	}
	return frame.Ingress
}

// silence is how long an interface has to have sent nothing before its qdisc is removed: while it does that, the kernel drops what is sent. Tests lengthen it.
var silence = 10 * time.Millisecond

// silent reports whether nothing is sent through an interface.
func silent(h *netlink.Handle, index int) bool {
	sent := func() uint64 {
		if l, err := h.LinkByIndex(index); err == nil && l.Attrs().Statistics != nil {
			return l.Attrs().Statistics.TxPackets
		}
		return 0
	}
	before := sent()
	time.Sleep(silence)
	return sent() == before
}

// ours reports whether an interface of the present thread's namespace has a qdisc that is ours, as itself says or a filter there.
func ours(h *netlink.Handle, index int) bool {
	if mine, _ := marked(); mine[index] {
		return true
	}
	return claimed(h, index)
}

// claimed reports whether a filter at an interface says that the qdisc is ours.
func claimed(h *netlink.Handle, index int) bool {
	for _, dir := range directions {
		list, err := filters(h, index, dir)
		if err != nil {
			continue
		}
		for _, f := range list {
			if b, ok := f.(*netlink.BpfFilter); ok && ClaimsQdisc(b.Name, b.ClassId) {
				return true
			}
		}
	}
	return false
}

// stale reports whether a filter is one of ours whose process is gone, or whose lease has ended: of a process that has hung, or of which nothing is
// known here. Only with CAP_SYS_ADMIN the kernel lets others' programs be looked at.
func stale(b *netlink.BpfFilter) bool {
	if holds(b) || orphan(b.Name) {
		return true
	}
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(b.Id))
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
