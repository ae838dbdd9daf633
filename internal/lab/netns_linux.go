package lab

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	ownnetns "crosstap/internal/netns"
)

// A space is a network namespace without a name. It lives as long as a handle or a process in it.
type space struct {
	name string
	ns   netns.NsHandle
	*netlink.Handle
}

// newSpace makes a namespace with its loopback interface up.
func newSpace(name string) (*space, error) {
	s := &space{name: name}
	err := ownnetns.OnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if s.ns, err = netns.GetFromPath("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		s.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	return s, s.up("lo")
}

// do runs f on a thread of its own inside the namespace. Goroutines that f starts are outside.
func (s *space) do(f func() error) error {
	return ownnetns.OnThread(func() error {
		if err := netns.Set(s.ns); err != nil {
			return fmt.Errorf("lab: enter %s: %w", s.name, err)
		}
		return f()
	})
}

func (s *space) close() {
	s.Handle.Close()
	s.ns.Close()
}

// wrap says where an error happened.
func (s *space) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("lab: %s: %s: %w", s.name, what, err)
}

func (s *space) link(name string) (netlink.Link, error) {
	l, err := s.LinkByName(name)
	return l, s.wrap(name, err)
}

// up brings an interface up. It gets no IPv6 link-local address: the kernel would announce it.
func (s *space) up(name string) error {
	l, err := s.link(name)
	if err != nil {
		return err
	}
	if name != "lo" {
		const none = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
		if err := s.LinkSetIP6AddrGenMode(l, none); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return s.wrap(name+": no link-local address", err)
		}
	}
	return s.wrap(name+" up", s.LinkSetUp(l))
}

// sysctl writes a setting of the namespace's network stack. Settings that this kernel does not
// have, or that cannot be written in a container, are left alone: they only reduce noise.
func (s *space) sysctl(path, value string) {
	_ = s.do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
}
