package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/linux"
	"crosstap/internal/flow"
	"crosstap/internal/libvirt"
)

// Resource is what a Platform resource says.
type Resource struct {
	Name     string
	Address  string // "" or local is this process's kernel; netns:NAME or the path of a file a network namespace of it
	Host     string
	Segments map[string]flow.Segment
	// Options: libvirt names the daemon that knows the machines: a URI, none, or auto (the default), which is the local one when there is
	// one; access is how, read-only or read-write (the default).
	Options map[string]string
}

// Linux makes the platform of a kernel.
func Linux(r Resource, log *slog.Logger) (platform.Platform, error) {
	c := linux.Config{Name: r.Name, Host: r.Host, Segments: r.Segments, Log: log}
	switch name, named := strings.CutPrefix(r.Address, "netns:"); {
	case named:
		c.NetNS = filepath.Join("/run/netns", filepath.Base(name))
	case r.Address != "" && r.Address != "local":
		if !filepath.IsAbs(r.Address) {
			return nil, fmt.Errorf("address %q: leave it out for this machine's kernel, name a network namespace (netns:NAME or the path of its file), or another machine (ssh://USER@HOST)", r.Address)
		}
		c.NetNS = r.Address
	}
	var err error
	switch who := r.Options["libvirt"]; who {
	case "none":
	case "", "auto":
		if c.NetNS == "" {
			c.Libvirt = localLibvirt()
		}
	default:
		c.Libvirt, err = Libvirt(who, r.Options["access"])
	}
	if err != nil {
		return nil, err
	}
	return linux.New(c)
}

// localLibvirt returns the libvirt daemon of this machine, nil when none listens.
func localLibvirt() *libvirt.Source {
	for _, readOnly := range []bool{false, true} {
		u, err := libvirt.ParseURI("qemu:///system")
		if err != nil {
			return nil
		}
		e := libvirt.Endpoint{URI: u, ReadOnly: readOnly}
		for _, path := range e.Sockets() {
			c, err := net.DialTimeout("unix", path, time.Second)
			if err == nil {
				_ = c.Close()
				return &libvirt.Source{Endpoint: e}
			}
			if errors.Is(err, fs.ErrPermission) {
				break // the one that only reads may let us
			}
		}
	}
	return nil
}
