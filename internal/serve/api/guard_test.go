package api

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	a, _ := newTest(t, func(c *Config) { c.Hosts = []string{"taps.example"} })
	f := func(method, local, host string, want int) {
		t.Helper()
		addr, err := net.ResolveTCPAddr("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(method, "/api/v1/status", nil)
		r.Host = host
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr)))
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s at %s for %q: %d, want %d", method, local, host, w.Code, want)
		}
		if h := w.Header(); h.Get("Access-Control-Allow-Origin") != "" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'self'") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s for %q: headers %v", method, host, h)
		}
	}
	const here = "127.0.0.1:8474"
	f("GET", here, "127.0.0.1:8474", 200)
	f("GET", here, "localhost:8474", 200)
	f("GET", here, "LOCALHOST", 200)
	f("GET", here, "demo.localhost:1", 200)
	f("GET", "[::1]:8474", "[::1]:8474", 200)
	f("GET", here, "127.9.9.9", 200)
	f("GET", here, "taps.example:80", 200)
	f("GET", here, "evil.example:8474", 421)
	f("GET", here, "127.0.0.1.evil.example", 421)
	f("GET", here, "", 421)
	f("GET", here, "10.0.0.1", 421)
	f("GET", "10.0.0.1:8474", "collector.example", 200)
	f("HEAD", here, "localhost", 200)
	f("POST", here, "localhost", 405)
	f("OPTIONS", here, "localhost", 405)
	f("DELETE", here, "localhost", 405)
}

// Changes are taken from this machine, and neither through a proxy nor from a page of another origin.
func TestChanges(t *testing.T) {
	took := 0
	a, _ := newTest(t, func(c *Config) {
		c.Control = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { took++ })
	})
	f := func(local, from, header, value string, want int) {
		t.Helper()
		addr, err := net.ResolveTCPAddr("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", "/api/v1/control/stop", nil)
		r.Host, r.RemoteAddr = "localhost", from
		if header != "" {
			r.Header.Set(header, value)
		}
		before, w := took, httptest.NewRecorder()
		a.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr))))
		if w.Code != want || (took > before) != (want == 200) {
			t.Errorf("to %s from %s with %s %q: %d, want %d", local, from, header, value, w.Code, want)
		}
	}
	const here, client = "127.0.0.1:8474", "127.0.0.1:40000"
	f(here, client, "", "", 200)
	f("[::1]:8474", "[::1]:40000", "", "", 200)
	f(here, client, "Sec-Fetch-Site", "same-origin", 200)
	f(here, client, "Sec-Fetch-Site", "cross-site", 403)
	f(here, client, "Origin", "https://evil.example", 403)
	f(here, client, "X-Forwarded-For", "192.0.2.7", 403)
	f(here, client, "Via", "1.1 proxy", 403)
	f("192.0.2.1:8474", "192.0.2.7:40000", "", "", 403)
}

func TestCompact(t *testing.T) {
	a, _ := newTest(t, nil)
	plain := get(a, "/api/v1/pairs")
	tag := plain.Header().Get("ETag")
	if tag == "" || plain.Header().Get("Content-Encoding") != "" || plain.Header().Get("Server-Timing") == "" {
		t.Errorf("headers %v", plain.Header())
	}
	if w := get(a, "/api/v1/pairs", "If-None-Match", `"x", `+tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("with the tag: %d, %d bytes", w.Code, w.Body.Len())
	}
	spec := get(a, "/openapi.json").Body.String()
	f := func(accept string, want bool) {
		t.Helper()
		w := get(a, "/openapi.json", "Accept-Encoding", accept)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != want {
			t.Fatalf("Accept-Encoding %q: compressed %t, want %t", accept, got, want)
		}
		body := io.Reader(w.Body)
		if want {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != spec {
			t.Errorf("Accept-Encoding %q: %v, body differs", accept, err)
		}
	}
	f("gzip", true)
	f("br, GZIP;q=0.5", true)
	f("gzip;q=0", false)
	f("gzip;q=0.00", false)
	f("br", false)
	f("", false)
}

func TestMetrics(t *testing.T) {
	many := testStatus()
	for i := range 300 {
		many.Exporters = append(many.Exporters, Exporter{Address: fmt.Sprint("e", i), Protocol: "ipfix", State: "silent", Records: 1})
	}
	f := func(s Status, want ...string) string {
		t.Helper()
		a, _ := newTest(t, func(c *Config) { c.Status = func() Status { return s } })
		get(a, "/api/v1/pairs")
		w := get(a, "/metrics")
		for _, line := range want {
			if !strings.Contains(w.Body.String(), line+"\n") {
				t.Errorf("no line %q in %d:\n%s", line, w.Code, w.Body)
			}
		}
		return w.Body.String()
	}
	flushed := testStatus()
	flushed.Store.Flushes = &Flushes{Batches: 3, SumSeconds: .25}
	for i, le := range FlushBuckets {
		if le >= .03 {
			flushed.Store.Flushes.Below[i] = 2
		}
	}
	f(flushed, `crosstap_store_flush_seconds_bucket{le="0.02"} 0`, `crosstap_store_flush_seconds_bucket{le="0.03"} 2`, `crosstap_store_flush_seconds_bucket{le="+Inf"} 3`,
		`crosstap_store_flush_seconds_sum 0.25`, `crosstap_store_flush_seconds_count 3`)
	f(testStatus(), `crosstap_build_info{version="test"} 1`,
		`crosstap_collector_records_total{domain="1",exporter="10.201.0.1",protocol="ipfix"} 40`,
		`crosstap_collector_sequence_lost_records_total{domain="1",exporter="10.201.0.1",protocol="ipfix"} 2`,
		`crosstap_collector_socket_dropped_datagrams_total{listener="127.0.0.1:4739"} 1`,
		`crosstap_stage_dropped_total{reason="truncated",stage="decode",unit="datagrams"} 1`,
		`crosstap_store_rows 10`, `crosstap_query_duration_seconds_count{report="pairs"} 1`)
	text := f(many, `crosstap_collector_records_total{domain="",exporter="",protocol="ipfix"} 340`, `crosstap_collector_exporters{state="silent"} 300`)
	if strings.Contains(text, "10.201.0.1") {
		t.Error("more than 200 exporters still have lines of their own")
	}
	seen := map[string]bool{}
	for _, m := range Metrics() {
		if seen[m.Name] || m.Help == "" || m.Type == "counter" != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("metric %+v", m)
		}
		seen[m.Name] = true
	}
}
