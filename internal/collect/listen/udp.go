package listen

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// udpListener is one UDP port with one or several sockets.
//
// Several sockets share the port (SO_REUSEPORT), and a program in the kernel gives each datagram to one of them at random,
// whoever sent it: the kernel's own choice, a hash of the addresses, leaves all but one idle when one exporter dominates.
// One reader takes the datagrams out again in the order of their receive times, so that those of one exporter stay in the
// order of their sequence numbers. What several sockets give is room: each has a receive buffer of its own. Reading is not
// what limits a collector: one reader moves more datagrams than all decoders decode.
type udpListener struct {
	l       *Listener
	addr    netip.AddrPort
	sockets []*udpSocket
	granted int
	slabs   slabPool
}

func (u *udpListener) status(s *Status) {
	s.bound, s.ReceiveBuffer, s.Sockets = u.addr, u.granted, len(u.sockets)
}

func (u *udpListener) close() error {
	var first error
	for _, s := range u.sockets {
		if err := s.close(); first == nil {
			first = err
		}
	}
	return first
}

// listenUDP opens one socket.
func listenUDP(ctx context.Context, lc net.ListenConfig, addr string) (*net.UDPConn, error) {
	pc, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, bindHint(err)
	}
	return pc.(*net.UDPConn), nil
}

// run reads until ctx ends.
func (u *udpListener) run(ctx context.Context, out chan<- Batch) error {
	polled := make(chan struct{})
	go u.pollDrops(ctx, polled)
	err := u.read(ctx, out)
	<-polled
	u.kernelDrops()
	return err
}

// pollDrops reads the kernel's drop counters now and then, for a socket that was drowned and then fell silent.
func (u *udpListener) pollDrops(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			u.kernelDrops()
		}
	}
}

func (u *udpListener) kernelDrops() {
	for _, s := range u.sockets {
		if n, ok := s.lost(); ok {
			u.dropped(s, n)
		}
	}
}

// dropped notes a socket's cumulative drop counter.
func (u *udpListener) dropped(s *udpSocket, counter uint32) {
	if n := s.drops.advance(counter); n > 0 {
		u.l.book.In(n)
		u.l.book.Drop(DropKernel, n)
	}
}

// packer fills slabs and passes them on.
type packer struct {
	u   *udpListener
	out chan<- Batch
	s   *slab
	end bool // no slab came before the end
}

// put copies a datagram into the slab under way. It returns false when there is none: the line was stopped while full.
func (p *packer) put(ctx context.Context, d Datagram, data []byte) bool {
	if p.s != nil && (len(p.s.bytes)+len(data) > cap(p.s.bytes) || len(p.s.datagrams) == cap(p.s.datagrams)) {
		p.flush(ctx)
	}
	if p.s == nil && !p.end {
		p.s = p.u.slabs.get(ctx)
	}
	if p.s == nil {
		p.end = true
		p.u.l.book.Drop(DropInterrupted, 1)
		return false
	}
	start := len(p.s.bytes)
	p.s.bytes = append(p.s.bytes, data...)
	d.Data = p.s.bytes[start:len(p.s.bytes):len(p.s.bytes)]
	p.s.datagrams = append(p.s.datagrams, d)
	return true
}

// flush passes the slab under way on.
func (p *packer) flush(ctx context.Context) {
	s := p.s
	if s == nil {
		return
	}
	p.s = nil
	p.u.l.pass(ctx, Batch{Datagrams: s.datagrams, Free: func() { p.u.slabs.put(s) }}, len(s.datagrams), p.out)
}
