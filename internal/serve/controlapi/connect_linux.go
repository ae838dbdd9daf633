package controlapi

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
	"crosstap/internal/control/policy"
	"crosstap/internal/libvirt"
)

func init() { connectors["linux"], connectors["libvirt"] = connectLinux, connectLibvirt }

// connectLinux makes the platform of a kernel: address "" is the one that this process runs on, netns:NAME or the path of a file a
// network namespace of it. Option libvirt names the daemon that knows the machines: a URI, none, or auto (the default), which is the
// local one when there is one.
func connectLinux(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	c := linux.Config{Name: r.Name, Host: r.Host, Segments: segmentsOf(r), Log: log}
	switch name, named := strings.CutPrefix(r.Address, "netns:"); {
	case named:
		c.NetNS = filepath.Join("/run/netns", filepath.Base(name))
	case r.Address != "" && r.Address != "local":
		if !filepath.IsAbs(r.Address) {
			return nil, fmt.Errorf("address %q: leave it out for this machine's kernel, or name a network namespace: netns:NAME or the path of its file", r.Address)
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
		c.Libvirt, err = libvirtSource(r, who)
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

// connectLibvirt makes the platform of a libvirt daemon. Behind a local socket is the kernel that this process runs on, which can be
// tapped; a kernel that only ssh leads to cannot.
func connectLibvirt(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	s, err := libvirtSource(r, r.Address)
	if err != nil {
		return nil, err
	}
	if s.URI.Transport != "unix" || s.URI.Driver == "test" {
		return remoteLibvirt(r, s)
	}
	return linux.New(linux.Config{Name: r.Name, As: "libvirt", Host: r.Host, Libvirt: s, Segments: segmentsOf(r), Log: log})
}
