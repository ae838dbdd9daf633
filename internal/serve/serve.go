// Package serve wires the server: collectors into the store, reports out of it, API and console before them.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/bus"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/identity"
	"crosstap/internal/obs"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
	"crosstap/internal/tapspec"
	"crosstap/web"

	"golang.org/x/sync/errgroup"
)

// Config says what a server is.
type Config struct {
	settings.Settings
	Listener net.Listener // HTTP socket that somebody else opened; nil to listen on Settings.HTTP
	Log      *slog.Logger
	// TapPath says which path frames of an agent's tap will take, and why, for plans. It may be nil.
	TapPath func(*tapspec.Spec) string
}

// Server is one collecting, storing and answering process.
type Server struct {
	cfg       Config
	started   time.Time
	store     store.Store
	collector *collect.Collector // nil without a collector: a store directory that is only read
	http      net.Addr
	inventory inventory
	late      lateInventory
	counters  counters
	flushes   flushes
	agents    agents
	controls  controls
	writer    *bus.Writer // nil unless it is one
	ready     bool
}

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg}, nil
}

// stopWait bounds how long requests under way may take when the server stops.
const stopWait = 5 * time.Second

// Run serves until stop ends, then stops in the direction of the data: no more requests and datagrams, what is on
// its way is stored, the store is closed.
func (s *Server) Run(stop context.Context) (err error) {
	s.started = time.Now()
	if err := s.defineElements(); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	st, err := s.openStore(stop)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	s.store = st
	cfg, err := s.collectConfig(st)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if s.collector, err = collect.New(cfg); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	s.counters.stored = st
	if err := s.loadInventory(); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	reports := report.New(st)
	reports.SetCounters(&s.counters)
	if s.controls, err = s.openControl(stop, newRates(reports)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.controls.close()) }()
	s.counters.metered = s.controls.line.Metered
	s.collector.SetMetered(s.counters.reasons)
	a, err := api.New(api.Config{
		Reporter: reports, SQL: st, Status: s.Status, Console: web.Handler(), Version: obs.Version().Version,
		Hosts: s.cfg.HTTPHosts, QueryTimeout: s.cfg.QueryTimeout, Log: s.cfg.Log,
		Adapters: s.adapters, Topology: s.topology, Agents: s.agents.handler(), AgentCounts: s.agents.counts, Control: s.controls.api,
	})
	if err != nil {
		return err
	}
	ln, err := s.listen(stop)
	if err != nil {
		return err
	}
	s.http = ln.Addr()
	if s.agents, err = s.openAgents(stop); err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := s.controls.own(s.agents, s.cfg.TapPath); err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := s.collector.Bind(stop); err != nil {
		return errors.Join(s.bindHint(err), ln.Close())
	}
	return s.all(stop, ln, a)
}

// all runs the parts until stop ends or one of them fails. HTTP stops first, so that nobody asks a line that is
// being emptied.
func (s *Server) all(stop context.Context, ln net.Listener, a *api.API) error {
	failing, fail := context.WithCancel(stop)
	defer fail()
	collecting, stopCollecting := context.WithCancel(context.WithoutCancel(stop))
	defer stopCollecting()
	var g errgroup.Group
	g.Go(func() error {
		defer fail() // without a collector there is nothing to serve
		return s.collector.Run(collecting)
	})
	if s.cfg.Inventory != "" {
		g.Go(func() error { return identity.Watch(collecting, s.cfg.Inventory, s.useInventory) })
	}
	if s.cfg.Exporters != "" {
		g.Go(func() error { return watch(collecting, []string{s.cfg.Exporters}, s.useExporters) })
	}
	if len(s.cfg.Elements) > 0 {
		g.Go(func() error { return watch(collecting, s.cfg.Elements, s.useElements) })
	}
	g.Go(func() error { return s.control(failing) })
	g.Go(func() error { return s.controls.line.WatchIdentities(failing, s.usePlatforms) })
	if s.agents.ln != nil {
		g.Go(func() error { return s.agents.run(failing) })
	}
	g.Go(func() error {
		defer stopCollecting()
		return s.serve(failing, ln, a)
	})
	return g.Wait()
}

func (s *Server) collectConfig(st store.Store) (collect.Config, error) {
	cfg := collect.DefaultConfig()
	cfg.Store, cfg.Dir, cfg.Log = st, s.cfg.Data, s.cfg.Log
	if n := s.cfg.FlowsRemembered; n != 0 {
		cfg.Enrich.MaxFlows = int(n)
	}
	var err error
	if err = s.sources(&cfg); err != nil {
		return cfg, err
	}
	if s.cfg.Exporters != "" {
		if cfg.Session.Rules, err = settings.LoadExporters(s.cfg.Exporters); err != nil {
			return cfg, fmt.Errorf("exporters: %w", err)
		}
	}
	return cfg, s.addOutputs(&cfg)
}

// Ready reports whether the server got as far as serving, once Run has returned.
func (s *Server) Ready() bool { return s.ready }

func (s *Server) storeConfig() segment.Config {
	return segment.Config{
		Dir: s.cfg.Data, FlushInterval: s.cfg.Flush, KeepFor: s.cfg.Keep, KeepRollups: s.cfg.KeepRollups, KeepBytes: s.cfg.KeepSize, QueryMemory: s.cfg.QueryMemory, Log: s.cfg.Log,
		Inventory: &s.late, Wrote: s.flushes.wrote,
	}
}

// serve answers on ln until stop ends.
func (s *Server) serve(stop context.Context, ln net.Listener, a *api.API) error {
	// No ReadTimeout: it would also end live streams, and nothing here reads a body.
	srv := &http.Server{
		Handler: a, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: s.cfg.QueryTimeout + 30*time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	s.cfg.Log.Info("serving", "flows", s.collector.Addrs(), "console", "http://"+ln.Addr().String()+"/", "data", s.storeName())
	if ap, err := netip.ParseAddrPort(ln.Addr().String()); err == nil && !ap.Addr().Unmap().IsLoopback() {
		s.cfg.Log.Warn("everyone who reaches this address can read every flow: there is no login", "http", ap)
	}
	s.ready = true
	if err := obs.Notify("READY=1"); err != nil {
		s.cfg.Log.Warn("service manager not told", "err", err)
	}
	select {
	case err := <-failed:
		return fmt.Errorf("serve: http: %w", err)
	case <-stop.Done():
	}
	s.cfg.Log.Info("stopping")
	_ = obs.Notify("STOPPING=1") // a courtesy
	a.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), stopWait)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close() // cut who is still reading
	}
	<-failed
	return err
}
