package controlapi

import (
	"log/slog"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/linux"
	"crosstap/internal/control/platform/machine"
	"crosstap/internal/control/policy"
)

func init() { connectors["linux"], connectors["libvirt"] = connectLinux, connectLibvirt }

// connectLinux makes the platform of a kernel: this machine's, or one that ssh leads to.
func connectLinux(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	if strings.HasPrefix(r.Address, "ssh://") {
		return connectSSH(r, log)
	}
	return machine.Linux(machine.Resource{Name: r.Name, Address: r.Address, Host: r.Host, Segments: segmentsOf(r), Options: r.Options}, log)
}

// connectLibvirt makes the platform of a libvirt daemon. Behind a local socket is the kernel that this process runs on, which can be
// tapped; one that only libvirt through ssh leads to cannot.
func connectLibvirt(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	s, err := machine.Libvirt(r.Address, r.Options["access"])
	if err != nil {
		return nil, err
	}
	if s.URI.Transport != "unix" || s.URI.Driver == "test" {
		return remoteLibvirt(r, s)
	}
	return linux.New(linux.Config{Name: r.Name, As: "libvirt", Host: r.Host, Libvirt: s, Segments: segmentsOf(r), Log: log})
}
