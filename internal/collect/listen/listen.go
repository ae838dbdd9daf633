// Package listen receives export datagrams over UDP, a batch at a time, and says of each where it
// came from, when the kernel received it, and which protocol it speaks.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"

	"crosstap/internal/ledger"
)

// Datagram is one UDP payload. Data belongs to the batch.
type Datagram struct {
	Data     []byte
	From     netip.AddrPort // the exporter's transport address, IPv4 never mapped
	Local    netip.AddrPort // the address it was sent to
	TimeNS   int64          // when the kernel received it, nanoseconds since the Unix epoch, UTC
	Protocol Protocol
}

// Batch is a run of datagrams in the order they came. Whoever receives a batch calls Release once when it
// no longer needs any of the bytes.
type Batch struct {
	Datagrams []Datagram
	Free      func() // gives the memory back; nil when there is nothing to do
}

// Release gives the batch's memory back to its source. The datagrams must not be used after.
func (b *Batch) Release() {
	if b.Free != nil {
		b.Free()
		b.Free = nil
	}
	b.Datagrams = nil
}

// Config says where and how to listen.
type Config struct {
	Addr          string // host:port; an empty host means every address, IPv4 and IPv6
	ReceiveBuffer int    // bytes the kernel may queue; it may grant less (see Status)
	Batch         int    // datagrams read at once
	Slabs         int    // batches that may be under way before the listener waits
}

// DefaultConfig listens on the IPFIX port of the loopback address.
func DefaultConfig() Config {
	return Config{Addr: "127.0.0.1:4739", ReceiveBuffer: 32 << 20, Batch: 32, Slabs: 64}
}

// Validate reports the first mistake.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("listen: address %q: %w; write it as 127.0.0.1:4739", c.Addr, err)
	}
	if c.Batch < 1 || c.Batch > 1024 {
		return fmt.Errorf("listen: batch of %d datagrams: want 1 to 1024", c.Batch)
	}
	if c.Slabs < 2 || c.ReceiveBuffer < 0 {
		return fmt.Errorf("listen: %d slabs, receive buffer of %d bytes: want at least 2 and 0", c.Slabs, c.ReceiveBuffer)
	}
	return nil
}

// Reasons for which a datagram is not passed on.
const (
	DropKernel      = iota // the kernel's receive buffer was full
	DropTruncated          // longer than maxDatagram, which UDP forbids
	DropEmpty              // less than two bytes: no version word
	DropNetFlow1           // recognised, without a decoder
	DropNetFlow5           // recognised, without a decoder
	DropNetFlow7           // recognised, without a decoder
	DropNetFlow9           // recognised, without a decoder
	DropSFlow              // recognised, without a decoder
	DropUnknown            // no protocol that is known here
	DropInterrupted        // the line was stopped while it was full
)

var reasons = []string{
	"kernel", "truncated", "empty", "unsupported-netflow1", "unsupported-netflow5", "unsupported-netflow7",
	"unsupported-netflow9", "unsupported-sflow", "unknown-protocol", "interrupted",
}

const (
	maxDatagram = 65535
	slabBytes   = 4 * maxDatagram // the packed bytes of one batch; a batch ends when they are used up
	drainTime   = 50 * time.Millisecond
	dropsEvery  = time.Second
)

// Listener is one UDP socket. Its methods are safe for concurrent use.
type Listener struct {
	cfg   Config
	book  *ledger.Book
	drops dropCounter
	slabs slabPool

	bytes  atomic.Uint64
	lastNS atomic.Int64

	mu      sync.Mutex
	conn    *net.UDPConn
	granted int
}

// New checks the configuration. No socket is opened before Bind or Run.
func New(cfg Config) (*Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, book: ledger.New("listen", ledger.Datagrams, reasons...)}
	l.slabs.init(cfg.Slabs, cfg.Batch)
	return l, nil
}

// Bind opens the socket; Run does so itself when nobody did. Datagrams queue in the kernel until Run reads
// them.
func (l *Listener) Bind(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return nil
	}
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", l.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen: udp %s: %w", l.cfg.Addr, bindHint(err))
	}
	l.conn = pc.(*net.UDPConn)
	l.granted, err = prepare(l.conn, l.cfg.ReceiveBuffer)
	if err != nil {
		l.conn.Close()
		l.conn = nil
		return fmt.Errorf("listen: udp %s: %w", l.cfg.Addr, err)
	}
	return nil
}

// Close closes a socket that Bind opened and Run will not use.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

// Addr returns the bound address, the zero value before Bind.
func (l *Listener) Addr() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return netip.AddrPort{}
	}
	return unmap(l.conn.LocalAddr().(*net.UDPAddr).AddrPort())
}

// Status is a listener's state.
type Status struct {
	Addr          string           `json:"addr"`
	Book          ledger.Statement `json:"book"`
	Bytes         uint64           `json:"bytes"` // of payload received
	LastNS        int64            `json:"last_ns"`
	ReceiveBuffer int              `json:"receive_buffer"` // bytes granted by the kernel
	Wanted        int              `json:"receive_buffer_wanted"`
}

