// Package api answers over HTTP: reports, state and live ticks under /api/v1, the OpenAPI description,
// metrics, health, and the console's files. It only reads; it knows the wings through the interfaces
// of Config.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
)

// Reporter answers reports and completes filter expressions.
type Reporter interface {
	report.Reporter
	// Complete returns what may stand at byte offset pos of a filter, with values seen before until.
	Complete(ctx context.Context, expr string, pos int, until time.Time) (report.Completion, error)
}

// Config says what the API answers from. Reporter and Status are required.
type Config struct {
	Reporter Reporter
	Status   func() Status // a snapshot; cheap, called every second for each subscriber

	SQL store.Querier // answers /api/v1/sql; nil for a server without it
	// Administrator reports whether a request is of one, who may ask in SQL. nil takes those for it who ask on this machine.
	Administrator func(*http.Request) bool
	// Adapters tells where machines are and were, everything that is known, in no order; nil for a server that knows none.
	Adapters func() []Adapter
	// Topology tells what was attached to what at a moment, without arcs; nil for a server that does not know.
	Topology func(ctx context.Context, at time.Time) Topology
	// Agents answers /api/v1/agents and below; nil for a server that has none.
	Agents http.Handler
	// AgentCounts tells how many agents and taps of theirs there are; nil for a server that has none.
	AgentCounts func() AgentCounts

	// Control answers /api/v1/control/ and below, which may change something; nil for a server without a control line.
	Control http.Handler

	Console      http.Handler  // the web console, at "/"; nil gives a page that says how to build it
	Version      string        // of the product
	Hosts        []string      // further names that the Host header may have on a loopback listener
	QueryTimeout time.Duration // 0 means 30 s
	Queries      int           // reports computed at the same time; 0 means 4
	Subscribers  int           // of the live ticks at the same time; 0 means 64
	Tick         time.Duration // between two looks for news; 0 means 1 s
	Now          func() time.Time
	Log          *slog.Logger
}

// AgentCounts are numbers of agents and of their taps, by state.
type AgentCounts struct{ Agents, Taps map[string]int }

// API is the handler of all of it. It is safe for concurrent use.
type API struct {
	cfg         Config
	handler     http.Handler
	huma        huma.API
	running     chan struct{} // holds a token for each report being computed
	waiting     chan struct{} // holds a token for each request, waiting or running
	subscribers chan struct{}
	closing     chan struct{} // closed by Close: live streams end
	metrics     *metrics

	mu     sync.Mutex
	state  Status // the last snapshot
	stated time.Time
}

// New returns an API without side effects.
func New(cfg Config) (*API, error) {
	if cfg.Reporter == nil || cfg.Status == nil {
		return nil, errors.New("api: config: Reporter and Status are required")
	}
	defaults(&cfg)
	a := &API{
		cfg:         cfg,
		running:     make(chan struct{}, cfg.Queries),
		waiting:     make(chan struct{}, 64*cfg.Queries),
		subscribers: make(chan struct{}, cfg.Subscribers),
		closing:     make(chan struct{}),
	}
	reg := prometheus.NewRegistry()
	a.metrics = newMetrics(reg, a.status, cfg.AgentCounts)
	mux := http.NewServeMux()
	a.huma = humago.New(mux, humaConfig(cfg.Version))
	a.reports()
	a.states()
	a.explain()
	a.adapters()
	a.topology()
	if cfg.Agents != nil {
		mux.Handle("GET /api/v1/agents", cfg.Agents)
		mux.Handle("GET /api/v1/agents/{name}", cfg.Agents)
	}
	if cfg.Control != nil {
		mux.Handle("/api/v1/control/", cfg.Control)
		mux.Handle("GET /api/v1/schema/resources.json", cfg.Control)
	}
	mux.HandleFunc("GET /api/v1/events", a.events)
	mux.HandleFunc("GET /api/v1/sql", a.sql)
	mux.HandleFunc("GET /healthz", a.health)
	mux.Handle("GET /metrics", metricsHandler(reg))
	mux.HandleFunc("/api/", unknownPath)
	mux.Handle("/", a.cfg.Console)
	a.describe()
	a.handler = a.guard(a.compact(mux))
	return a, nil
}

func defaults(cfg *Config) {
	if cfg.QueryTimeout == 0 {
		cfg.QueryTimeout = 30 * time.Second
	}
	if cfg.Queries == 0 {
		cfg.Queries = 4
	}
	if cfg.Subscribers == 0 {
		cfg.Subscribers = 64
	}
	if cfg.Tick == 0 {
		cfg.Tick = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Administrator == nil {
		cfg.Administrator = onThisMachine
	}
	if cfg.Console == nil {
		cfg.Console = http.HandlerFunc(noConsole)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// status returns a snapshot at most a quarter of a tick old, so that many subscribers cost no more than one.
func (a *API) status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.Sub(a.stated) > a.cfg.Tick/4 {
		a.state, a.stated = a.cfg.Status(), now
	}
	return a.state
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Close ends the live streams, so that http.Server.Shutdown does not wait for them. Call it once.
func (a *API) Close() { close(a.closing) }

// noConsole is shown at "/" when the console is not part of this build.
func noConsole(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, `<!doctype html><html lang="en"><title>crosstap</title><h1>crosstap</h1>
<p>This build has no console: run <code>make web</code> and build again. The API answers: see <a href="openapi.json">openapi.json</a>.</p></html>`)
}

func humaConfig(version string) huma.Config {
	cfg := huma.DefaultConfig("crosstap", version)
	cfg.Info.Description = "Flows between virtual machines: pairs with tenants, tenant conversations, and what is not seen. " +
		"Times: \"now\", \"now-15m\", RFC 3339, Unix seconds. Ranges are half open. Errors are problem documents (RFC 9457)."
	cfg.Servers = []*huma.Server{{URL: "."}} // relative to openapi.json: right under any path prefix
	cfg.DocsPath, cfg.SchemasPath = "", ""
	cfg.CreateHooks = nil // no $schema key in bodies: they are exactly the report structs
	cfg.RejectUnknownQueryParameters = true
	return cfg
}
