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
)

// device is where clones are sent to, in the network namespace of the tapped interfaces: a macvlan above a tap whose file nobody reads. Whole clones are
// wrapped at the upper one. Super-frames that are to be cut pass it: it takes none in one piece, so that the kernel cuts them, and their segments are wrapped at the
// lower one. Nothing goes further than that. Both end with the file, and so with the process.
type device struct {
	name      string
	index     int // of the upper one
	lower     int // its index
	file      int // of the lower one, -1 for none
	at        []attachment
	progs     []*ebpf.Program
	out, back *stats // of the wrappers at the upper and at the lower one
}

// devices counts those that were made, for their names.
var devices atomic.Uint32

// newDevice makes the pair in the namespace of the present thread, with the wrappers at its hooks.
func newDevice(way Way, o *Outer, out *wayOut, point uint32, said *orders, p *pace) (d *device, err error) {
	d = &device{file: -1}
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
	if err = d.make(); err != nil {
		return d, err
	}
	for _, x := range []struct {
		index int
		stats *stats
		cut   bool
	}{{d.index, d.out, false}, {d.lower, d.back, true}} {
		w := newWrapper(o, out, point)
		w.cut, w.stats, w.orders, w.pace = x.cut, x.stats, said, p
		p, err := load("xt_wrap", w.assemble())
		if err != nil {
			return d, err
		}
		d.progs = append(d.progs, p)
		a, err := attach(way, x.index, frame.Egress, p)
		if err != nil {
			return d, err
		}
		d.at = append(d.at, a)
	}
	return d, carries(d.name)
}

// make makes the pair and sets it up.
func (d *device) make() error {
	h, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	lower, err := d.openTap(h)
	if err != nil {
		return err
	}
	d.lower = lower.Attrs().Index
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex, a.Alias = d.name, d.lower, "crosstap: copies on their way"
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
		return fmt.Errorf("macvlan: %w", err)
	}
	upper, err := h.LinkByName(d.name)
	if err != nil {
		return err
	}
	d.index = upper.Attrs().Index
	if err := errors.Join(h.LinkSetGSOMaxSegs(upper, 1), h.LinkSetGSOMaxSize(upper, smallSuper)); err != nil {
		return fmt.Errorf("no super-frames: %w", err)
	}
	return errors.Join(quietUp(h, lower), quietUp(h, upper))
}

// smallSuper is a length that no super-frame is shorter than. Of those of virtual machines the kernel does not know of how many segments they are; it lets no interface
// have less than the headers of TCP may take.
const smallSuper = 512

// tunPath makes taps.
const tunPath = "/dev/net/tun"

// openTap makes the lower one, under a name that nobody has, and finds one for the upper one.
func (d *device) openTap(h *netlink.Handle) (netlink.Link, error) {
	var err error
	switch d.file, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0); {
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: copies in the kernel need %s: let every user open it, as udev does", os.ErrPermission, tunPath)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", tunPath, err)
	}
	const attempts = 64
	for range attempts {
		n := devices.Add(1)
		name := fmt.Sprintf("xl%d.%d", os.Getpid(), n)
		r, err := unix.NewIfreq(name)
		if err != nil {
			return nil, err
		}
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
		switch err := unix.IoctlIfreq(d.file, unix.TUNSETIFF, r); {
		case err == nil:
			d.name = fmt.Sprintf("xt%d.%d", os.Getpid(), n)
			return h.LinkByName(name)
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST):
			return nil, fmt.Errorf("tap: %w", err)
		}
	}
	return nil, fmt.Errorf("tap: %w", unix.EBUSY)
}

// quietUp brings an interface up that the kernel sends nothing through by itself.
func quietUp(h *netlink.Handle, l netlink.Link) error {
	_ = h.LinkSetIP6AddrGenMode(l, 1) // none; without IPv6 there is nothing to set
	if err := h.LinkSetARPOff(l); err != nil {
		return err
	}
	return h.LinkSetUp(l)
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

// close takes the device away.
func (d *device) close() {
	for _, a := range d.at {
		if l, ok := a.(link.Link); ok {
			_ = l.Close()
		} // filters of tc go with the device
	}
	if d.file >= 0 {
		_ = unix.Close(d.file)
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