// Status returns the listener's state.
func (l *Listener) Status() Status {
	s := Status{
		Addr: l.cfg.Addr, Book: l.book.Read(), Bytes: l.bytes.Load(), LastNS: l.lastNS.Load(),
		Wanted: l.cfg.ReceiveBuffer,
	}
	if a := l.Addr(); a.IsValid() {
		s.Addr = a.String()
	}
	l.mu.Lock()
	s.ReceiveBuffer = l.granted
	l.mu.Unlock()
	return s
}

// Book returns the listener's account.
func (l *Listener) Book() ledger.Statement { return l.book.Read() }

// Run receives until ctx ends; it then takes what the kernel had queued, for a bounded time, and
// returns nil. When the reader of out is slow it waits: the kernel's buffer is the queue, and what the
// kernel drops is in the book.
func (l *Listener) Run(ctx context.Context, out chan<- Batch) error {
	if err := l.Bind(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now().Add(drainTime)) })
	defer stop()
	polled := make(chan struct{})
	go l.pollDrops(ctx, conn, polled)
	err := l.read(ctx, conn, out)
	<-polled
	l.kernelDrops(conn)
	return err
}

// pollDrops reads the kernel's drop counter now and then, for a socket that was drowned and then fell silent.
func (l *Listener) pollDrops(ctx context.Context, conn *net.UDPConn, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.kernelDrops(conn)
		}
	}
}

func (l *Listener) kernelDrops(conn *net.UDPConn) {
	if n, ok := socketDrops(conn); ok {
		l.dropped(n)
	}
}

// dropped notes the kernel's cumulative drop counter.
func (l *Listener) dropped(counter uint32) {
	if n := l.drops.advance(counter); n > 0 {
		l.book.In(n)
		l.book.Drop(DropKernel, n)
	}
}

func (l *Listener) read(ctx context.Context, conn *net.UDPConn, out chan<- Batch) error {
	pc := ipv4.NewPacketConn(conn) // for its recvmmsg, which does not mind IPv6
	local := unmap(conn.LocalAddr().(*net.UDPAddr).AddrPort())
	msgs := make([]ipv4.Message, l.cfg.Batch)
	for i := range msgs {
		msgs[i].Buffers, msgs[i].OOB = [][]byte{make([]byte, maxDatagram)}, make([]byte, oobLen)
	}
	for {
		n, err := pc.ReadBatch(msgs, 0)
		if err != nil {
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
				return nil
			case temporary(err):
				continue
			}
			return fmt.Errorf("listen: udp %s: receive: %w", l.cfg.Addr, err)
		}
		for taken := 0; taken < n; {
			s := l.slabs.get(ctx)
			if s == nil { // stopped while the line was full
				l.book.In(n - taken)
				l.book.Drop(DropInterrupted, n-taken)
				break
			}
			taken += l.pack(s, msgs[taken:n], local)
			l.send(ctx, s, out)
		}
	}
}

// pack copies datagrams into a slab until it is full, and returns how many it handled. A slab holds at least one.
func (l *Listener) pack(s *slab, msgs []ipv4.Message, local netip.AddrPort) int {
	for i := range msgs {
		m := &msgs[i]
		if len(s.bytes)+m.N > cap(s.bytes) {
			return i
		}
		meta := parseOOB(m.OOB[:m.NN])
		if meta.hasDrops {
			l.dropped(meta.drops)
		}
		l.book.In(1)
		l.bytes.Add(uint64(m.N))
		data := m.Buffers[0][:m.N]
		d := Datagram{Protocol: Detect(data), TimeNS: meta.timeNS, Local: local, From: unmap(m.Addr.(*net.UDPAddr).AddrPort())}
		if d.TimeNS == 0 {
			d.TimeNS = time.Now().UnixNano()
		}
		if meta.local.IsValid() {
			d.Local = netip.AddrPortFrom(meta.local, local.Port())
		}
		l.lastNS.Store(d.TimeNS)
		if m.Flags&msgTrunc != 0 {
			l.book.Drop(DropTruncated, 1)
			continue
		}
		if r, drop := d.Protocol.unsupported(); drop {
			l.book.Drop(r, 1)
			continue
		}
		start := len(s.bytes)
		s.bytes = append(s.bytes, data...)
		d.Data = s.bytes[start:len(s.bytes):len(s.bytes)]
		s.datagrams = append(s.datagrams, d)
	}
	return len(msgs)
}

// send passes a slab on. After ctx has ended the line drains, so that it still waits a little.
func (l *Listener) send(ctx context.Context, s *slab, out chan<- Batch) {
	if len(s.datagrams) == 0 {
		l.slabs.put(s)
		return
	}
	n := len(s.datagrams)
	b := Batch{Datagrams: s.datagrams, Free: func() { l.slabs.put(s) }}
	select {
	case out <- b:
		l.book.Out(n)
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(drainTime)
	defer late.Stop()
	select {
	case out <- b:
		l.book.Out(n)
	case <-late.C:
		l.book.Drop(DropInterrupted, n)
		b.Release()
	}
}
