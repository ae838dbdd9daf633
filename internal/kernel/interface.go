package kernel

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// promiscuous has an interface take frames that are addressed to others for as long as the socket is open. No frame comes to the
// socket: it has no protocol.
func promiscuous(index int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// UnknownInterface says that there is no interface of that name, and which there are.
type UnknownInterface struct {
	Name string
	Have []string
}

func (e *UnknownInterface) Error() string {
	return fmt.Sprintf("interface %q: there is none of that name; there are: %s", e.Name, strings.Join(e.Have, ", "))
}

func unknown(name string, err error) error {
	var missing netlink.LinkNotFoundError
	if !errors.As(err, &missing) {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	e := &UnknownInterface{Name: name}
	all, _ := net.Interfaces()
	for _, i := range all {
		e.Have = append(e.Have, i.Name)
	}
	return e
}

func linkType(a *netlink.LinkAttrs) (frame.LinkType, error) {
	switch a.EncapType {
	case "ether", "loopback":
		return frame.LinkEthernet, nil
	case "none", "rawip", "ipip", "tunnel6", "sit":
		return frame.LinkRaw, nil
	}
	return 0, fmt.Errorf("interface %q: link type %s is neither Ethernet nor bare IP", a.Name, a.EncapType)
}

// present returns the index of each interface that is there.
func (l *line) present() map[string]int {
	found := map[string]int{}
	_ = netns.Do(l.cfg.NetNS, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		for _, name := range l.cfg.Interfaces {
			if x, err := h.LinkByName(name); err == nil {
				found[name] = x.Attrs().Index
			}
		}
		return nil
	})
	return found
}

// Interface returns the name and the present index of a point's interface; the index is 0 while there is none.
func (l *line) Interface(point uint32) (name string, index uint32) {
	if int(point) >= len(l.cfg.Interfaces) {
		return "", 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg.Interfaces[point], uint32(l.index[point])
}

// Link returns the link type of a point's interface, false before it is known.
func (l *line) Link(point uint32) (frame.LinkType, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(point) >= len(l.link) || l.link[point] == 0 {
		return 0, false
	}
	return l.link[point], true
}

// allLinks returns the link types of all points in the memory of list.
func (l *line) allLinks(list []frame.LinkType) []frame.LinkType {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(list[:0], l.link...)
}

// Lost returns the number of frames of a point that could not be copied.
func (l *line) Lost(point uint32) uint64 { return l.read(int(point))[statLost] }

// Missed returns 0: what an interface drops before its hook is not known here.
func (l *line) Missed(uint32) uint64 { return 0 }

// loopback reports whether what leaves through an interface comes in there at once.
func loopback(index int) bool {
	i, err := net.InterfaceByIndex(index)
	return err == nil && i.Flags&net.FlagLoopback != 0
}
