package controlapi

import (
	"fmt"

	"crosstap/internal/control/platform"
	platformlibvirt "crosstap/internal/control/platform/libvirt"
	"crosstap/internal/control/policy"
	"crosstap/internal/libvirt"
)

// remoteLibvirt makes the platform of a hypervisor whose kernel is not reached from here.
func remoteLibvirt(r *policy.Platform, s *libvirt.Source) (platform.Platform, error) {
	return platformlibvirt.New(platformlibvirt.Config{Name: r.Name, Source: *s, Host: r.Host, Segments: segmentsOf(r)})
}

// libvirtSource reads a libvirt URI and the option access, read-only or read-write (the default).
func libvirtSource(r *policy.Platform, uri string) (*libvirt.Source, error) {
	u, err := libvirt.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	switch r.Options["access"] {
	case "", "read-write":
		return &libvirt.Source{Endpoint: libvirt.Endpoint{URI: u}}, nil
	case "read-only":
		return &libvirt.Source{Endpoint: libvirt.Endpoint{URI: u, ReadOnly: true}}, nil
	}
	return nil, fmt.Errorf("option access %q: read-only or read-write", r.Options["access"])
}
