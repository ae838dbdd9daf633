package vm

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A pinger sends echo requests over a raw socket of one address family. One goroutine at a time.
type pinger struct {
	conn     *icmp.PacketConn
	protocol int // of the answers
	request  icmp.Type
	reply    icmp.Type
	id, seq  int
}

// newPinger opens the socket for the family of addr.
func newPinger(addr netip.Addr) (*pinger, error) {
	p := &pinger{protocol: 1, request: ipv4.ICMPTypeEcho, reply: ipv4.ICMPTypeEchoReply, id: os.Getpid() & 0xffff}
	network, local := "ip4:icmp", "0.0.0.0"
	if addr.Is6() {
		p.protocol, p.request, p.reply = 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		network, local = "ip6:ipv6-icmp", "::"
	}
	var err error
	if p.conn, err = icmp.ListenPacket(network, local); err != nil {
		return nil, fmt.Errorf("lab ping: %w", err)
	}
	return p, nil
}

// ping sends one echo request with size bytes of data and waits for its answer.
func (p *pinger) ping(ctx context.Context, to netip.Addr, size int) error {
	p.seq++
	m := icmp.Message{Type: p.request, Body: &icmp.Echo{ID: p.id, Seq: p.seq & 0xffff, Data: make([]byte, size)}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return err
	}
	answer := make([]byte, size+256)
	for {
		n, _, err := p.conn.ReadFrom(answer)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(p.protocol, answer[:n])
		if err != nil || m.Type != p.reply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == p.id && echo.Seq == p.seq&0xffff {
			return nil
		}
	}
}
