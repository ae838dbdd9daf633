package netnetflow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/meter"
)

const (
	lookInterval = 500 * time.Millisecond // for ports that came or went
	framesAhead  = 8                      // batches between the ports and the meter
	flowsAhead   = 8
)

// Reasons why a frame of a port is not metered.
const (
	dropLeaving = iota // it left the switch by this port: it was counted where it entered
	dropSampled        // not the one in so many
	dropStopped        // a later stage has failed
)

// line meters one switch.
type line struct {
	cfg    *Config
	finder *finder
	log    *slog.Logger
	key    switchKey
	name   string
	id     int
	seen   atomic.Uint64 // frames, for sampling

	places   *places
	queue    *queue
	exporter *export.Exporter
	enter    *ledger.Book // of frames at all ports
	books    captureBooks

	up     chan struct{} // closed when all ports are captured
	broken chan error    // why they cannot be
	done   chan struct{}
	stop   context.CancelFunc
	once   sync.Once

	mu      sync.Mutex
	meter   *meter.Meter // of the present generation
	meters  statements   // of earlier ones
	ports   map[port]*portCapture
	refused map[port]bool // said once
	gone    bool

	health   []health // of the collectors
	reported uint64   // flows lost in the queue
}

func (m *Meter) newLine(key switchKey, id int) (*line, error) {
	name := key.name
	l := &line{
		cfg: &m.cfg, finder: m.finder, log: m.log.With("switch", name), key: key, name: name, id: id, places: newPlaces(),
		enter: ledger.New("enter", ledger.Frames, "leaving", "not_sampled", "stopped"),
		up:    make(chan struct{}), broken: make(chan error, 1), done: make(chan struct{}),
		ports: map[port]*portCapture{}, refused: map[port]bool{},
	}
	l.queue = newQueue(&m.cfg, l.complete)
	if w := m.cfg.Summary; w != nil {
		l.queue.sent = func(s Sums) {
			fmt.Fprintf(w, "%s: %d flows, %d packets, %d bytes sent\n", name, s.Flows, s.Packets, s.Octets)
		}
	}
	c := export.DefaultConfig()
	c.Domain, c.Logger = uint32(id), l.log
	c.FlushInterval = min(max(m.cfg.Period/2, MinPeriod), c.FlushInterval)
	for _, t := range m.cfg.Targets {
		t.EngineType, t.EngineID = uint8(id), uint8(id)
		if t.Domain == 0 {
			t.Domain = uint32(id)
		}
		c.Targets = append(c.Targets, t)
	}
	var err error
	if l.exporter, err = export.New(c); err != nil {
		return nil, err
	}
	l.health = make([]health, len(c.Targets))
	_, err = meter.New(l.meterConfig())
	return l, err
}

func (l *line) meterConfig() meter.Config {
	c := meter.DefaultConfig()
	c.IdleTimeout, c.ActiveTimeout, c.MaxFlows, c.Key = l.cfg.Idle, l.cfg.Active, l.cfg.MaxFlows, l.cfg.Key
	c.Live, c.Workers, c.Sampling, c.Domain = true, 1, max(l.cfg.Sampling, 1), uint32(l.id)
	c.Dissector = dissect.New(dissect.Config{})
	c.Point = func(index uint32) meter.Point {
		p := l.places.at(index)
		return meter.Point{ID: uint64(index) + 1, IfIndex: p.number, Name: l.name + "/" + p.name, Role: flow.RolePort}
	}
	return c
}

// complete says in a record where its packets came in and where they left.
func (l *line) complete(r *flow.Record) {
	r.InIfName = l.places.at(uint32(r.Point - 1)).name
	r.OutIf = 0
	if out, ok := l.places.towards(r.DstMAC); ok {
		r.OutIf, r.OutIfName = out.number, out.name
	}
}

func (l *line) cancel() {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.stop == nil {
			l.stop = func() {}
		}
		l.stop()
	})
}

// run meters the switch until ctx ends or cancel is called; then it sends what is left.
func (l *line) run(ctx context.Context) error {
	defer close(l.done)
	defer l.log.Debug("deregistered")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	if l.stop != nil { // cancelled before it began
		cancel()
	}
	l.stop = cancel
	l.mu.Unlock()
	g, all := errgroup.WithContext(context.WithoutCancel(ctx))
	records, polled := make(chan []flow.Record, flowsAhead), make(chan []flow.Record, flowsAhead)
	g.Go(func() error {
		defer close(polled)
		return l.queue.run(all, records, polled)
	})
	g.Go(func() error { return l.exporter.Run(all, polled) })
	g.Go(func() error {
		defer close(records)
		return l.follow(ctx, all, records)
	})
	return g.Wait()
}

