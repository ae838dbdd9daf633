package rpcap

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// capture is what one client gets: frames wait in a buffer of fixed size until its data connection takes them.
type capture struct {
	server *Server
	conn   net.Conn
	point  uint32
	snap   uint32
	dir    uint16 // flagInbound and flagOutbound
	packet bool   // one write for each frame: the connection is UDP
	before Stats  // what had been dropped before the server when the capture began
	own    own

	mu       sync.Mutex
	filter   program
	sampling Sampling
	seen     uint32 // frames of the run of sampling
	lastNS   int64  // time of the last frame that was sampled
	fill     []byte // whole messages
	ordinal  uint32
	received uint32
	dropped  uint32

	sent  atomic.Uint32
	ready chan struct{}
	done  chan struct{} // closed by the end of the sender
}

func newCapture(s *Server, conn net.Conn, point uint32, req start, filter program, sampling Sampling) *capture {
	c := &capture{
		server: s, conn: conn, point: point, snap: req.snapLen, dir: req.flags & (flagInbound | flagOutbound), packet: req.flags&flagDatagram != 0,
		filter: filter, sampling: sampling, ready: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if c.snap == 0 || c.snap > maxCaptured {
		c.snap = maxCaptured
	}
	c.before = c.upstream()
	c.own = connection(conn)
	s.mu.Lock()
	s.captures[c] = struct{}{}
	s.mu.Unlock()
	go c.run()
	return c
}

// upstream returns what was dropped before the server.
func (c *capture) upstream() (s Stats) {
	if f := c.server.cfg.Dropped; f != nil {
		kernel, device := f(c.point)
		s.KernelDropped, s.InterfaceDropped = uint32(kernel), uint32(device)
	}
	return s
}

// own finds the frames that carry frames to a client: giving them to a client would make more of them. The zero value finds none.
type own struct {
	a, b  netip.AddrPort
	proto uint8
}

// connection finds the packets of a connection.
func connection(conn net.Conn) (o own) {
	a, errA := netip.ParseAddrPort(conn.LocalAddr().String())
	b, errB := netip.ParseAddrPort(conn.RemoteAddr().String())
	if errA != nil || errB != nil {
		return own{}
	}
	plain := func(p netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
	}
	o = own{plain(a), plain(b), wire.ProtoTCP}
	if conn.RemoteAddr().Network() == "udp" {
		o.proto = wire.ProtoUDP
	}
	return o
}

func (o *own) match(f *frame.Frame) bool {
	from, to, proto, ok := ends(f)
	return ok && proto == o.proto && (from == o.a && to == o.b || from == o.b && to == o.a)
}

// ends returns the addresses and ports of an ordinary packet, in Ethernet with tags or bare.
func ends(f *frame.Frame) (from, to netip.AddrPort, proto uint8, ok bool) {
	b := f.Data
	if f.Link == frame.LinkEthernet {
		at := wire.EthernetLen
		for len(b) >= at+wire.VLANLen && (b[at-2] == 0x81 && b[at-1] == 0 || b[at-2] == 0x88 && b[at-1] == 0xa8) {
			at += wire.VLANLen
		}
		b = b[min(at, len(b)):]
	}
	var src, dst netip.Addr
	n := 0
	switch {
	case len(b) >= wire.IPv4Len && b[0]>>4 == 4:
		src, dst, proto, n = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9], int(b[0]&15)*4
	case len(b) >= wire.IPv6Len && b[0]>>4 == 6:
		src, dst, proto, n = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6], wire.IPv6Len
	}
	if n < wire.IPv4Len || len(b) < n+4 {
		return from, to, 0, false
	}
	be := binary.BigEndian
	return netip.AddrPortFrom(src, be.Uint16(b[n:])), netip.AddrPortFrom(dst, be.Uint16(b[n+2:])), proto, true
}

func (c *capture) setFilter(p program) {
	c.mu.Lock()
	c.filter = p
	c.mu.Unlock()
}

func (c *capture) setSampling(s Sampling) {
	c.mu.Lock()
	c.sampling, c.seen, c.lastNS = s, 0, 0
	c.mu.Unlock()
}

