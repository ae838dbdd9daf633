//go:build !linux

package listen

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"crosstap/internal/flowproto"
)

// udpSocket is one socket; other systems than Linux tell neither drops nor times.
type udpSocket struct {
	conn  *net.UDPConn
	drops dropCounter
}

func bindUDP(ctx context.Context, l *Listener) (transport, error) {
	conn, err := listenUDP(ctx, net.ListenConfig{}, l.cfg.Addr)
	if err != nil {
		return nil, err
	}
	u := &udpListener{l: l, addr: unmap(conn.LocalAddr().(*net.UDPAddr).AddrPort()), granted: l.cfg.ReceiveBuffer, sockets: []*udpSocket{{conn: conn}}}
	u.slabs.init(l.cfg.Slabs, l.cfg.Batch)
	if l.cfg.ReceiveBuffer > 0 {
		if err := conn.SetReadBuffer(l.cfg.ReceiveBuffer); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return u, nil
}

// read passes on each datagram by itself.
func (u *udpListener) read(ctx context.Context, out chan<- Batch) error {
	conn := u.sockets[0].conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now().Add(drainTime)) })()
	buf, p := make([]byte, maxDatagram), packer{u: u, out: out}
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
				return nil
			case temporary(err):
				continue
			}
			return err
		}
		d := Datagram{From: unmap(from), Local: u.addr, TimeNS: time.Now().UnixNano(), Protocol: flowproto.Detect(buf[:n])}
		if u.l.take(&d, n) && p.put(ctx, d, buf[:n]) {
			p.flush(ctx)
		}
	}
}

func (s *udpSocket) close() error { return s.conn.Close() }

func (s *udpSocket) lost() (n uint32, ok bool) { return 0, false }

func parseOOB([]byte) oobMeta { return oobMeta{} }
