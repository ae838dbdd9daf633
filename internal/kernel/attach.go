package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// attachment is a program at its hook.
type attachment interface{ Close() error }

// attach puts a program at a hook of an interface of the present thread's namespace, before those that are there already where the
// kernel has an order.
func attach(way Way, index int, dir frame.Direction, p *ebpf.Program) (attachment, error) {
	if way == Clsact {
		return attachFilter(index, dir, p)
	}
	hook := ebpf.AttachTCXIngress
	if dir == frame.Egress {
		hook = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: hook, Anchor: link.Head()})
	if err != nil {
		return nil, fmt.Errorf("attach at TCX: %w", permission(err))
	}
	return l, nil
}

// permission says which privileges are missing. What the kernel's verifier has refused to let a program do stands as it says it.
func permission(err error) error {
	if v := (*ebpf.VerifierError)(nil); errors.As(err, &v) && len(v.Log) > 0 {
		return err
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: programs need CAP_BPF and CAP_NET_ADMIN: run as root, or once \"setcap cap_bpf,cap_net_admin,cap_net_raw+ep\" on the program", os.ErrPermission)
	}
	return err
}

// filterName is the beginning of the names of our filters. A q says that the qdisc is ours, too. Behind it stands the process (owner).
const (
	filterName  = "crosstap"
	qdiscIsOurs = filterName + ":q"
)

// tcFilter is a program at a clsact qdisc.
type tcFilter struct {
	h      *netlink.Handle
	filter *netlink.BpfFilter
	space  *netns.Space // of the interface
	index  int
	qdisc  bool // that we made it
}

func clsact(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

func parentOf(dir frame.Direction) uint32 {
	if dir == frame.Egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

func attachFilter(index int, dir frame.Direction, p *ebpf.Program) (attachment, error) {
	h, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("tc: %w", err)
	}
	space, err := netns.Open("/proc/thread-self/ns/net")
	if err != nil {
		h.Close()
		return nil, err
	}
	f := &tcFilter{h: h, space: space, index: index}
	if err := f.add(dir, p); err != nil {
		f.release()
		return nil, fmt.Errorf("attach at clsact: %w", permission(err))
	}
	return f, nil
}

// addTries bounds how often a filter is added again because a sweep has just removed the qdisc, which was empty.
const addTries = 3

func (f *tcFilter) add(dir frame.Direction, p *ebpf.Program) (err error) {
	for range addTries {
		if err = f.try(dir, p); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return err
}

func (f *tcFilter) release() {
	f.h.Close()
	f.space.Close()
}

// try makes the qdisc, unless it is there, and the filter.
func (f *tcFilter) try(dir frame.Direction, p *ebpf.Program) error {
	if err := f.put(dir, p); err != nil {
		return err
	}
	_, _ = sweep(f.h, f.space, &netlink.LinkAttrs{Index: f.index}, holds) // what has kept the qdisc until now
	return nil
}

func (f *tcFilter) put(dir frame.Direction, p *ebpf.Program) (err error) {
	defer f.space.Lock(patience)()
	made := addQdisc(f.index)
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return fmt.Errorf("qdisc: %w", made)
	}
	defer func() {
		if made == nil && err != nil {
			_ = dropEmpty(f.h, f.index) // the first error counts
		}
	}()
	name := filterName
	if f.qdisc = made == nil || ours(f.h, f.index); f.qdisc {
		name = qdiscIsOurs
	}
	if who := self(); who != "" {
		name += " " + who
	}
	priority, err := f.freePriority(dir)
	if err != nil {
		return err
	}
	f.filter = &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: f.index, Parent: parentOf(dir), Priority: priority, Protocol: unix.ETH_P_ALL, Handle: 1},
		Fd:          p.FD(), Name: name, DirectAction: true,
	}
	if err := f.h.FilterAdd(f.filter); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// freePriority returns a priority that no filter of the hook has: the program lets the others run, so that any will do.
func (f *tcFilter) freePriority(dir frame.Direction) (uint16, error) {
	list, err := filters(f.h, f.index, dir)
	if err != nil {
		return 0, err
	}
	used := map[uint16]bool{}
	for _, x := range list {
		used[x.Attrs().Priority] = true
	}
	for p := uint16(1); p != 0; p++ {
		if !used[p] {
			return p, nil
		}
	}
	return 0, errors.New("every priority is taken")
}

func filters(h *netlink.Handle, index int, dir frame.Direction) ([]netlink.Filter, error) {
	list, err := whole(func() ([]netlink.Filter, error) {
		return h.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}, parentOf(dir))
	})
	if err != nil {
		return nil, fmt.Errorf("filters: %w", err)
	}
	return list, nil
}

// whole asks for a list again, a few times, when it changed while the kernel told it. One that changes all the time counts as it is.
func whole[T any](ask func() ([]T, error)) (list []T, err error) {
	for range addTries {
		if list, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, nil
}

// Close takes the filter away, and the qdisc when it is ours and nothing is left in it: with errStays not yet, as traffic passes.
func (f *tcFilter) Close() error {
	defer f.release()
	defer f.space.Lock(patience)() // two filters that are the last ones are not taken away at once, each with the other still there
	var stays error
	if f.qdisc && f.last() && !silent(f.h, f.index) {
		if stays = f.stay(); stays == nil {
			stays = errStays
		}
	}
	if err := f.h.FilterDel(f.filter); err != nil && !vanished(err) {
		return fmt.Errorf("tc: filter: %w", err)
	}
	if f.qdisc {
		return errors.Join(stays, dropEmpty(f.h, f.index))
	}
	return nil
}

// vanished reports whether what was to be removed, or what it was at, is not there.
func vanished(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}

// dropEmpty removes a qdisc without filters. The caller has the namespace's lock since before the last filter went: an empty qdisc tells nobody that it is ours.
func dropEmpty(h *netlink.Handle, index int) error {
	for _, dir := range directions {
		if list, err := filters(h, index, dir); err != nil || len(list) > 0 {
			return nil // gone, or in use
		}
	}
	if err := h.QdiscDel(clsact(index)); err != nil && !vanished(err) {
		return fmt.Errorf("tc: qdisc: %w", err)
	}
	return nil
}
