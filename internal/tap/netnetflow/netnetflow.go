// Package netnetflow is a tap of whole switches: what ESX Server 3.5's net-netflow did, for Linux bridges and Open vSwitch bridges.
// Each switch has a line of its own, from the ports that it has at the moment to the collectors: capture → meter → queue → export.
// A packet is counted once, where it enters the switch.
package netnetflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"crosstap/internal/flowproto/netflow5"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/meter"
)

// Config says which switches are metered, and how.
type Config struct {
	Switches []string // names of Linux bridges and Open vSwitch bridges
	Targets  []export.Target
	// Period is how often finished flows are taken from the queue and sent.
	Period time.Duration
	Queue  int // finished flows of a switch that may wait for that
	// PortIDs writes 7 bits of switch and 9 bits of port instead of a port number.
	PortIDs bool
	IDs     map[string]int // numbers of switches that the operator has chosen

	Idle, Active time.Duration
	Key          meter.Key
	Sampling     uint32 // one frame in so many is metered; 0 and 1 for all
	MaxFlows     int    // of each switch
	RingBytes    int    // of each port
	SnapLen      int

	StateFile string // numbers of the switches
	OVSDB     string // address of the Open vSwitch database
	NetNS     string // file of the network namespace of the switches; "" for the process's own

	Summary io.Writer // what was sent is summed up here; nil for nowhere
	Report  time.Duration
	Ready   func() // called once, when all switches are captured
	Log     *slog.Logger
}

// DefaultConfig returns net-netflow's own timeouts and period.
func DefaultConfig() Config {
	return Config{
		Period: time.Second, Queue: 16384, Idle: 15 * time.Second, Active: 300 * time.Second, Key: meter.KeyOuter,
		MaxFlows: 65536, RingBytes: 4 << 20, SnapLen: 256, StateFile: "/var/lib/crosstap/net-netflow.json",
		OVSDB: "unix:/var/run/openvswitch/db.sock", Report: 10 * time.Second,
	}
}

// Limits of the period: more often is a waste, more seldom no flow export.
const (
	MinPeriod = 10 * time.Millisecond
	MaxPeriod = time.Minute
	minSnap   = 96
)

// Validate reports the first mistake.
func (c *Config) Validate() error {
	switch {
	case len(c.Switches) == 0:
		return errors.New("net-netflow: no switch: give at least one with -e")
	case len(c.Targets) == 0:
		return errors.New("net-netflow: no collector: give HOST[:PORT]")
	case c.Period < MinPeriod || c.Period > MaxPeriod:
		return fmt.Errorf("net-netflow: polling period of %d ms: must be %d to %d", c.Period.Milliseconds(), MinPeriod.Milliseconds(), MaxPeriod.Milliseconds())
	case c.Queue < 1:
		return fmt.Errorf("net-netflow: queue of %d flows: must be positive", c.Queue)
	case c.SnapLen < minSnap:
		return fmt.Errorf("net-netflow: snap length %d: must be at least %d for the headers", c.SnapLen, minSnap)
	case c.Report <= 0:
		return fmt.Errorf("net-netflow: reports every %v: must be positive", c.Report)
	}
	for _, t := range c.Targets {
		if t.Format == export.NetFlow5 && c.Sampling > netflow5.MaxSamplingInterval {
			return fmt.Errorf("net-netflow: sampling of one frame in %d: NetFlow v5 tells at most %d", c.Sampling, netflow5.MaxSamplingInterval)
		}
	}
	return checkNames(c.Switches)
}

func checkNames(names []string) error {
	for i, n := range names {
		if n == "" {
			return errors.New("net-netflow: a switch without a name: want -e NAME,NAME")
		}
		if slices.Contains(names[:i], n) {
			return fmt.Errorf("net-netflow: switch %s is named twice", n)
		}
	}
	return nil
}

// Meter meters a changing set of switches.
type Meter struct {
	cfg    Config
	log    *slog.Logger
	finder *finder
	ids    *ids

	set   sync.Mutex // held while the set of switches changes
	mu    sync.Mutex
	lines []*line // in the order of the names
	ctx   context.Context
	ended bool
	wg    sync.WaitGroup
	fail  chan error // of a line
}

