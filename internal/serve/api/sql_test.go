package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"crosstap/internal/collect/store"
)

// asked answers every question with nothing.
type asked struct {
	n, rows int
	err     error
}

func (q *asked) SQL(context.Context, store.SQLQuery) (store.SQLAnswer, error) {
	q.n++
	return store.SQLAnswer{}, nil
}

func (q *asked) EachSQL(_ context.Context, _ store.SQLQuery, to store.SQLRows) error {
	q.n++
	if err := to.Columns([]store.SQLColumn{{Name: "n", Type: "BIGINT"}}); err != nil {
		return err
	}
	for n := range q.rows {
		if err := to.Row([]any{int64(n) * 0x1e3779b97f4a7c15}); err != nil {
			return err
		}
	}
	return q.err
}

// TestSQLParquetMistake: as long as nothing of a file is on its way, a question that fails is told why.
func TestSQLParquetMistake(t *testing.T) {
	q := asked{err: &store.SQLError{Message: "too much"}, rows: 7}
	a, _ := newTest(t, func(c *Config) { c.SQL = &q })
	ask := func() *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/sql?q=SELECT+1&format=parquet", nil)
		r.RemoteAddr = "127.0.0.1:40000"
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		return w
	}
	if w := ask(); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "too much") || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
	q.rows = 100_000
	defer func() {
		if why := recover(); why != http.ErrAbortHandler {
			t.Errorf("a file that breaks off ends with %v", why)
		}
	}()
	t.Error(ask().Code)
}

// TestSQLIsForAdministrators: without access control those are whoever asks on this machine for himself.
func TestSQLIsForAdministrators(t *testing.T) {
	var q asked
	a, _ := newTest(t, func(c *Config) { c.SQL = &q })
	f := func(a *API, from, header, value string, want int) {
		t.Helper()
		before := q.n
		r := httptest.NewRequest(http.MethodGet, "/api/v1/sql?q=SELECT+1", nil)
		r.RemoteAddr = from
		if header != "" {
			r.Header.Set(header, value)
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != want || (want == http.StatusOK) != (q.n > before) {
			t.Errorf("from %q with %s %q: %d, want %d; %d questions reached the store", from, header, value, w.Code, want, q.n-before)
		}
	}
	f(a, "127.0.0.1:40000", "", "", http.StatusOK)
	f(a, "[::1]:40000", "", "", http.StatusOK)
	f(a, "[::ffff:127.0.0.1]:40000", "", "", http.StatusOK)
	f(a, "", "", "", http.StatusOK) // --data
	f(a, "192.0.2.7:40000", "", "", http.StatusForbidden)
	f(a, "[fe80::1%eth0]:40000", "", "", http.StatusForbidden)
	f(a, "127.0.0.1:40000", "X-Forwarded-For", "192.0.2.7", http.StatusForbidden)
	f(a, "127.0.0.1:40000", "Forwarded", "for=192.0.2.7", http.StatusForbidden)

	strict, _ := newTest(t, func(c *Config) {
		c.SQL, c.Administrator = &q, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer root" }
	})
	f(strict, "127.0.0.1:40000", "", "", http.StatusForbidden)
	f(strict, "192.0.2.7:40000", "Authorization", "Bearer root", http.StatusOK)
}
