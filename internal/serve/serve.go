// Package serve wires the server: collectors into the store, reports out of it, API and console before them.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/obs"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
	"crosstap/web"
)

// Config says what a server is.
type Config struct {
	settings.Settings
	Listener net.Listener // HTTP socket that somebody else opened; nil to listen on Settings.HTTP
	Log      *slog.Logger
}

// Server is one collecting, storing and answering process.
type Server struct {
	cfg     Config
	started time.Time
	state   state
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
	st, err := segment.Open(s.storeConfig())
	if err != nil {
		return fmt.Errorf("serve: data %s: %w", s.cfg.Data, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	s.state.store = st
	reports := report.New(st)
	a, err := api.New(api.Config{
		Reporter: reports, Filters: filters{reports}, Status: s.Status, Console: web.Handler(), Version: obs.Version().Version,
		Hosts: s.cfg.HTTPHosts, QueryTimeout: s.cfg.QueryTimeout, Log: s.cfg.Log,
	})
	if err != nil {
		return err
	}
	ln, err := s.listen(stop)
	if err != nil {
		return err
	}
	return s.serve(stop, ln, a)
}

func (s *Server) storeConfig() segment.Config {
	return segment.Config{
		Dir: s.cfg.Data, FlushInterval: s.cfg.Flush, KeepFor: s.cfg.Keep, KeepBytes: s.cfg.KeepSize, QueryMemory: s.cfg.QueryMemory, Log: s.cfg.Log,
	}
}

// serve answers on ln until stop ends.
func (s *Server) serve(stop context.Context, ln net.Listener, a *api.API) error {
	srv := &http.Server{
		Handler: a, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: s.cfg.QueryTimeout + 30*time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	s.cfg.Log.Info("serving", "console", "http://"+ln.Addr().String()+"/", "data", s.cfg.AbsData())
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
