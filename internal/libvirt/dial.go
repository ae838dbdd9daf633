package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// Endpoint says how to reach a daemon.
type Endpoint struct {
	URI      *URI
	ReadOnly bool   // use the socket that only reads; it needs no permission on most machines
	SSH      string // the ssh program; "" for the one in the path
}

// Sockets lists where a local daemon listens, the most likely place first.
func (e Endpoint) Sockets() []string { return e.URI.sockets(e.ReadOnly) }

// transport is the way to a daemon: a socket, or ssh's input and output.
type transport interface {
	io.ReadWriteCloser
	// Why explains a broken transport, "" when it has nothing to say.
	Why() string
}

type socket struct{ net.Conn }

func (socket) Why() string { return "" }

// dial opens the transport.
func (e Endpoint) dial(ctx context.Context) (transport, error) {
	if e.URI.Transport == "ssh" {
		way, err := e.URI.ssh(e.SSH).Start(e.URI.remoteCommand(e.ReadOnly))
		if err != nil {
			return nil, fmt.Errorf("libvirt: %s: ssh: %w", e.URI, err)
		}
		return way, nil
	}
	var failures []error
	for _, path := range e.Sockets() {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return socket{c}, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("libvirt: %s: no daemon listens: %w", e.URI, errors.Join(failures...))
}
