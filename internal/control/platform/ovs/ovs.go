// Package ovs is the platform of one Open vSwitch: its inventory and its mirror sessions, over its database (OVSDB) and, for what is
// filtered or cut, over OpenFlow to a bridge of our own.
//
// A session is a Mirror row of the tenants' bridge. Its copies go straight to a port of that bridge, or through a patch into our bridge,
// where flows filter, cut and pass them on to tunnels; the tenants' flow tables are never touched. Open vSwitch does not look at cached
// flows again when only a mirror changes (docs/guide/policies.md), so each change of a mirror also replaces a port of our bridge.
package ovs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/ovsdb"
)

// Config says which Open vSwitch a Platform is.
type Config struct {
	Name     string // of the Platform resource
	Address  string // of the database: unix:PATH, tcp:HOST[:6640], ssl:HOST[:6640]
	TLS      *tls.Config
	Host     string                  // name of the host; "" for what the database says
	Segments map[string]flow.Segment // switch, or switch/VLAN → segment
	// Thumbprint is the SHA-256 of the other end's certificate, in hexadecimal: that one is taken and no other. "" for any that an
	// authority of TLS has signed.
	Thumbprint string
	// OpenFlow is where our bridge is reached: unix:PATH with {bridge} for its name, tcp:HOST[:6653], ssl:HOST[:6653], or none. "" is
	// beside the database's unix socket; a database that is reached otherwise then has no filters. Over the network our bridge is made to
	// listen there; that of the kernel's datapath at the next port.
	OpenFlow string
	Bridge   string // name of our own bridge; "" for crosstap
	Exports  Options
	Log      *slog.Logger
}

// Platform is one Open vSwitch.
type Platform struct {
	cfg Config
	log *slog.Logger

	mu   sync.Mutex // held while the connection is made
	conn *ovsdb.Conn

	probeMu  sync.Mutex // held while it is found out whether OpenFlow gets through
	probed   time.Time
	probeErr error
	mute     map[string]failure // bridges that did not answer over the network

	gapMu    sync.Mutex
	onGap    func(platform.Gap)
	came     map[string]time.Time // ports that came while they were watched
	counting map[string]bool      // bridges of ours that count copies

	life context.Context // ends with Close
	end  context.CancelFunc
}

var (
	_ platform.Platform = (*Platform)(nil)
	_ platform.Gapper   = (*Platform)(nil)
)

// failure is when something failed, and why.
type failure struct {
	at  time.Time
	err error
}

// database is that of Open vSwitch.
const database = "Open_vSwitch"

// confirmWait is how long the switch has to do what the database says.
const confirmWait = 20 * time.Second

// New returns a platform. It opens nothing.
func New(c Config) (*Platform, error) {
	if c.Name == "" {
		return nil, errors.New("ovs: a platform needs a name")
	}
	if err := (ovsdb.Endpoint{Address: c.Address, TLS: c.TLS}).Validate(); err != nil {
		return nil, fmt.Errorf("ovs: %s: %w", c.Name, err)
	}
	if err := c.checkReach(); err != nil {
		return nil, fmt.Errorf("ovs: %s: %w", c.Name, err)
	}
	if len(c.Bridge) > maxIfName {
		return nil, fmt.Errorf("ovs: %s: bridge %q: a name has at most %d bytes", c.Name, c.Bridge, maxIfName)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Platform{cfg: c, log: c.Log.With("platform", c.Name)}
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// maxIfName is the length of an interface's name in Linux.
const maxIfName = 15

// Name implements platform.Platform.
func (p *Platform) Name() string { return p.cfg.Name }

// Kind implements platform.Platform.
func (p *Platform) Kind() string { return "ovs" }

// Close ends the connection.
func (p *Platform) Close() error {
	p.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return nil
	}
	err := p.conn.Close()
	p.conn = nil
	return err
}

// session returns the connection; a broken one is made again.
func (p *Platform) session(ctx context.Context) (*ovsdb.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil && p.conn.Err() != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
	if p.conn == nil {
		conn, err := ovsdb.Dial(ctx, p.endpoint(), nil)
		if err != nil {
			return nil, fmt.Errorf("ovs: %s: %w: %w", p.cfg.Name, platform.ErrUnreachable, err)
		}
		p.conn = conn
	}
	return p.conn, nil
}

// transact does operations on the database.
func (p *Platform) transact(ctx context.Context, ops ...ovsdb.Operation) ([]ovsdb.Result, error) {
	conn, err := p.session(ctx)
	if err != nil {
		return nil, err
	}
	res, err := conn.Transact(ctx, database, ops...)
	var refused *ovsdb.OperationError
	var rpc *ovsdb.RPCError
	switch {
	case err == nil:
		return res, nil
	case errors.As(err, &refused) && (refused.Err == "permission error" || refused.Err == "not allowed"):
		return nil, fmt.Errorf("ovs: %s: %w: %w", p.cfg.Name, platform.ErrDenied, err)
	case errors.As(err, &refused) && refused.Err == "timed out":
		return nil, fmt.Errorf("ovs: %s: %w", p.cfg.Name, platform.ErrChanged)
	case errors.As(err, &refused), errors.As(err, &rpc):
		return nil, fmt.Errorf("ovs: %s: %w", p.cfg.Name, err)
	}
	return nil, fmt.Errorf("ovs: %s: %w: %w", p.cfg.Name, platform.ErrUnreachable, err)
}

// Kinds of datapaths. A bridge of ours works for the bridges of its own kind alone.
const userspace = "netdev"

// ourBridge is the name of our bridge for a kind of datapath.
func (p *Platform) ourBridge(owner, datapath string) string {
	name := cmp.Or(p.cfg.Bridge, "crosstap")
	if owner != "crosstap" && p.cfg.Bridge == "" {
		name = "ct" + hash(owner)
	}
	if datapath != userspace {
		name = name[:min(len(name), maxIfName-1)] + "k" // the kernel's
	}
	return name
}

// hash is eight digits that stand for a text.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:4])
}
