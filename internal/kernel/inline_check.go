package kernel

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Refused says why two interfaces must not be joined.
type Refused struct{ Why string }

func (e *Refused) Error() string { return e.Why }

func refusef(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// checkPair finds the interfaces, and refuses those between which frames would go round for ever, be lost, or be taken away from the host.
func checkPair(h *netlink.Handle, a, b string) (links [2]netlink.Link, err error) {
	for i, name := range []string{a, b} {
		if links[i], err = h.LinkByName(name); err != nil {
			return links, unknown(name, err)
		}
		x := links[i].Attrs()
		if x.EncapType != "ether" {
			return links, refusef("interface %s is not Ethernet: it cannot be one of a pair", name)
		}
		if x.MasterIndex != 0 {
			return links, refuseMaster(h, x)
		}
		if err := hasAddress(h, links[i]); err != nil {
			return links, err
		}
	}
	first, second := links[0].Attrs(), links[1].Attrs()
	switch {
	case first.Index == second.Index:
		return links, refusef("%s and %s are one interface", a, b)
	case first.MTU != second.MTU:
		return links, refusef("interface %s has an MTU of %d, %s of %d: longer frames would be lost: \"ip link set %s mtu %d\"", a, first.MTU, b, second.MTU, smaller(first, second).Name, max(first.MTU, second.MTU))
	}
	return links, loops(h, links)
}

func smaller(a, b *netlink.LinkAttrs) *netlink.LinkAttrs {
	if a.MTU < b.MTU {
		return a
	}
	return b
}

// refuseMaster refuses ports of bridges, bonds and the like: what comes in would never reach those.
func refuseMaster(h *netlink.Handle, x *netlink.LinkAttrs) error {
	name, kind := fmt.Sprint(x.MasterIndex), "device"
	if m, err := h.LinkByIndex(x.MasterIndex); err == nil {
		name, kind = m.Attrs().Name, m.Type()
	}
	return refusef("interface %s is a port of the %s %s, which would send into the pair and get nothing from it; in one bridge the two would be a loop: \"ip link set %s nomaster\"", x.Name, kind, name, x.Name)
}

// hasAddress refuses an interface by which the host itself is reached. Addresses that the kernel gives by itself do not count.
func hasAddress(h *netlink.Handle, l netlink.Link) error {
	list, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("interface %s: addresses: %w", l.Attrs().Name, err)
	}
	for _, a := range list {
		if a.IP.IsGlobalUnicast() {
			return refusef("interface %s has the address %s: the host would not be reached by it any more: \"ip addr flush dev %s\"", l.Attrs().Name, a.IPNet, l.Attrs().Name)
		}
	}
	return nil
}

// loops refuses interfaces that lead to each other by themselves: the two ends of one veth pair, those whose other ends are ports of one bridge,
// and an interface with a VLAN or the like of itself.
func loops(h *netlink.Handle, links [2]netlink.Link) error {
	a, b := links[0].Attrs(), links[1].Attrs()
	for i, l := range links {
		x, other := l.Attrs(), links[1-i].Attrs()
		if x.ParentIndex != other.Index || x.NetNsID >= 0 {
			continue
		}
		if l.Type() == "veth" {
			return refusef("%s and %s are the two ends of one veth pair: frames would go round for ever", a.Name, b.Name)
		}
		return refusef("interface %s is stacked on %s: frames would go round for ever", x.Name, other.Name)
	}
	var masters [2]int
	for i, l := range links {
		x := l.Attrs()
		if l.Type() != "veth" || x.NetNsID >= 0 || x.ParentIndex == 0 {
			continue
		}
		if peer, err := h.LinkByIndex(x.ParentIndex); err == nil {
			masters[i] = peer.Attrs().MasterIndex
		}
	}
	if masters[0] != 0 && masters[0] == masters[1] {
		name := fmt.Sprint(masters[0])
		if m, err := h.LinkByIndex(masters[0]); err == nil {
			name = m.Attrs().Name
		}
		return refusef("the other ends of %s and %s are ports of one bridge, %s: frames would go round for ever", a.Name, b.Name, name)
	}
	return nil
}

// What ethtool(8) asks the kernel for (linux/ethtool.h, linux/sockios.h).
const (
	ethtoolGetFlags = 0x25
	ethtoolSetFlags = 0x26
	flagLRO         = 1 << 15
)

// ethtoolValue and ifreqData are struct ethtool_value and struct ifreq.
type ethtoolValue struct{ cmd, data uint32 }

type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// ethtoolFlags reads or writes an interface's flags in the present thread's network namespace.
func ethtoolFlags(name string, v *ethtoolValue) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r := ifreqData{data: unsafe.Pointer(v)}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	runtime.KeepAlive(v)
	if errno != 0 {
		return errno
	}
	return nil
}

// largeReceiveOff switches large receive offload off, and reports whether it was on. Interfaces that know no such flags have none.
func largeReceiveOff(name string) (was bool, err error) {
	v := ethtoolValue{cmd: ethtoolGetFlags}
	if err := ethtoolFlags(name, &v); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			return false, nil
		}
		return false, err
	}
	if v.data&flagLRO == 0 {
		return false, nil
	}
	v.cmd, v.data = ethtoolSetFlags, v.data&^flagLRO
	return true, ethtoolFlags(name, &v)
}

// largeReceiveOn switches it on again.
func largeReceiveOn(name string) error {
	v := ethtoolValue{cmd: ethtoolGetFlags}
	if err := ethtoolFlags(name, &v); err != nil {
		return err
	}
	v.cmd, v.data = ethtoolSetFlags, v.data|flagLRO
	return ethtoolFlags(name, &v)
}
