//go:build !linux

package export

import (
	"errors"
	"net"
)

func socketMTU(*net.UDPConn, bool) (int, error) { return 0, errors.ErrUnsupported }

func dontFragment(*net.UDPConn, bool) error { return errors.ErrUnsupported }
