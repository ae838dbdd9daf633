//go:build !linux

package replicate

import (
	"errors"
	"fmt"
	"net/netip"
)

// rawSender is there on Linux only.
type rawSender struct{}

func newRawSender(to netip.AddrPort) (*rawSender, error) {
	return nil, fmt.Errorf("target %v: keeping the source address: %w", to, errors.ErrUnsupported)
}

func (*rawSender) close() error                          { return nil }
func (*rawSender) send(_ netip.AddrPort, _ []byte) error { return errors.ErrUnsupported }
