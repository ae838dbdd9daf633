// Package replicate passes received export datagrams on to other collectors as they came, byte for byte. It never holds up the
// collector: what finds no room is dropped and counted.
package replicate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"

	"crosstap/internal/flowproto"
	"crosstap/internal/ledger"
)

// Source says which source address the copies have.
type Source string

// The sources.
const (
	Own  Source = "own"  // this machine's; each exporter's session keeps a port of its own
	Keep Source = "keep" // the exporter's; needs CAP_NET_RAW
	Try  Source = "try"  // the exporter's where that is allowed, else our own
)

// Share says which of several targets gets a datagram.
type Share string

// The shares.
const (
	All    Share = "all"    // each
	Sticky Share = "sticky" // one for each exporter, in turn as exporters appear
)

// Config says what is passed on, and to whom.
type Config struct {
	Name      string // in status and metrics
	To        []netip.AddrPort
	Source    Source
	Share     Share
	Exporters []netip.Prefix       // whose datagrams; none for all
	Protocols []flowproto.Protocol // which; none for all
	Queue     int                  // datagrams that may wait for one target
	Log       *slog.Logger         // nil for none
}

// DefaultQueue is room for some tenths of a second of a busy collector; a target's queue has at most maxWaiting bytes besides.
const (
	DefaultQueue = 1 << 15
	maxWaiting   = 32 << 20
)

// Validate reports the first mistake.
func (c *Config) Validate() error {
	switch {
	case c.Name == "":
		return errors.New("no name")
	case len(c.To) == 0:
		return errors.New("no target: give at least one IP:PORT")
	case c.Source != Own && c.Source != Keep && c.Source != Try:
		return fmt.Errorf("source %q: want own, keep or try", c.Source)
	case c.Share != All && c.Share != Sticky:
		return fmt.Errorf("share %q: want all or sticky", c.Share)
	case c.Queue < 1 || c.Queue > 1<<20:
		return fmt.Errorf("queue of %d datagrams: want 1 to %d", c.Queue, 1<<20)
	}
	for i, to := range c.To {
		if !to.IsValid() || to.Port() == 0 || to.Addr().IsUnspecified() || to.Addr().IsMulticast() {
			return fmt.Errorf("target %v: want the IP:PORT of a collector", to)
		}
		if slices.Contains(c.To[:i], to) {
			return fmt.Errorf("target %v is given twice", to)
		}
	}
	return nil
}

// CheckLoop returns an error when a target is one of the addresses that we listen on ourselves.
func (c *Config) CheckLoop(listening []netip.AddrPort) error {
	for _, to := range c.To {
		for _, l := range listening {
			if l.Port() != to.Port() {
				continue
			}
			if l.Addr().Unmap() == to.Addr().Unmap() || l.Addr().IsUnspecified() && isLocal(to.Addr()) {
				return fmt.Errorf("target %v is our own listener %v: every datagram would come back; give another collector", to, l)
			}
		}
	}
	return nil
}

// isLocal reports whether an address is one of this machine's.
func isLocal(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

// Datagram is what came.
type Datagram struct {
	Data     []byte         // copied
	From     netip.AddrPort // the exporter
	Protocol flowproto.Protocol
	Stream   bool // a message of a TCP or TLS connection
}

// Reasons for which a datagram is not meant for any target.
const (
	dropFiltered = iota
	dropStream   // it came by TCP or TLS: its templates were told once, elsewhere
)

// Replicator passes datagrams on.
type Replicator struct {
	cfg     Config
	book    *ledger.Book
	targets []*target
	turns   map[netip.Addr]int // the target of each exporter
}

// New makes a replicator. It opens nothing.
func New(c Config) (*Replicator, error) {
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("replicate: %s: %w", c.Name, err)
	}
	r := &Replicator{cfg: c, book: ledger.New("replicate "+c.Name, ledger.Datagrams, "filtered", "stream"), turns: map[netip.Addr]int{}}
	for _, to := range c.To {
		r.targets = append(r.targets, newTarget(&r.cfg, to))
	}
	return r, nil
}

// Bind opens the sockets that need a permission. listening are the collector's own addresses.
func (r *Replicator) Bind(listening []netip.AddrPort) error {
	if err := r.cfg.CheckLoop(listening); err != nil {
		return fmt.Errorf("replicate: %s: %w", r.cfg.Name, err)
	}
	for i, t := range r.targets {
		if err := t.bind(); err != nil {
			for _, opened := range r.targets[:i] {
				opened.close()
			}
			return fmt.Errorf("replicate: %s: %w", r.cfg.Name, err)
		}
	}
	return nil
}

// Offer puts copies of a datagram into the queues of its targets. It never waits. One goroutine at a time, and none after Close.
func (r *Replicator) Offer(d Datagram) {
	r.book.In(1)
	switch {
	case d.Stream:
		r.book.Drop(dropStream, 1)
		return
	case !r.wants(&d):
		r.book.Drop(dropFiltered, 1)
		return
	}
	r.book.Out(1)
	if r.cfg.Share == Sticky {
		r.targets[r.turn(d.From.Addr())].offer(&d)
		return
	}
	for _, t := range r.targets {
		t.offer(&d)
	}
}

func (r *Replicator) wants(d *Datagram) bool {
	if len(r.cfg.Protocols) > 0 && !slices.Contains(r.cfg.Protocols, d.Protocol) {
		return false
	}
	if len(r.cfg.Exporters) == 0 {
		return true
	}
	a := d.From.Addr()
	return slices.ContainsFunc(r.cfg.Exporters, func(p netip.Prefix) bool { return p.Contains(a) })
}

// maxTurns is the number of exporters whose targets are given in turn. Later ones are spread by their addresses.
const maxTurns = 1 << 16

// turn returns the target of an exporter, always the same.
func (r *Replicator) turn(a netip.Addr) int {
	if i, ok := r.turns[a]; ok {
		return i
	}
	if len(r.turns) >= maxTurns {
		b := a.As16()
		return int(xxh3.Hash(b[:]) % uint64(len(r.targets)))
	}
	i := len(r.turns) % len(r.targets)
	r.turns[a] = i
	return i
}

// Close says that nothing more is offered.
func (r *Replicator) Close() {
	for _, t := range r.targets {
		t.queue.close()
	}
}

// Run sends what is in the queues until they are closed and empty, or ctx ends. Bind comes first.
func (r *Replicator) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, t := range r.targets {
		wg.Go(func() { t.run(ctx) })
	}
	wg.Wait()
}

// Status is how a replicator is.
type Status struct {
	Name    string
	Book    ledger.Statement // datagrams received; out are those meant for at least one target
	Targets []TargetStatus
}

// TargetStatus is the account of one target.
type TargetStatus struct {
	Address string
	Book    ledger.Statement
	Kept    bool // copies have the exporter's address
	Bytes   uint64
	Error   string // the last one
}

// Status returns the state.
func (r *Replicator) Status() Status {
	s := Status{Name: r.cfg.Name, Book: r.book.Read()}
	for _, t := range r.targets {
		s.Targets = append(s.Targets, t.status())
	}
	return s
}

// sessionHash spreads sessions over sockets.
func sessionHash(from netip.AddrPort) uint64 {
	var b [18]byte
	a := from.Addr().As16()
	copy(b[:], a[:])
	binary.BigEndian.PutUint16(b[16:], from.Port())
	return xxh3.Hash(b[:])
}
