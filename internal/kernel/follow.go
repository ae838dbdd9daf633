package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// Attached is what has programs at interfaces: a Mirror, Flows or Headers.
type Attached interface{ base() *line }

func (l *line) base() *line { return l }

// Begin attaches the programs of one that was opened with Config.Wait.
func (l *line) Begin() error {
	l.change.Lock()
	defer l.change.Unlock()
	if !l.waits || l.ended {
		return nil
	}
	l.waits = false
	if l.off {
		return nil
	}
	return l.joinEach()
}

// End detaches the programs for good. What they have counted and copied is still told.
func (l *line) End() {
	l.change.Lock()
	defer l.change.Unlock()
	l.ended = true
	l.leaveAll()
}

// joinEach attaches programs to all interfaces, each of which must be there.
func (l *line) joinEach() error {
	for point := range l.cfg.Interfaces {
		if err := l.join(uint32(point)); err != nil {
			l.leaveAll()
			return fmt.Errorf("kernel: %w", err)
		}
	}
	return nil
}

// ready finds out, for one that waits, whether its programs could be attached.
func (l *line) ready() error {
	if err := l.check(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	return netns.Do(l.cfg.NetNS, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		defer h.Close()
		for point, name := range l.cfg.Interfaces {
			found, err := h.LinkByName(name)
			if err != nil {
				return fmt.Errorf("kernel: %w", unknown(name, err))
			}
			link, err := linkType(found.Attrs())
			if err != nil {
				return fmt.Errorf("kernel: %w", err)
			}
			l.mu.Lock()
			l.link[point] = link
			l.mu.Unlock()
		}
		return nil
	})
}

// errOtherWay says that programs cannot take each other's places.
var errOtherWay = errors.New("kernel: programs of another path")

// Follow has the programs of next, which waits, take the places of those of old, each in one step: a frame is seen by the one or by the other.
// Programs of old that next has none for are detached.
func Follow(next, old Attached) error {
	n, o := next.base(), old.base()
	if n.cfg.Way != o.cfg.Way || n.cfg.NetNS != o.cfg.NetNS {
		return errOtherWay
	}
	n.change.Lock()
	defer n.change.Unlock()
	o.change.Lock()
	defer o.change.Unlock()
	n.waits = false
	o.ended = true
	if n.off {
		o.leaveAll()
		return nil
	}
	var errs []error
	for point, name := range n.cfg.Interfaces {
		errs = append(errs, n.takeOver(uint32(point), name, o))
	}
	o.leaveAll()
	for point := range n.cfg.Interfaces {
		n.mu.Lock()
		missing := n.index[point] == 0
		n.mu.Unlock()
		if missing {
			errs = append(errs, n.join(uint32(point)))
		}
	}
	return errors.Join(errs...)
}

// takeOver puts the programs of a point in the places of another line's. Nothing happens when that has none there.
func (l *line) takeOver(point uint32, name string, old *line) error {
	return netns.Do(l.cfg.NetNS, func() error {
		index := old.at(name)
		if index == 0 {
			return nil
		}
		found, err := netlink.LinkByIndex(index)
		if err != nil {
			return nil
		}
		link, err := linkType(found.Attrs())
		if err != nil {
			return err
		}
		return l.hookUp(point, index, link, func(k *hook) error { return l.replace(k, index, old.release(name, k.dir)) })
	})
}

// at returns the index of an interface that the line is attached to, 0 for none.
func (l *line) at(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for point, n := range l.cfg.Interfaces {
		if n == name {
			return l.index[point]
		}
	}
	return 0
}

// release gives away the place of a program, nil when there is none. Its counts stay.
func (l *line) release(name string, dir frame.Direction) (a attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.hooks {
		if l.cfg.Interfaces[k.point] == name && k.dir == dir {
			a, k.at = k.at, nil
			return a
		}
	}
	return nil
}

// replace loads the program of a hook and puts it in a place, or attaches it where there is none.
func (l *line) replace(k *hook, index int, place attachment) (err error) {
	if place == nil {
		return l.attach(k, index)
	}
	k.at = place
	if err = l.loadHook(k); err == nil {
		err = exchange(place, k.prog)
	}
	if err != nil {
		k.close()
	}
	return err
}

// exchange puts another program in a place, in one step.
func exchange(place attachment, p *ebpf.Program) error {
	switch x := place.(type) {
	case link.Link:
		if err := x.Update(p); err != nil {
			return fmt.Errorf("exchange at TCX: %w", permission(err))
		}
		return nil
	case *tcFilter:
		x.filter.Fd = p.FD()
		if err := x.h.FilterReplace(x.filter); err != nil {
			return fmt.Errorf("exchange at clsact: %w", permission(err))
		}
		return nil
	}
	return errOtherWay
}

// promiscuous has a point's interface take all frames, when that was asked for.
func (l *line) promiscuous(point uint32, index int) error {
	if !l.cfg.Promiscuous {
		return nil
	}
	fd, err := promiscuous(index)
	if err != nil {
		return fmt.Errorf("interface %q: promiscuous mode: %w", l.cfg.Interfaces[point], permission(err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.modes[point]; ok {
		_ = unix.Close(old)
	}
	l.modes[point] = fd
	return nil
}
