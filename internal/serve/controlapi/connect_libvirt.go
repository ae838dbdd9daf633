package controlapi

import (
	"crosstap/internal/control/platform"
	platformlibvirt "crosstap/internal/control/platform/libvirt"
	"crosstap/internal/control/policy"
	"crosstap/internal/libvirt"
)

// remoteLibvirt makes the platform of a hypervisor whose kernel is not reached from here.
func remoteLibvirt(r *policy.Platform, s *libvirt.Source) (platform.Platform, error) {
	return platformlibvirt.New(platformlibvirt.Config{Name: r.Name, Source: *s, Host: r.Host, Segments: segmentsOf(r)})
}
