// Package vm holds the programs that run in the lab's virtual machines: a web server, a small
// database, a name server, a file server, and a client that uses them all. They are real processes
// with real sockets; nothing here knows that it is watched.
package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Ports of the programs.
const (
	portHTTP = 80
	portDB   = 5432
	portDNS  = 53
	portBulk = 873
	// portResolver is the fixed source port of every client's name queries: two tenants with the same
	// addresses then have the very same 5-tuple at the same time.
	portResolver = 10053
)

// Opens reports whether a conversation from port src to port dst was opened from src: dst is a server's.
func Opens(src, dst uint16) bool { return served(dst) && !served(src) }

func served(port uint16) bool {
	return port == portHTTP || port == portDB || port == portDNS || port == portBulk
}

// streamBuffer bounds what is in flight on a bulk stream. It stays below the 1,000 frames that the
// kernel queues per CPU on a veth pair, so that the lab itself loses nothing.
const streamBuffer = 128 << 10

// Config is what one VM runs.
type Config struct {
	Name   string // of the VM
	Role   string // web, db or client
	Tenant string
	Web    Peer
	DB     Peer
	Every  time.Duration // pause between two rounds of the client's requests
	Bulk   Bulk
}

// Peer is another VM of the tenant.
type Peer struct {
	Addr4 netip.Addr
	Addr6 netip.Addr // the zero Addr for none
}

// addrs returns the peer's addresses.
func (p Peer) addrs() []netip.Addr {
	if p.Addr6.IsValid() {
		return []netip.Addr{p.Addr4, p.Addr6}
	}
	return []netip.Addr{p.Addr4}
}

// Bulk says how often the client copies how much from the database VM. The first copy starts a second after the
// client.
type Bulk struct {
	Every time.Duration
	Bytes int
}

// Stats counts what a program did. Failures are requests without the expected answer.
type Stats struct {
	Served   atomic.Uint64
	Asked    atomic.Uint64
	Failures atomic.Uint64
	last     atomic.Pointer[string]
}

// count books one request and its outcome; requests cut short because the program ends do not count.
func (s *Stats) count(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	s.Asked.Add(1)
	if err != nil {
		s.Failures.Add(1)
		text := what + ": " + err.Error()
		s.last.Store(&text)
	}
}

// Report is Stats at one moment, as a VM prints it when it ends.
type Report struct {
	VM       string `json:"vm"`
	Served   uint64 `json:"served"`
	Asked    uint64 `json:"asked"`
	Failures uint64 `json:"failures"`
	Failure  string `json:"failure,omitempty"` // the last one
}

func (s *Stats) report(name string) Report {
	r := Report{VM: name, Served: s.Served.Load(), Asked: s.Asked.Load(), Failures: s.Failures.Load()}
	if text := s.last.Load(); text != nil {
		r.Failure = *text
	}
	return r
}

// A VM is one virtual machine's programs.
type VM struct {
	cfg   Config
	stats Stats
}

// New returns the programs of one VM, not yet running.
func New(cfg Config) (*VM, error) {
	switch {
	case cfg.Role != "web" && cfg.Role != "db" && cfg.Role != "client":
		return nil, fmt.Errorf("lab vm: role %q: expected web, db or client", cfg.Role)
	case cfg.Role != "db" && !cfg.DB.Addr4.IsValid(), cfg.Role == "client" && !cfg.Web.Addr4.IsValid():
		return nil, fmt.Errorf("lab vm: %s: a peer has no address", cfg.Name)
	case cfg.Role == "client" && (cfg.Every <= 0 || cfg.Bulk.Every <= 0):
		return nil, fmt.Errorf("lab vm: %s: the pauses between requests must be longer than 0", cfg.Name)
	}
	return &VM{cfg: cfg}, nil
}

// Parse reads a Config as JSON.
func Parse(b []byte) (Config, error) {
	var cfg Config
	if err := json.Unmarshal(b, &cfg); err != nil {
		return cfg, fmt.Errorf("lab vm: configuration: %w", err)
	}
	return cfg, nil
}

// Run runs the VM's programs until ctx ends or one of them fails. Once its servers listen it calls ready.
func (v *VM) Run(ctx context.Context, ready func() error) (Report, error) {
	g, ctx := errgroup.WithContext(ctx)
	var err error
	switch v.cfg.Role {
	case "web":
		err = v.web(ctx, g)
	case "db":
		err = errors.Join(v.database(ctx, g), v.names(ctx, g), v.bulk(ctx, g))
	case "client":
		v.client(ctx, g)
	}
	if err == nil {
		err = ready()
	}
	if err != nil {
		g.Go(func() error { return err })
	}
	err = g.Wait()
	return v.stats.report(v.cfg.Name), err
}

// listen opens a TCP listener whose connections have bounded buffers.
func listen(ctx context.Context, port int) (net.Listener, error) {
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return bound(c) }}
	cfg.SetMultipathTCP(false)
	return cfg.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
}

// dial opens a TCP connection with bounded buffers.
func dial(ctx context.Context, to netip.Addr, port uint16) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error { return bound(c) }}
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, port).String())
}

// serve accepts connections until ctx ends and runs handle for each in the group. Connections are
// closed when ctx ends.
func serve(ctx context.Context, g *errgroup.Group, l net.Listener, handle func(net.Conn) error) {
	context.AfterFunc(ctx, func() { l.Close() })
	g.Go(func() error {
		for {
			c, err := l.Accept()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("lab vm: accept: %w", err)
			}
			g.Go(func() error {
				stop := context.AfterFunc(ctx, func() { c.Close() })
				defer stop()
				defer c.Close()
				_ = handle(c) // the peer went away: its own report says so
				return nil
			})
		}
	})
}

// pause waits; it returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
