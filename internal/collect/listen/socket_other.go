//go:build !linux

package listen

import "net"

const (
	oobLen   = 64
	msgTrunc = 0
)

// prepare sets the receive buffer; other systems than Linux tell neither drops nor times.
func prepare(conn *net.UDPConn, buffer int) (int, error) {
	if buffer > 0 {
		if err := conn.SetReadBuffer(buffer); err != nil {
			return 0, err
		}
	}
	return buffer, nil
}

func socketDrops(*net.UDPConn) (uint32, bool) { return 0, false }

func parseOOB([]byte) oobMeta { return oobMeta{} }
