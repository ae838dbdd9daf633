//go:build !linux

package controlapi

import (
	"errors"
	"log/slog"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/machine"
	"crosstap/internal/control/policy"
)

func init() { connectors["linux"], connectors["libvirt"] = connectLinux, connectLibvirt }

func connectLinux(r *policy.Platform, log *slog.Logger) (platform.Platform, error) {
	if !strings.HasPrefix(r.Address, "ssh://") {
		return nil, errors.New("this machine has no Linux kernel: name one that has (ssh://USER@HOST)")
	}
	return connectSSH(r, log)
}

func connectLibvirt(r *policy.Platform, _ *slog.Logger) (platform.Platform, error) {
	s, err := machine.Libvirt(r.Address, r.Options["access"])
	if err != nil {
		return nil, err
	}
	return remoteLibvirt(r, s)
}