// New returns a meter of switches. It opens nothing.
func New(c Config) (*Meter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Meter{cfg: c, log: c.Log, ids: newIDs(c.StateFile, c.IDs), fail: make(chan error, 1)}
	var err error
	if m.finder, err = newFinder(&m.cfg); err != nil {
		return nil, err
	}
	if _, err := m.newLine(switchKey{}, 1); err != nil { // finds the mistakes of the stages
		return nil, err
	}
	return m, nil
}

// Run meters until ctx ends; then every switch is deregistered, and what is in its flow cache is sent. A switch that is not there,
// or that cannot be captured, is an error at once, and nothing is metered.
func (m *Meter) Run(ctx context.Context) error {
	stopFinder := m.finder.start(ctx)
	defer stopFinder()
	m.mu.Lock()
	m.ctx = ctx
	m.mu.Unlock()
	err := m.Set(m.cfg.Switches)
	if err == nil {
		if m.cfg.Ready != nil {
			m.cfg.Ready()
		}
		m.watch(ctx)
		err = m.failed()
	}
	m.mu.Lock()
	m.ended = true
	lines := m.lines
	m.mu.Unlock()
	for _, l := range lines {
		l.cancel()
	}
	m.wg.Wait()
	return err
}

func (m *Meter) failed() error {
	select {
	case err := <-m.fail:
		return err
	default:
		return nil
	}
}

// Set makes the set of switches that of names. New ones are registered first: when one of them cannot be, nothing changes.
// Switches that stay are not touched: their flows, sequence and uptime go on.
func (m *Meter) Set(names []string) error {
	m.set.Lock()
	defer m.set.Unlock()
	if err := checkNames(names); err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("net-netflow: no switch: give at least one with -e")
	}
	m.mu.Lock()
	ctx, old, ended := m.ctx, m.lines, m.ended
	m.mu.Unlock()
	if ctx == nil || ended {
		return errors.New("net-netflow: not running")
	}
	lines, fresh, err := m.register(ctx, names, old)
	if err != nil {
		return err
	}
	for _, l := range fresh {
		m.wg.Go(func() { m.runLine(ctx, l) })
		select {
		case <-l.up:
		case err := <-l.broken:
			for _, l := range fresh {
				l.cancel()
			}
			return err
		}
	}
	m.mu.Lock()
	m.lines = lines
	m.mu.Unlock()
	for _, l := range old {
		if !slices.Contains(lines, l) {
			m.log.Info("switch deregistered", "switch", l.name)
			l.cancel()
			<-l.done
		}
	}
	return nil
}

// register finds the switches and makes lines of those that have none.
func (m *Meter) register(ctx context.Context, names []string, old []*line) (lines, fresh []*line, err error) {
	for _, name := range names {
		if i := slices.IndexFunc(old, func(l *line) bool { return l.name == name }); i >= 0 {
			lines = append(lines, old[i])
			continue
		}
		sw, err := m.finder.find(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		id, err := m.ids.of(sw.key(), m.cfg.PortIDs)
		if err != nil {
			return nil, nil, err
		}
		if m.cfg.PortIDs {
			if err := sw.checkPorts(id); err != nil {
				return nil, nil, err
			}
		}
		l, err := m.newLine(sw.key(), id)
		if err != nil {
			return nil, nil, err
		}
		lines, fresh = append(lines, l), append(fresh, l)
	}
	return lines, fresh, nil
}

func (m *Meter) runLine(ctx context.Context, l *line) {
	if err := l.run(ctx); err != nil {
		select {
		case m.fail <- err:
		default:
		}
	}
}

// watch reports until ctx ends or a line fails.
func (m *Meter) watch(ctx context.Context) {
	report := time.NewTicker(m.cfg.Report)
	defer report.Stop()
	for {
		select {
		case <-report.C:
			for _, l := range m.all() {
				l.report()
			}
		case err := <-m.fail:
			m.fail <- err
			return
		case <-ctx.Done():
			return
		}
	}
}

func (m *Meter) all() []*line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lines)
}
