//go:build linux

package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/libvirt"
)

// How changes are followed: the kernel says that something changed, and everything is read again.
const (
	settle  = 5 * time.Millisecond   // several notices of one change come at once
	calm    = 500 * time.Millisecond // at least so long between two looks for the sake of learnt addresses alone
	refresh = 15 * time.Second       // for what no notice tells: counters, names of namespaces
)

// groups are the kernel's notices that are listened to (linux/rtnetlink.h).
var groups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_NSID,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE}

// Watch implements platform.Platform.
func (p *Platform) Watch(ctx context.Context, update func(platform.Update)) error {
	w := &watcher{p: p, update: update, kick: make(chan struct{}, 1), learnt: make(chan struct{}, 1)}
	fd := -1
	err := p.with(func() error { return p.space.Do(func() (err error) { fd, err = listen(); return err }) })
	if err != nil {
		return fmt.Errorf("linux: %s: %w", p.cfg.Name, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.notices(ctx, fd) })
	if p.cfg.Libvirt != nil {
		g.Go(func() error { return p.cfg.Libvirt.Watch(ctx, w.known, nil) })
	}
	g.Go(func() error { return w.run(ctx) })
	return g.Wait()
}

// listen opens a socket for the kernel's notices.
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("netlink: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("netlink: listen: %w", err)
	}
	return fd, nil
}

// watcher follows one kernel.
type watcher struct {
	p      *Platform
	update func(platform.Update)
	kick   chan struct{} // something changed
	learnt chan struct{} // an address was learnt or forgotten
	silent atomic.Bool   // there is a port whose machine is known by its first packet alone

	mu     sync.Mutex
	guests *libvirt.State // nil until libvirt has told something
	lost   error          // of libvirt
	asked  bool           // libvirt has answered, if only with an error

	last  *platform.Snapshot
	links map[int]bool // indexes of interfaces at the last look
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one look finds both
	}
}

// notices turns what the kernel says into looks, until ctx ends.
func (w *watcher) notices(ctx context.Context, fd int) error {
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			_, _ = unix.Poll(poll, int(100*time.Millisecond/time.Millisecond))
		case errors.Is(err, unix.ENOBUFS): // notices are lost, which does not matter: everything is read again
			poke(w.kick)
		case err != nil:
			return fmt.Errorf("linux: %s: netlink: %w", w.p.cfg.Name, err)
		default:
			if w.silent.Load() || w.urgent(buf[:n]) {
				poke(w.kick)
			} else {
				poke(w.learnt)
			}
		}
	}
	return nil
}

// urgent reports whether there is more in a datagram than news of neighbours and routes.
func (w *watcher) urgent(b []byte) bool {
	for len(b) >= unix.SizeofNlMsghdr {
		n, kind := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
		switch kind {
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH, unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		default:
			return true
		}
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return true
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return false
}

// known takes what libvirt says.
func (w *watcher) known(s *libvirt.State, err error) {
	w.mu.Lock()
	if s != nil {
		w.guests = s
	}
	w.lost, w.asked = err, true
	w.mu.Unlock()
	poke(w.kick)
}

// run looks whenever there may be something to see.
func (w *watcher) run(ctx context.Context) error {
	regular := time.NewTicker(refresh)
	defer regular.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var learnt <-chan struct{}
	var rest time.Time // nothing is looked at before that
	poke(w.kick)
	for {
		counters := false
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
			time.Sleep(max(settle, time.Until(rest)))
			select {
			case <-w.kick:
			default:
			}
		case <-learnt:
		case <-quiet.C:
			learnt = w.learnt
			continue
		case <-regular.C:
			counters = true
		}
		learnt = nil
		quiet.Reset(calm)
		began := time.Now()
		err := w.look(counters)
		rest = time.Now().Add(min(3*time.Since(began), calm)) // a host with thousands of ports must not spend its time on looking
		if err != nil && ctx.Err() == nil {
			w.p.log.Warn("the kernel does not answer", "platform", w.p.cfg.Name, "error", err)
			w.lose(err)
		}
	}
}

// lose tells that what is known may be old. What is told next is whole.
func (w *watcher) lose(err error) {
	if w.last != nil {
		w.update(platform.Update{AtNS: time.Now().UnixNano(), Lost: err})
		w.last = nil
	}
}

// look reads everything and tells what is new. Before libvirt has answered for the first time nothing is told: ports without their VMs
// would look like VMs that are gone.
func (w *watcher) look(counters bool) error {
	w.mu.Lock()
	guests, lost, asked := w.guests, w.lost, w.asked
	w.mu.Unlock()
	if w.p.cfg.Libvirt != nil && !asked {
		return nil
	}
	now, err := w.p.see(guests)
	if err != nil {
		return err
	}
	w.arrivals(now)
	w.p.look(now)
	now.Lost = lost
	u := platform.Difference(w.last, now, counters)
	changed := w.last == nil || !sameError(w.last.Lost, lost) || len(u.Hosts)+len(u.Switches)+len(u.VMs)+len(u.Ports)+len(u.Objects)+len(u.Gone) > 0
	w.last = now
	if changed {
		w.update(u)
	}
	return nil
}

// arrivals notes which ports have come since the last look, and forgets those that have gone.
func (w *watcher) arrivals(now *platform.Snapshot) {
	links, silent := make(map[int]bool, len(now.Ports)), false
	for _, p := range now.Ports {
		silent = silent || p.Tags[tagSilent] != "" && p.Up
		i, _ := strconv.Atoi(p.Tags[tagIndex])
		if links[i] = true; w.links != nil && !w.links[i] {
			w.p.arrival(i)
		}
	}
	for i := range w.links {
		if !links[i] {
			w.p.fresh.Delete(i)
		}
	}
	w.links = links
	w.silent.Store(silent)
}

func sameError(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}
