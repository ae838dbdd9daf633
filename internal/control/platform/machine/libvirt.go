// Package machine makes the platform of the machine that this process runs on as a Platform resource says: for a control line of its own,
// and for one on another machine that reaches it by ssh.
package machine

import (
	"fmt"

	"crosstap/internal/libvirt"
)

// Libvirt reads a libvirt URI and how the daemon is used.
func Libvirt(uri, access string) (*libvirt.Source, error) {
	u, err := libvirt.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	switch access {
	case "", "read-write":
		return &libvirt.Source{Endpoint: libvirt.Endpoint{URI: u}}, nil
	case "read-only":
		return &libvirt.Source{Endpoint: libvirt.Endpoint{URI: u, ReadOnly: true}}, nil
	}
	return nil, fmt.Errorf("option access %q: read-only or read-write", access)
}
