package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"crosstap/internal/collect/store"
)

// asked answers every question with nothing.
type asked struct{ n int }

func (q *asked) SQL(context.Context, store.SQLQuery) (store.SQLAnswer, error) {
	q.n++
	return store.SQLAnswer{}, nil
}

func (q *asked) EachSQL(context.Context, store.SQLQuery, store.SQLRows) error {
	q.n++
	return nil
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