// offer takes a frame when the client wants it and has room. It allocates only until the buffer has its size.
func (c *capture) offer(f *frame.Frame) (wanted, taken bool) {
	if f.Point != c.point || c.dir == flagInbound && f.Dir == frame.Egress || c.dir == flagOutbound && f.Dir == frame.Ingress {
		return false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := min(c.filter.run(f.Data, f.OrigLen), c.snap)
	if keep == 0 || !c.chosen(f) {
		return false, false
	}
	c.received++
	n := min(int(keep), len(f.Data))
	if len(c.fill)+headerLen+packetLen+n > c.server.cfg.BufferBytes/2 || c.closed() {
		c.dropped++
		return true, false
	}
	c.ordinal++
	c.fill = appendPacket(c.fill, f, n, c.ordinal)
	return true, true
}

func (c *capture) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// chosen decides about the frame by the sampling.
func (c *capture) chosen(f *frame.Frame) bool {
	switch c.sampling.Method {
	case SampleEvery:
		c.seen++
		if c.seen < c.sampling.Value {
			return false
		}
		c.seen = 0
	case SampleAfter:
		if c.lastNS != 0 && f.TimeNS-c.lastNS < int64(c.sampling.Value)*1e6 && f.TimeNS >= c.lastNS {
			return false
		}
		c.lastNS = f.TimeNS
	}
	return true
}

// appendPacket appends the message for the first n bytes of a frame.
func appendPacket(b []byte, f *frame.Frame, n int, ordinal uint32) []byte {
	be := binary.BigEndian
	b = header{kind: msgPacket, length: uint32(packetLen + n)}.append(b)
	ns := max(f.TimeNS, 0)
	b = be.AppendUint32(b, uint32(ns/1e9))
	b = be.AppendUint32(b, uint32(ns%1e9/1e3))
	b = be.AppendUint32(b, uint32(n))
	b = be.AppendUint32(b, uint32(max(f.OrigLen, n)))
	b = be.AppendUint32(b, ordinal)
	return append(b, f.Data[:n]...)
}

func (c *capture) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// stalled is how long a client may take to read what it is sent.
const stalled = 30 * time.Second

// run sends what has come together until the connection ends.
func (c *capture) run() {
	defer close(c.done)
	var out []byte
	for range c.ready {
		c.mu.Lock()
		out, c.fill = c.fill, out[:0]
		c.mu.Unlock()
		if len(out) == 0 {
			continue
		}
		_ = c.conn.SetWriteDeadline(time.Now().Add(stalled))
		if err := c.write(out); err != nil {
			c.conn.Close()
			return
		}
	}
}

// write sends whole messages. Over UDP each is a datagram; one that the kernel refuses, as too long, is a dropped frame.
func (c *capture) write(b []byte) error {
	if !c.packet {
		c.sent.Add(count(b)) // first: who has read the frames may ask
		_, err := c.conn.Write(b)
		return err
	}
	for len(b) > 0 {
		n := headerLen + int(binary.BigEndian.Uint32(b[4:]))
		c.sent.Add(1)
		if _, err := c.conn.Write(b[:n]); err != nil {
			c.sent.Add(^uint32(0))
			c.mu.Lock()
			c.dropped++
			c.mu.Unlock()
		}
		b = b[n:]
	}
	return nil
}

// count returns the number of messages.
func count(b []byte) (n uint32) {
	for len(b) > 0 {
		b = b[headerLen+int(binary.BigEndian.Uint32(b[4:])):]
		n++
	}
	return n
}

func (c *capture) stats() Stats {
	up := c.upstream()
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Received: c.received, KernelDropped: c.dropped + up.KernelDropped - c.before.KernelDropped,
		InterfaceDropped: up.InterfaceDropped - c.before.InterfaceDropped, Sent: c.sent.Load(),
	}
}

// close ends the capture: no more frames come in, and what waits is sent.
func (c *capture) close() {
	const last = time.Second
	c.server.mu.Lock()
	delete(c.server.captures, c)
	c.server.mu.Unlock()
	c.wake()
	close(c.ready)
	_ = c.conn.SetWriteDeadline(time.Now().Add(last))
	select {
	case <-c.done:
	case <-time.After(last):
	}
	c.conn.Close()
	<-c.done
}
