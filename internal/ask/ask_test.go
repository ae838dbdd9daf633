package ask

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestParseTime(t *testing.T) {
	f := func(s string, want time.Time) {
		t.Helper()
		got, err := ParseTime(s, noon)
		if err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %v %v, want %v", s, got, err, want)
		}
	}
	f("now", noon)
	f("now-15m", noon.Add(-15*time.Minute))
	f("now-1h30m", noon.Add(-90*time.Minute))
	f("now+2d", noon.Add(48*time.Hour))
	f("now-1.5h", noon.Add(-90*time.Minute))
	f("now-1w", noon.Add(-7*24*time.Hour))
	f("2026-01-02T12:00:00Z", noon)
	f("2026-01-02T14:00:00.123456+02:00", noon.Add(123*time.Millisecond))
	f("1767355200", noon)
	f("1767355200.25", noon.Add(250*time.Millisecond))
	f("0", time.Unix(0, 0))
	for _, bad := range []string{"", "now-", "now15m", "now*15m", "now-15", "now-15x", "now--5m", "yesterday", "12:00", "-1", "1e400", "NaN", "Inf", "9e18", "99999999999", "now-200y", "now-9999999999d", "now-60y", "now-56.1.2h", "1960-01-01T00:00:00Z", "now-99w99w99w99w9999w", strings.Repeat("9", 1000)} {
		if got, err := ParseTime(bad, noon); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestMoment(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		testkit.Missing(t, err.Error())
	}
	f := func(s, want string) {
		t.Helper()
		got, err := Moment(s, noon, berlin)
		if err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", s, got, err, want)
		}
	}
	f("1h", "now-1h")
	f("90s", "now-90s")
	f("now-2d", "now-2d")
	f("2026-01-02T12:00:00Z", "2026-01-02T12:00:00Z")
	f("today", "2026-01-01T23:00:00Z")
	f("yesterday", "2025-12-31T23:00:00Z")
	f("08:30", "2026-01-02T07:30:00Z")
	f("08:30:15", "2026-01-02T07:30:15Z")
	f("13:00", "2026-01-02T12:00:00Z") // now
	f("13:01", "2026-01-01T12:01:00Z") // still to come today
	f("22:00", "2026-01-01T21:00:00Z")
	f("2025-07-01", "2025-06-30T22:00:00Z")
	f("2025-07-01 10:00", "2025-07-01T08:00:00Z")
	f("1767355200", "1767355200")
	if got, err := Moment("tomorrow", noon, berlin); err == nil {
		t.Error(got)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"now-1h", "1e9", "2026-01-02T12:00:00Z", "now+99999999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTime(s, noon)
		if err != nil {
			return
		}
		again, err := ParseTime(got.Format(time.RFC3339Nano), noon)
		if err != nil || !again.Equal(got) {
			t.Errorf("%q: %v, then %v %v", s, got, again, err)
		}
	})
}

// newTest returns a client of a handler, over a real connection below a path prefix, and one that calls it in process.
func newTest(t *testing.T, h http.HandlerFunc) (remote, local *Client) {
	t.Helper()
	srv := httptest.NewServer(http.StripPrefix("/x", h))
	t.Cleanup(srv.Close)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	remote, err := NewClient(srv.URL+"/x/", tr)
	if err != nil {
		t.Fatal(err)
	}
	local, err = NewClient(DefaultServer, Local{h})
	if err != nil {
		t.Fatal(err)
	}
	return remote, local
}

func TestGet(t *testing.T) {
	remote, local := newTest(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/wrong":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"title":"t","status":422,"detail":"the question has a mistake","errors":[{"message":"unknown field","location":"query.f","value":"vné = 1","pos":0,"len":4,"suggestion":"did you mean vni?"}]}`)
		case "/api/v1/foreign":
			http.Error(w, "<html>", http.StatusBadGateway)
		default:
			_, _ = io.WriteString(w, r.URL.Path+"?"+r.URL.RawQuery)
		}
	})
	for _, c := range []*Client{remote, local} {
		body, err := c.Get(t.Context(), "api/v1/pairs", url.Values{"f": {"a & b"}})
		if err != nil || string(body) != "/api/v1/pairs?f=a+%26+b" {
			t.Errorf("%s: %q %v", c.Server(), body, err)
		}
		_, err = c.Get(t.Context(), "api/v1/wrong", nil)
		var p *Problem
		want := "the question has a mistake\n  f: unknown field; did you mean vni?\n    vné = 1\n    ^^^"
		if !errors.As(err, &p) || p.Status != 422 || err.Error() != want {
			t.Errorf("%s: %v", c.Server(), cmp.Diff(want, err.Error()))
		}
		if _, err = c.Get(t.Context(), "api/v1/foreign", nil); !errors.As(err, &p) || p.Status != 502 || !strings.Contains(err.Error(), "is it a crosstap server?") {
			t.Errorf("%s: %v", c.Server(), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err = c.Get(ctx, "api/v1/pairs", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", c.Server(), err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	c, err := NewClient("127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var away *Unreachable
	if _, err := c.Get(t.Context(), "api/v1/pairs", nil); !errors.As(err, &away) || !strings.Contains(err.Error(), "connection refused; start one with") {
		t.Error(err)
	}
	for _, bad := range []string{"ftp://x", "http://", "http://x?y=1", "http://[::1", "://"} {
		if _, err := NewClient(bad, nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestEvents(t *testing.T) {
	remote, _ := newTest(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "retry: 2000\n\n: hello\n\nevent: other\ndata: no\n\nevent: tick\nid: 1\ndata: one\n\nevent: tick\ndata: two\n\nevent: tick\ndata: cut")
	})
	var got []string
	err := remote.Events(t.Context(), func(data []byte) error {
		got = append(got, string(data))
		return nil
	})
	var away *Unreachable
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" || !errors.As(err, &away) {
		t.Errorf("%v %s", err, diff)
	}
	stop := errors.New("stop")
	if err := remote.Events(t.Context(), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := remote.Events(ctx, func([]byte) error { cancel(); return nil }); err != nil {
		t.Error(err)
	}
}
