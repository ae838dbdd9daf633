package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// device is one end of a veth pair, in the network namespace of the tapped interfaces, that clones are sent to. The other end is in a
// namespace that ends with the process, and both ends with it. What comes out there is sent back.
type device struct {
	name      string
	index     int
	peer      string
	at        []attachment
	progs     []*ebpf.Program
	out, back *stats // of the wrappers at the egress and at the ingress hook
}

// devices counts those that were made, for their names.
var devices atomic.Uint32

// deviceMTU is the most that a device can have: what is sent to it had room on the interface it comes from.
const deviceMTU = 65535

// newDevice makes the pair in the namespace of the present thread and of own, with the wrappers at its hooks.
func newDevice(way Way, own *os.File, o *Outer, out *wayOut, point uint32, said *orders, p *pace) (d *device, err error) {
	d = &device{}
	defer func() {
		if err != nil {
			d.close()
			d, err = nil, fmt.Errorf("device for copies: %w", permission(err))
		}
	}()
	if d.out, err = newStats(); err != nil {
		return d, err
	}
	if d.back, err = newStats(); err != nil {
		return d, err
	}
	if err = d.make(own); err != nil {
		return d, err
	}
	if err = inSpace(own, func() error { return d.bounce(way) }); err != nil {
		return d, err
	}
	if err = carries(d.name); err != nil {
		return d, err
	}
	for _, dir := range directions {
		w := newWrapper(o, out, point)
		w.dir, w.stats, w.orders, w.pace = dir, d.out, said, p
		if dir == frame.Ingress {
			w.stats = d.back
		}
		p, err := load("xt_wrap", w.assemble())
		if err != nil {
			return d, err
		}
		d.progs = append(d.progs, p)
		a, err := attach(way, d.index, dir, p)
		if err != nil {
			return d, err
		}
		d.at = append(d.at, a)
	}
	return d, nil
}

// make makes the pair and sets it up. No super-frame leaves it in one piece.
func (d *device) make(own *os.File) error {
	h, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	const attempts = 64
	for range attempts {
		n := devices.Add(1)
		d.name, d.peer = fmt.Sprintf("xt%d.%d", os.Getpid(), n), fmt.Sprintf("xp%d", n)
		a := netlink.NewLinkAttrs()
		a.Name, a.MTU, a.Alias = d.name, deviceMTU, "crosstap: copies on their way"
		v := &netlink.Veth{LinkAttrs: a, PeerName: d.peer, PeerNamespace: netlink.NsFd(int(own.Fd())), PeerMTU: deviceMTU}
		if err = h.LinkAdd(v); !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	if err != nil {
		d.name = ""
		return fmt.Errorf("veth pair: %w", err)
	}
	l, err := h.LinkByName(d.name)
	if err != nil {
		return err
	}
	d.index = l.Attrs().Index
	if err := h.LinkSetGSOMaxSegs(l, 1); err != nil {
		return fmt.Errorf("no super-frames: %w", err)
	}
	return quietUp(h, l)
}

// quietUp brings an interface up that the kernel sends nothing through by itself.
func quietUp(h *netlink.Handle, l netlink.Link) error {
	_ = h.LinkSetIP6AddrGenMode(l, 1) // none; without IPv6 there is nothing to set
	if err := h.LinkSetARPOff(l); err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

// bounce has the other end send back what comes. It runs in its namespace.
func (d *device) bounce(way Way) error {
	h, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(d.peer)
	if err != nil {
		return err
	}
	if err := quietUp(h, l); err != nil {
		return err
	}
	p, err := load("xt_bounce", bounce())
	if err != nil {
		return err
	}
	d.progs = append(d.progs, p)
	a, err := attach(way, l.Attrs().Index, frame.Ingress, p)
	if err != nil {
		return err
	}
	d.at = append(d.at, a)
	return carries(d.peer)
}

// carries waits until an interface of the thread's namespace carries packets: a moment after it was brought up the kernel still throws away
// what is sent.
func carries(name string) error {
	const most = 2 * time.Second
	for end := time.Now().Add(most); ; time.Sleep(time.Millisecond) {
		l, err := netlink.LinkByName(name)
		if err != nil || l.Attrs().RawFlags&unix.IFF_RUNNING != 0 {
			return err
		}
		if time.Now().After(end) {
			return nil // what it loses is counted
		}
	}
}

// inSpace runs f on a thread in a network namespace.
func inSpace(space *os.File, f func() error) error {
	return netns.OnThread(func() error {
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		return f()
	})
}

// close takes the device away, in the namespace that it is in.
func (d *device) close() {
	for _, a := range d.at {
		if l, ok := a.(link.Link); ok {
			_ = l.Close()
		} // filters of tc go with the device
	}
	if d.name != "" {
		if l, err := netlink.LinkByName(d.name); err == nil {
			_ = netlink.LinkDel(l)
		}
	}
	for _, p := range d.progs {
		_ = p.Close()
	}
	for _, s := range []*stats{d.out, d.back} {
		if s != nil {
			s.close()
		}
	}
}

// shed returns the packets that the kernel counts as dropped between the two ends: its queue of received packets was full, for example. Such a loss stands
// both in the counters of the end that sent it and of the end that was to receive it; of segments that are lost together it counts one.
func (d *device) shed(space string, own *os.File) uint64 {
	var near, far netlink.LinkStatistics
	read := func(name string, into *netlink.LinkStatistics) func() error {
		return func() error {
			l, err := netlink.LinkByName(name)
			if err == nil && l.Attrs().Statistics != nil {
				*into = *l.Attrs().Statistics
			}
			return err
		}
	}
	_ = netns.Do(space, read(d.name, &near))
	_ = inSpace(own, read(d.peer, &far))
	return max(near.TxDropped, far.RxDropped) + max(far.TxDropped, near.RxDropped)
}
