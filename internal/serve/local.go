package serve

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/obs"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
)

// openReader opens a store directory, or ClickHouse by its URL.
func openReader(from string) (storage, error) {
	if !clickhouse.IsURL(from) {
		return segment.Open(segment.Config{Dir: from, ReadOnly: true})
	}
	cfg, err := clickhouse.ParseURL(from)
	if err != nil {
		return nil, err
	}
	cfg.ReadOnly = true
	return clickhouse.Open(context.Background(), cfg)
}

// OpenData returns the API over a store directory or the URL of a ClickHouse, without a server and beside one that writes it. elements are files with
// definitions of elements. Close it at the end.
func OpenData(dir string, elements ...string) (h http.Handler, closer func() error, err error) {
	s := &Server{cfg: Config{Settings: settings.Settings{Data: dir, Elements: elements}}, started: time.Now()}
	if err := s.defineElements(); err != nil {
		return nil, nil, err
	}
	st, err := openReader(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("data %s: %w", dir, err)
	}
	s.store = st
	reports := report.New(st)
	reports.SetCounters(&counters{stored: st})
	a, err := api.New(api.Config{Reporter: reports, SQL: st, Status: s.Status, Version: obs.Version().Version, QueryTimeout: time.Hour})
	if err != nil {
		return nil, nil, fmt.Errorf("data %s: %w", dir, err)
	}
	return a, st.Close, nil
}
