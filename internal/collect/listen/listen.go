// Package listen receives flow export over UDP, TCP, TLS and DTLS, a batch at a time, and says of each datagram or message
// where it came from, when it was received, and which protocol it speaks.
package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/flowproto"
	"crosstap/internal/ledger"
)

// Config says where and how to listen.
type Config struct {
	Transport     Transport
	Addr          string // host:port; an empty host means every address, IPv4 and IPv6
	ReceiveBuffer int    // bytes the kernel may queue over all sockets; it may grant less (see Status)
	Sockets       int    // UDP: sockets on the one port; 0 for as many as it takes to be granted ReceiveBuffer, at most 8
	Batch         int    // UDP: datagrams read at once
	Slabs         int    // UDP: batches that may be under way before the listener waits

	Allow  []netip.Prefix // exporters that may send; empty for all
	Stream StreamConfig   // bounds of TCP, TLS and DTLS
	TLS    TLSConfig      // certificates of TLS and DTLS
}

// DefaultConfig listens on the IPFIX port of the loopback address.
func DefaultConfig() Config {
	return Config{Addr: "127.0.0.1:4739", ReceiveBuffer: 32 << 20, Batch: 64, Slabs: 1024, Stream: DefaultStreamConfig()}
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
	if c.Sockets < 0 || c.Sockets > maxSockets {
		return fmt.Errorf("listen: %d sockets: want 0 to %d", c.Sockets, maxSockets)
	}
	for _, p := range c.Allow {
		if !p.IsValid() {
			return fmt.Errorf("listen: allow: %v is no network", p)
		}
	}
	if c.Transport == UDP {
		return nil
	}
	return c.Stream.validate()
}

// Reasons for which a datagram is not passed on.
const (
	DropKernel      = iota // the kernel's receive buffer was full
	DropTruncated          // longer than maxDatagram, which UDP forbids
	DropEmpty              // less than two bytes: no version word
	DropUnknown            // no protocol that is known here
	DropRefused            // the exporter is not on the list of those allowed
	DropFraming            // a stream that is no IPFIX, or says an impossible length; its connection is closed
	DropCut                // a message that was not whole when its connection ended or had to end
	DropInterrupted        // the line was stopped while it was full
)

var reasons = []string{"kernel", "truncated", "empty", "unknown-protocol", "refused", "bad-framing", "cut", "interrupted"}

const (
	maxDatagram = 65535
	maxSockets  = 64
	autoSockets = 8 // of Sockets: 0
	drainTime   = 50 * time.Millisecond
	dropsEvery  = time.Second
)

// Listener is one address that exporters send to. Its methods are safe for concurrent use.
type Listener struct {
	cfg   Config
	book  *ledger.Book
	allow allowList

	bytes  atomic.Uint64
	lastNS atomic.Int64

	mu     sync.Mutex
	t      transport // nil before Bind
	closed bool
}

// transport is the part of a listener that knows its sockets. run and close are called once each, close after run
// or in its stead.
type transport interface {
	run(ctx context.Context, out chan<- Batch) error
	close() error
	status(s *Status)
}

// New checks the configuration and reads the certificates. No socket is opened before Bind or Run.
func New(cfg Config) (*Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, book: ledger.New("listen", ledger.Datagrams, reasons...)}
	l.allow.set(cfg.Allow)
	if cfg.Transport == TLS || cfg.Transport == DTLS {
		if _, err := cfg.TLS.load(); err != nil {
			return nil, fmt.Errorf("listen: %v %s: %w", cfg.Transport, cfg.Addr, err)
		}
	}
	return l, nil
}

// SetAllow replaces the list of exporters that may send. Connections of others end with their next message.
func (l *Listener) SetAllow(nets []netip.Prefix) { l.allow.set(nets) }

// Bind opens the sockets; Run does so itself when nobody did. Datagrams queue in the kernel until Run reads
// them.
func (l *Listener) Bind(ctx context.Context) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		return nil
	}
	var t transport
	switch l.cfg.Transport {
	case UDP:
		t, err = bindUDP(ctx, l)
	case DTLS:
		t, err = bindDTLS(ctx, l)
	default:
		t, err = bindStream(ctx, l)
	}
	if err != nil {
		return fmt.Errorf("listen: %v %s: %w", l.cfg.Transport, l.cfg.Addr, err)
	}
	l.t = t
	return nil
}

// Close closes the sockets that Bind opened and Run will not use.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t == nil || l.closed {
		return nil
	}
	l.closed = true
	return l.t.close()
}

// Addr returns the bound address, the zero value before Bind.
func (l *Listener) Addr() netip.AddrPort {
	if t := l.bound(); t != nil {
		var s Status
		t.status(&s)
		return s.bound
	}
	return netip.AddrPort{}
}

func (l *Listener) bound() transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.t
}

// Status is a listener's state.
type Status struct {
	Addr          string           `json:"addr"`
	Network       string           `json:"network"` // "udp", "tcp", "tls", "dtls"
	Book          ledger.Statement `json:"book"`
	Bytes         uint64           `json:"bytes"` // of payload received
	LastNS        int64            `json:"last_ns"`
	Sockets       int              `json:"sockets"`
	ReceiveBuffer int              `json:"receive_buffer"` // bytes granted by the kernel, over all sockets
	Wanted        int              `json:"receive_buffer_wanted"`
	Connections   int              `json:"connections"`         // open now
	Accepted      uint64           `json:"accepted"`            // connections so far
	Refused       uint64           `json:"refused_connections"` // not allowed, too many, or the handshake failed
	TLSError      string           `json:"tls_error"`           // why new certificates are not in use, "" when they are

	bound netip.AddrPort
}

// Status returns the listener's state.
func (l *Listener) Status() Status {
	s := Status{
		Addr: l.cfg.Addr, Network: l.cfg.Transport.String(), Book: l.book.Read(), Bytes: l.bytes.Load(), LastNS: l.lastNS.Load(),
	}
	if l.cfg.Transport == UDP {
		s.Wanted = l.cfg.ReceiveBuffer
	}
	if t := l.bound(); t != nil {
		t.status(&s)
		s.Addr = s.bound.String()
	}
	return s
}

// Book returns the listener's account.
func (l *Listener) Book() ledger.Statement { return l.book.Read() }

// Run receives until ctx ends; it then takes what the kernel had queued, for a bounded time, and
// returns nil. When the reader of out is slow it waits: over UDP the kernel's buffer is the queue, and what the
// kernel drops is in the book; over TCP the exporter waits.
func (l *Listener) Run(ctx context.Context, out chan<- Batch) error {
	if err := l.Bind(ctx); err != nil {
		return err
	}
	defer l.Close()
	if err := l.bound().run(ctx, out); err != nil {
		return fmt.Errorf("listen: %v %s: %w", l.cfg.Transport, l.cfg.Addr, err)
	}
	return nil
}

// take counts a datagram and says whether it goes on. It fills in the protocol.
func (l *Listener) take(d *Datagram, size int) bool {
	l.book.In(1)
	l.bytes.Add(uint64(size))
	l.lastNS.Store(d.TimeNS)
	switch {
	case !l.allow.ok(d.From.Addr()):
		l.book.Drop(DropRefused, 1)
	case d.Protocol == flowproto.Empty:
		l.book.Drop(DropEmpty, 1)
	case d.Protocol == flowproto.Unknown:
		l.book.Drop(DropUnknown, 1)
	default:
		return true
	}
	return false
}

// pass hands a batch on, and counts it. After ctx has ended the line drains, so that it still waits a little.
func (l *Listener) pass(ctx context.Context, b Batch, n int, out chan<- Batch) {
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