// follow keeps the captures those of the switch's ports until ctx ends. all ends when a stage fails.
func (l *line) follow(ctx, all context.Context, records chan<- []flow.Record) error {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	var gen *generation
	defer func() {
		if gen != nil {
			gen.end()
		}
	}()
	for first := true; ; first = false {
		sw, err := l.finder.look(l.key)
		switch {
		case err != nil:
			l.log.Warn("cannot list interfaces", "error", err)
		case sw == nil && gen != nil:
			l.log.Warn("the switch is gone: its flows are sent; waiting for it to come back")
			gen.end()
			gen = nil
		case sw != nil:
			if gen == nil {
				if gen, err = l.generation(all, records); err != nil {
					return err
				}
				if !first {
					l.log.Info("the switch is back")
				}
			}
			gen.adjust(sw)
		}
		l.setGone(gen == nil)
		if first {
			if err := l.begun(ctx, gen); err != nil {
				l.broken <- err
				return nil
			}
			close(l.up)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		case <-all.Done():
			return nil
		}
	}
}

// begun waits until every port of the first generation is captured.
func (l *line) begun(ctx context.Context, gen *generation) error {
	if gen == nil {
		return fmt.Errorf("net-netflow: switch %s is gone", l.name)
	}
	for _, c := range gen.captures {
		select {
		case <-c.ready:
		case <-c.done:
			if c.err != nil {
				return fmt.Errorf("net-netflow: switch %s: %w", l.name, c.err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *line) setGone(gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = gone
}

// generation is the time from when a switch is there to when it is gone.
type generation struct {
	l        *line
	all      context.Context
	frames   chan frame.Batch
	captures map[port]*portCapture
	metered  chan struct{} // closed when the meter has sent all
	asked    bool          // the bridge for its forwarding table
}

func (l *line) generation(all context.Context, records chan<- []flow.Record) (*generation, error) {
	m, err := meter.New(l.meterConfig())
	if err != nil {
		return nil, err
	}
	g := &generation{l: l, all: all, frames: make(chan frame.Batch, framesAhead), captures: map[port]*portCapture{}, metered: make(chan struct{})}
	l.places.forget()
	l.mu.Lock()
	l.meter, l.ports = m, g.captures
	l.mu.Unlock()
	go func() {
		defer close(g.metered)
		if err := m.Run(all, g.frames, records); err != nil && !errors.Is(err, context.Canceled) {
			l.log.Error("meter", "error", err)
		}
	}()
	return g, nil
}

// adjust captures the ports that are new, and lets those go that are not there any more.
func (g *generation) adjust(sw *vswitch) {
	l := g.l
	now := map[port]bool{}
	for _, p := range sw.ports {
		now[p] = true
		if c := g.captures[p]; c != nil {
			if !c.ended() {
				continue
			}
			g.drop(p, c) // its interface went before it was captured; it may be there now
		}
		number, why := l.number(p)
		if why != "" {
			if !l.refused[p] {
				l.log.Warn("port is not metered", "port", p.name, "number", p.no, "reason", why)
			}
			l.refused[p] = true
			continue
		}
		g.add(p, number)
	}
	g.learned(sw)
	for p, c := range g.captures {
		if !now[p] {
			l.log.Info("port is gone", "port", p.name)
			g.drop(p, c)
			l.places.leave(c.point)
		}
	}
}

// learned takes over, once, what a bridge has learned before.
func (g *generation) learned(sw *vswitch) {
	if g.asked {
		return
	}
	g.asked = true
	var err error
	var at func(p port) []flow.MAC
	if sw.kind == kindBridge {
		var known map[int][]flow.MAC
		known, err = neighbours(g.l.cfg.NetNS)
		at = func(p port) []flow.MAC { return known[p.index] }
	} else {
		var known map[uint32][]flow.MAC
		known, err = learnedByOVS(g.all, g.l.cfg.OVSDB, sw.name)
		at = func(p port) []flow.MAC { return known[p.no] }
	}
	if err != nil {
		g.l.log.Debug("the switch's forwarding table cannot be read", "error", err)
	}
	for p, c := range g.captures {
		for _, mac := range at(p) {
			g.l.places.learn(mac, c.point)
		}
	}
}

// number returns what records call a port, or why it is left out.
func (l *line) number(p port) (number uint32, why string) {
	if p.dark != "" {
		return 0, p.dark
	}
	if !l.cfg.PortIDs {
		return p.no, ""
	}
	id, err := PortID(l.id, p.no)
	if err != nil {
		return 0, err.Error()
	}
	return uint32(id), ""
}

func (g *generation) add(p port, number uint32) {
	point := g.l.places.index(p, number)
	c, err := g.l.capture(g.all, p, point, g.frames)
	if err != nil {
		g.l.log.Warn("port is not metered", "port", p.name, "error", err)
		return
	}
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	g.captures[p] = c
}

func (g *generation) drop(p port, c *portCapture) {
	c.end()
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	g.l.books.ended.add(c.live.Book().Read())
	delete(g.captures, p)
}

// end lets all ports go, and waits until their flows are in the queue.
func (g *generation) end() {
	for _, c := range g.captures {
		c.cancel()
	}
	for p, c := range g.captures {
		g.drop(p, c)
	}
	close(g.frames)
	<-g.metered
	l := g.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.meter.Books() {
		l.meters.add(b.Read())
	}
	l.meter = nil
	for b := range g.frames { // the meter has failed
		b.Release()
	}
}
