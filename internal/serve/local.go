package serve

import (
	"fmt"
	"net/http"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/obs"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
)

// OpenData returns the API over a store directory, without a server and beside one that writes it. elements are files with
// definitions of elements. Close it at the end.
func OpenData(dir string, elements ...string) (h http.Handler, closer func() error, err error) {
	s := &Server{cfg: Config{Settings: settings.Settings{Data: dir, Elements: elements}}, started: time.Now()}
	if err := s.defineElements(); err != nil {
		return nil, nil, err
	}
	st, err := segment.Open(segment.Config{Dir: dir, ReadOnly: true})
	if err != nil {
		return nil, nil, fmt.Errorf("data %s: %w", dir, err)
	}
	s.store = st
	a, err := api.New(api.Config{Reporter: report.New(st), SQL: st, Status: s.Status, Version: obs.Version().Version, QueryTimeout: time.Hour})
	if err != nil {
		return nil, nil, fmt.Errorf("data %s: %w", dir, err)
	}
	return a, st.Close, nil
}
