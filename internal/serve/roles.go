package serve

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/bus"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
)

// storage is a store that can be asked.
type storage interface {
	store.Store
	store.Reader
	store.Querier
}

// openStore opens what records go into: the directory, ClickHouse, or for a collector alone the bus.
func (s *Server) openStore(ctx context.Context) (st storage, err error) {
	line, err := s.cfg.Line()
	if err != nil {
		return nil, err
	}
	var server *bus.Server
	if s.cfg.BusListen != "" {
		if server, err = bus.Serve(s.cfg.BusListen, filepath.Join(s.cfg.Data, "bus"), line.MaxBytes); err != nil {
			return nil, err
		}
		if len(line.Servers) == 0 {
			line.Servers = []string{server.URL()}
		}
		s.cfg.Log.Info("bus", "nats", server.URL())
	}
	switch {
	case s.cfg.Role == settings.RoleCollector:
		var f *bus.Feed
		f, err = bus.NewFeed(bus.FeedConfig{Line: line, Linger: s.cfg.Flush, Log: s.cfg.Log})
		st = feedOnly{f}
	case s.cfg.Store != "":
		st, err = s.openClickHouse(ctx)
	default:
		if st, err = segment.Open(s.storeConfig()); err != nil {
			err = fmt.Errorf("data %s: %w", s.cfg.Data, err)
		}
	}
	if err == nil && s.cfg.Role == settings.RoleWriter {
		target, _ := st.(bus.Target) // both stores are
		s.writer, err = bus.NewWriter(bus.WriterConfig{Line: line, Store: target, Log: s.cfg.Log})
	}
	if err != nil {
		if server != nil {
			server.Close()
		}
		return nil, err
	}
	return withServer{st, server}, nil
}

func (s *Server) openClickHouse(ctx context.Context) (storage, error) {
	cfg, err := clickhouse.ParseURL(s.cfg.Store)
	if err != nil {
		return nil, err
	}
	cfg.FlushInterval, cfg.KeepFor, cfg.KeepRollups, cfg.QueryMemory, cfg.Log = s.cfg.Flush, s.cfg.Keep, s.cfg.KeepRollups, s.cfg.QueryMemory, s.cfg.Log
	cfg.Inventory = &s.late
	st, err := clickhouse.Open(ctx, cfg)
	for end := time.Now().Add(openWait); clickhouse.Unreached(err) && ctx.Err() == nil && time.Now().Before(end); st, err = clickhouse.Open(ctx, cfg) {
		s.cfg.Log.Warn("waiting for ClickHouse", "error", err)
		select {
		case <-time.After(openAgain):
		case <-ctx.Done():
		}
	}
	return st, err
}

// A server that starts together with its ClickHouse, or while that is busy, waits for it so long, and tries that often.
const (
	openWait  = 30 * time.Second
	openAgain = time.Second
)

// withServer is a store beside a bus of our own, which ends after it.
type withServer struct {
	storage
	server *bus.Server // nil for none
}

// Close implements store.Store.
func (w withServer) Close() error {
	err := w.storage.Close()
	if w.server != nil {
		w.server.Close()
	}
	return err
}

// feedOnly is what a collector has that only feeds writers: nothing to ask.
type feedOnly struct{ *bus.Feed }

func errFeedOnly() error {
	return &report.QueryError{Field: "server", Message: "this server is a collector: it passes records on and keeps none", Suggestion: "ask the server of a writer"}
}

// View implements store.Reader.
func (feedOnly) View(context.Context, int64, int64) (store.View, error) { return nil, errFeedOnly() }

// Counts implements store.CountReader.
func (feedOnly) Counts(context.Context, int64, int64) ([]store.Count, error) {
	return nil, errFeedOnly()
}

// SQL implements store.Querier.
func (feedOnly) SQL(context.Context, store.SQLQuery) (store.SQLAnswer, error) {
	return store.SQLAnswer{}, &store.SQLError{Message: errFeedOnly().Error()}
}

// EachSQL implements store.Querier.
func (feedOnly) EachSQL(context.Context, store.SQLQuery, store.SQLRows) error {
	return &store.SQLError{Message: errFeedOnly().Error()}
}

// sources gives the collect line what it reads from: sockets, or for a writer the bus.
func (s *Server) sources(cfg *collect.Config) (err error) {
	if s.cfg.Role != settings.RoleWriter {
		cfg.Listen, err = s.cfg.Listeners()
		return err
	}
	if s.cfg.Outputs != "" {
		return errors.New("outputs: a writer has none; give them to the collectors")
	}
	cfg.Dir, cfg.Sources = "", []collect.Source{fromBus{s.writer}} // nothing is missed while a writer is down
	return nil
}

// fromBus runs a writer as the source of a collect line that has no other: the writer fills the store itself, and ends first.
type fromBus struct{ w *bus.Writer }

// Run implements collect.Source.
func (f fromBus) Run(ctx context.Context, _ chan<- listen.Batch) error { return f.w.Run(ctx) }

// writing adds the state of a writer.
func (s *Server) writing(out *api.Status) {
	if s.writer == nil {
		return
	}
	st := s.writer.Status()
	out.Stages = append(out.Stages, st.Book)
	if st.Error != "" {
		out.Findings = append(out.Findings, api.Finding{Level: "warn", What: "bus", Why: fmt.Sprintf("%s; %d messages wait", st.Error, st.Behind),
			Action: "nothing is lost while the stream has room; see that the bus and the store can be reached"})
	}
	for _, d := range st.Book.Dropped {
		if d.N > 0 {
			out.Findings = append(out.Findings, api.Finding{Level: "warn", What: "bus", Why: fmt.Sprintf("%d messages could not be read", d.N), Action: "see that collectors and writers are of versions that fit"})
		}
	}
}

// storeName is what the store is called: the directory, or its URL without secrets.
func (s *Server) storeName() string {
	switch {
	case s.cfg.Role == settings.RoleCollector:
		return "bus"
	case s.cfg.Store != "":
		return clickhouse.Redacted(s.cfg.Store)
	case clickhouse.IsURL(s.cfg.Data): // asked without a server
		return clickhouse.Redacted(s.cfg.Data)
	}
	return s.cfg.AbsData()
}
