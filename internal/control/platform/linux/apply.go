//go:build linux

package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// Apply implements platform.Platform.
func (p *Platform) Apply(ctx context.Context, s platform.Step) error {
	var do doing
	if err := json.Unmarshal(s.Do, &do); err != nil {
		return fmt.Errorf("linux: step %q: %w", s.Summary, err)
	}
	if err := ctx.Err(); err != nil {
		return p.explain(s, err)
	}
	return p.explain(s, p.with(func() error { return p.apply(do, s.Policy) }))
}

func (p *Platform) apply(do doing, policy string) error {
	switch {
	case do.Device != nil && do.Again:
		if err := p.removeDevice(do.Device.Name); err != nil {
			return err
		}
		return p.ensureDevice(do.Device)
	case do.Device != nil:
		return p.ensureDevice(do.Device)
	case do.Delete != "":
		return p.removeDevice(do.Delete)
	case do.Port != nil:
		return p.applyPort(do.Port, policy)
	}
	return errors.New("nothing to do")
}

// Undo implements platform.Platform.
func (p *Platform) Undo(ctx context.Context, s platform.Step) error {
	var do doing
	var was before
	if err := json.Unmarshal(s.Do, &do); err != nil {
		return fmt.Errorf("linux: step %q: %w", s.Summary, err)
	}
	if len(s.Before) > 0 {
		if err := json.Unmarshal(s.Before, &was); err != nil {
			return fmt.Errorf("linux: step %q: %w", s.Summary, err)
		}
	}
	return p.explain(s, p.with(func() error { return p.undo(do, was) }))
}

func (p *Platform) undo(do doing, was before) error {
	switch {
	case was.Device != nil: // another alias, or it was removed
		return p.ensureDevice(was.Device)
	case do.Device != nil && do.Again:
		return nil // what it was before led to nowhere
	case do.Device != nil:
		return p.removeDevice(do.Device.Name)
	case do.Port != nil:
		return p.undoPort(do.Port, was.Filters)
	}
	return nil
}

// explain adds where and what to an error.
func (p *Platform) explain(s platform.Step, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w: needs CAP_NET_ADMIN on %s (%v)", platform.ErrDenied, p.host, err)
	}
	return fmt.Errorf("linux: host %s: %s: %w", p.host, s.Object, err)
}

// link returns a device by name, nil when there is none.
func (p *Platform) link(name string) (netlink.Link, error) {
	l, err := p.handle.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	return l, err
}

// ours reports whether a device is one of ours.
func ours(l netlink.Link) bool {
	a := l.Attrs()
	return strings.HasPrefix(a.Name, platform.MarkPrefix) && (a.Alias == "" || strings.HasPrefix(a.Alias, platform.MarkKey+" "))
}

// ensureDevice makes a device or completes it. One that it made and cannot complete goes again.
func (p *Platform) ensureDevice(d *device) error {
	return raced(func() error { return p.makeDevice(d) })
}

func (p *Platform) makeDevice(d *device) error {
	l, err := p.link(d.Name)
	if err != nil {
		return err
	}
	switch {
	case l == nil:
		err := p.socket.do(d.create()...)
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%w: %w", errRaced, err)
		}
		if err == nil {
			err = p.complete(d)
		}
		if err != nil {
			_ = p.removeDevice(d.Name) // the first error counts
		}
		return err
	case !ours(l):
		return fmt.Errorf("%w: a foreign device has the name %s", platform.ErrChanged, d.Name)
	case l.Attrs().Alias != d.Alias:
		if err := p.socket.do(d.setAlias()); err != nil {
			return err
		}
	}
	return p.complete(d)
}

// complete takes a tunnel device up, and reads back what it is.
func (p *Platform) complete(d *device) error {
	if d.Kind == "bridge" {
		return nil
	}
	if err := disableIPv6(p.space, d.Name); err != nil {
		return fmt.Errorf("keep %s silent: %w", d.Name, err)
	}
	err := p.socket.do(d.up())
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: UDP port %d belongs to another overlay of this host; give the destination another port, such as vxlan://%s:4790", err, d.UDP, d.Addr)
	}
	if err != nil {
		return err
	}
	l, err := p.link(d.Name)
	if err != nil || l == nil || l.Attrs().Alias != d.Alias || l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return fmt.Errorf("%w: %s is not as it was made (%v)", platform.ErrChanged, d.Name, err)
	}
	return nil
}

// removeDevice removes a device of ours.
func (p *Platform) removeDevice(name string) error {
	l, err := p.link(name)
	if err != nil || l == nil {
		return err
	}
	if !ours(l) {
		return fmt.Errorf("%w: %s is foreign", platform.ErrChanged, name)
	}
	err = p.socket.do(deleteDevice(l.Attrs().Index, "remove "+name))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// errRaced says that somebody else has made at the same time what a step makes.
var errRaced = fmt.Errorf("%w: somebody else works on it at the same time", platform.ErrChanged)

// raced does something again that somebody else has done a moment before, a few times.
func raced(f func() error) (err error) {
	for range attempts {
		if err = f(); !errors.Is(err, errRaced) {
			return err
		}
	}
	return err
}
