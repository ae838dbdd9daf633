//go:build !linux

package controlapi

import (
	"log/slog"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

func init() { connectors["libvirt"] = connectLibvirt }

func connectLibvirt(r *policy.Platform, _ *slog.Logger) (platform.Platform, error) {
	s, err := libvirtSource(r, r.Address)
	if err != nil {
		return nil, err
	}
	return remoteLibvirt(r, s)
}
