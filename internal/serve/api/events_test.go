package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// events opens a live stream on a real server.
func events(t *testing.T, ctx context.Context, srv *httptest.Server) (*bufio.Scanner, *http.Response) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return bufio.NewScanner(res.Body), res
}

func nextTick(t *testing.T, lines *bufio.Scanner) (tick Tick) {
	t.Helper()
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &tick); err != nil {
				t.Fatal(err)
			}
			return tick
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
	return tick
}

func TestEvents(t *testing.T) {
	var rows atomic.Uint64
	a, _ := newTest(t, func(c *Config) {
		c.Tick, c.Subscribers = time.Millisecond, 2
		c.Status = func() Status {
			s := testStatus()
			s.Store.Rows = rows.Load()
			return s
		}
	})
	srv := httptest.NewServer(a)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	lines, res := events(t, ctx, srv)
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	if got := nextTick(t, lines); got.Rows != 0 || got.Records != 40 || got.Lost != 2 || !got.DataUntil.Equal(noon) {
		t.Errorf("first tick %+v", got)
	}
	rows.Store(7)
	if got := nextTick(t, lines); got.Rows != 7 {
		t.Errorf("second tick %+v", got)
	}
	second, _ := events(t, t.Context(), srv)
	nextTick(t, second)
	if _, res := events(t, t.Context(), srv); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("third subscriber: %s", res.Status)
	}
	cancel() // a client that goes away makes room
	for len(a.subscribers) > 1 {
		time.Sleep(time.Millisecond)
	}
	a.Close()
	for second.Scan() { // ends with the API
	}
	srv.Client().CloseIdleConnections()
}

func TestHead(t *testing.T) {
	a, _ := newTest(t, nil)
	srv := httptest.NewServer(a)
	defer srv.Close()
	for _, path := range []string{"/", "/api/v1/pairs", "/api/v1/events", "/metrics", "/openapi.yaml", "/healthz"} {
		res, err := srv.Client().Head(srv.URL + path)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: %v %v", path, res, err)
			continue
		}
		_ = res.Body.Close()
	}
}
