package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"

	"crosstap/internal/flowproto"
)

// StreamConfig bounds what connections may cost.
type StreamConfig struct {
	Connections int           // open at once
	PerAddress  int           // of them, from one address
	Handshake   time.Duration // until the TLS handshake is done
	First       time.Duration // until the first message is there
	Message     time.Duration // from a message's first byte to its last
	Idle        time.Duration // between messages
	Window      int           // batches of one connection that may be under way before it must wait
}

// DefaultStreamConfig is for some thousand exporters.
func DefaultStreamConfig() StreamConfig {
	return StreamConfig{
		Connections: 16384, PerAddress: 256, Handshake: 10 * time.Second, First: time.Minute, Message: 30 * time.Second, Idle: time.Hour, Window: 2,
	}
}

func (c StreamConfig) validate() error {
	if c.Connections < 1 || c.PerAddress < 1 || c.Window < 1 {
		return fmt.Errorf("listen: limits of %d connections, %d from one address, window of %d: want at least 1", c.Connections, c.PerAddress, c.Window)
	}
	for _, d := range []time.Duration{c.Handshake, c.First, c.Message, c.Idle} {
		if d < 10*time.Millisecond {
			return fmt.Errorf("listen: handshake %v, first message %v, message %v, idle %v: want at least 10ms", c.Handshake, c.First, c.Message, c.Idle)
		}
	}
	return nil
}

// connNumber numbers the connections of the process.
var connNumber atomic.Uint64

// connections are those of a listener. It knows TCP, TLS and DTLS alike.
type connections struct {
	l     *Listener
	ln    net.Listener
	addr  netip.AddrPort
	certs *certificates // nil without TLS

	accepted, refused atomic.Uint64

	mu      sync.Mutex
	open    map[*conn]struct{}
	from    map[netip.Addr]int
	running sync.WaitGroup
}

func bindStream(ctx context.Context, l *Listener) (transport, error) {
	c := &connections{l: l, open: make(map[*conn]struct{}), from: make(map[netip.Addr]int)}
	if l.cfg.Transport == TLS {
		var err error
		if c.certs, err = newCertificates(l.cfg.TLS); err != nil {
			return nil, err
		}
	}
	lc := net.ListenConfig{KeepAlive: time.Minute}
	ln, err := lc.Listen(ctx, "tcp", l.cfg.Addr)
	if err != nil {
		return nil, bindHint(err)
	}
	c.ln, c.addr = ln, unmap(ln.Addr().(*net.TCPAddr).AddrPort())
	return c, nil
}

func (c *connections) status(s *Status) {
	s.bound, s.Sockets, s.Accepted, s.Refused = c.addr, 1, c.accepted.Load(), c.refused.Load()
	c.mu.Lock()
	s.Connections = len(c.open)
	c.mu.Unlock()
	if c.certs != nil {
		s.TLSError = c.certs.err()
	}
}

