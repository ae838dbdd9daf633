//go:build linux

package linux

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// openHandle opens the library's sockets in a namespace.
func openHandle(s *netns.Space) (h *netlink.Handle, err error) {
	err = s.Do(func() (err error) { h, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err })
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return h, nil
}

// disableIPv6 keeps a device of ours from speaking by itself. Kernels without IPv6 need none of that.
func disableIPv6(s *netns.Space, device string) error {
	return s.Do(func() error {
		err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", device, "disable_ipv6"), []byte("1"), 0)
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
}

// namedSpaces are where programs keep namespaces under names: iproute2 and podman, docker.
var namedSpaces = []string{"/run/netns", "/run/docker/netns"}

// neighbour is another namespace that an interface of ours leads into.
type neighbour struct {
	name  string
	links map[int]netlink.Link // by index
	addrs map[int][]netlink.Addr
}

// neighbours opens the named namespaces that ours has a number for, and tells them by it.
func neighbours(number func(fd int) (int, bool)) map[int]*neighbour {
	out := map[int]*neighbour{}
	for _, dir := range namedSpaces {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			id, ok := numberOf(path, number)
			if !ok || out[id] != nil {
				continue
			}
			if n, err := look(path); err == nil { // one that has just gone is of no interest
				n.name = e.Name()
				out[id] = n
			}
		}
	}
	return out
}

func numberOf(path string, number func(fd int) (int, bool)) (int, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	return number(int(f.Fd()))
}

// look reads the interfaces and addresses of a namespace.
func look(path string) (*neighbour, error) {
	s, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	h, err := openHandle(s)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := listed(h.LinkList)
	if err != nil {
		return nil, err
	}
	addrs, err := listed(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	n := &neighbour{links: map[int]netlink.Link{}, addrs: map[int][]netlink.Addr{}}
	for _, l := range links {
		n.links[l.Attrs().Index] = l
	}
	for _, a := range addrs {
		n.addrs[a.LinkIndex] = append(n.addrs[a.LinkIndex], a)
	}
	return n, nil
}