func (c *connections) close() error {
	err := c.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// run accepts until ctx ends, and then waits for the connections, which end with it.
func (c *connections) run(ctx context.Context, out chan<- Batch) error {
	defer context.AfterFunc(ctx, func() { _ = c.ln.Close() })()
	defer c.running.Wait()
	for {
		nc, err := c.ln.Accept()
		switch {
		case err == nil:
			c.welcome(ctx, nc, out)
		case ctx.Err() != nil:
			return nil
		case !passing(err):
			return fmt.Errorf("accept: %w", err)
		default:
			select { // out of file descriptors, most likely
			case <-time.After(drainTime):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// welcome takes in a connection, or refuses it.
func (c *connections) welcome(ctx context.Context, nc net.Conn, out chan<- Batch) {
	k := &conn{c: c, nc: nc, from: addrPortOf(nc.RemoteAddr()), local: addrPortOf(nc.LocalAddr()), id: connNumber.Add(1)}
	if !c.admit(k) {
		c.refused.Add(1)
		_ = nc.Close()
		return
	}
	c.accepted.Add(1)
	c.running.Go(func() {
		defer c.leave(k)
		k.serve(ctx, out)
	})
}

// admit enters a connection when it may come.
func (c *connections) admit(k *conn) bool {
	if !c.l.allow.ok(k.from.Addr()) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg := &c.l.cfg.Stream
	if len(c.open) >= cfg.Connections || c.from[k.from.Addr()] >= cfg.PerAddress {
		return false
	}
	c.open[k] = struct{}{}
	c.from[k.from.Addr()]++
	return true
}

func (c *connections) leave(k *conn) {
	_ = k.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, k)
	if c.from[k.from.Addr()]--; c.from[k.from.Addr()] == 0 {
		delete(c.from, k.from.Addr())
	}
}

// conn is one connection. Its memory is its window: batches that the line has not yet released.
type conn struct {
	c           *connections
	nc          net.Conn
	from, local netip.AddrPort
	id          uint64
	window      slabPool
	heard       bool      // a message has come
	until       time.Time // end of the drain, zero before
}

// serve reads messages until the connection or the line ends.
func (k *conn) serve(ctx context.Context, out chan<- Batch) {
	defer context.AfterFunc(ctx, func() { _ = k.nc.SetReadDeadline(time.Now().Add(drainTime)) })()
	if !k.handshake(ctx) {
		k.c.refused.Add(1)
		return
	}
	k.window.init(k.c.l.cfg.Stream.Window, 0)
	if k.c.l.cfg.Transport == DTLS {
		k.datagrams(ctx, out)
	} else {
		k.messages(ctx, out)
	}
	if k.heard {
		k.end(ctx, out)
	}
}

// handshake finishes that of TLS or DTLS.
func (k *conn) handshake(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.c.l.cfg.Stream.Handshake)
	defer cancel()
	switch k.c.l.cfg.Transport {
	case TLS:
		t := tls.Server(k.nc, k.c.certs.server())
		k.nc = t
		return t.HandshakeContext(ctx) == nil
	case DTLS:
		return k.nc.(*dtls.Conn).HandshakeContext(ctx) == nil
	}
	return true
}

// deadline gives the next read so much time. Once the line has ended all reads together have little.
func (k *conn) deadline(ctx context.Context, d time.Duration) {
	_ = k.nc.SetReadDeadline(time.Now().Add(d))
	if ctx.Err() != nil { // perhaps since the line before
		if k.until.IsZero() {
			k.until = time.Now().Add(drainTime)
		}
		_ = k.nc.SetReadDeadline(k.until)
	}
}

// patience is how long the connection may be silent.
func (k *conn) patience() time.Duration {
	if k.heard {
		return k.c.l.cfg.Stream.Idle
	}
	return k.c.l.cfg.Stream.First
}

const (
	streamBatch   = 64 // messages in a batch
	ipfixHeader   = 16 // bytes of a message header, RFC 7011, section 3.1
	ipfixVersion  = 10
	streamBufSize = 16 << 10
	dtlsRecord    = 8192 // the longest datagram that the DTLS library reads
)

// messages cuts the stream into IPFIX messages by their lengths (RFC 7011, section 10.4.2). What was read and is whole goes on
// as one batch.
func (k *conn) messages(ctx context.Context, out chan<- Batch) {
	f := framer{buf: make([]byte, streamBufSize)}
	for {
		d := k.patience()
		if f.have > 0 {
			d = k.c.l.cfg.Stream.Message // the rest of a message; it began with the read before
		}
		if f.have == 0 || f.begun {
			k.deadline(ctx, d)
			f.begun = false
		}
		err := f.fill(k.nc)
		if !k.whole(ctx, &f, out) {
			return
		}
		if err != nil {
			if f.have > 0 {
				k.c.l.book.In(1)
				k.c.l.book.Drop(DropCut, 1)
			}
			return
		}
	}
}

// whole passes on the messages that are whole. It returns false when the stream makes no sense any more.
func (k *conn) whole(ctx context.Context, f *framer, out chan<- Batch) bool {
	l := k.c.l
	now := time.Now().UnixNano()
	var s *slab
	ok := true
	for s == nil || len(s.datagrams) < streamBatch {
		msg, bad := f.next()
		if bad {
			l.book.In(1)
			l.book.Drop(DropFraming, 1)
			ok = false
		}
		if msg == nil {
			break
		}
		d := k.datagram(now)
		d.Protocol = flowproto.IPFIX
		if !l.take(&d, len(msg)) {
			ok = false // not allowed any more
			break
		}
		k.heard = true
		if s == nil {
			if s = k.window.get(ctx); s == nil {
				l.book.Drop(DropInterrupted, 1)
				return false
			}
		}
		start := len(s.bytes)
		s.bytes = append(s.bytes, msg...)
		d.Data = s.bytes[start:len(s.bytes):len(s.bytes)]
		s.datagrams = append(s.datagrams, d)
	}
	if s != nil {
		l.pass(ctx, Batch{Datagrams: s.datagrams, Free: func() { k.window.put(s) }}, len(s.datagrams), out)
		if ok && f.ready() {
			return k.whole(ctx, f, out)
		}
	}
	f.keep()
	return ok
}

// datagrams reads the messages of a DTLS association: each record is one.
func (k *conn) datagrams(ctx context.Context, out chan<- Batch) {
	buf := make([]byte, dtlsRecord)
	for {
		k.deadline(ctx, k.patience())
		n, err := k.nc.Read(buf)
		if err != nil {
			return
		}
		d := k.datagram(time.Now().UnixNano())
		d.Protocol = flowproto.Detect(buf[:n])
		if !k.c.l.take(&d, n) {
			if !k.c.l.allow.ok(k.from.Addr()) {
				return
			}
			continue
		}
		k.heard = true
		s := k.window.get(ctx)
		if s == nil {
			k.c.l.book.Drop(DropInterrupted, 1)
			return
		}
		s.bytes = append(s.bytes, buf[:n]...)
		d.Data = s.bytes
		s.datagrams = append(s.datagrams, d)
		k.c.l.pass(ctx, Batch{Datagrams: s.datagrams, Free: func() { k.window.put(s) }}, 1, out)
	}
}

func (k *conn) datagram(now int64) Datagram {
	return Datagram{From: k.from, Local: k.local, Conn: k.id, Via: k.c.l.cfg.Transport, TimeNS: now}
}

// end tells that the connection is closed: its templates go with it (RFC 7011, section 8.1). It counts nowhere.
func (k *conn) end(ctx context.Context, out chan<- Batch) {
	d := k.datagram(time.Now().UnixNano())
	d.End = true
	late := time.NewTimer(k.c.l.cfg.Stream.Message)
	defer late.Stop()
	select {
	case out <- Batch{Datagrams: []Datagram{d}}:
	case <-late.C: // the session ages out by itself
	case <-ctx.Done():
	}
}

func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}
