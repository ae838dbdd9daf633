package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
)

// maxSQL bounds the text of a question.
const maxSQL = 32 << 10

// sql answers GET /api/v1/sql?q=SELECT…&from=…&to=…&limit=…: a question of an administrator over the views flows, canonical and
// pairs_1h. It counts among the reports that are computed at the same time.
func (a *API) sql(w http.ResponseWriter, r *http.Request) {
	if !a.cfg.Administrator(r) {
		problem(http.StatusForbidden, "questions in SQL are for administrators: ask on the server itself, over a loopback address, or read the store there with --data").write(w)
		return
	}
	q, p := a.sqlQuestion(r)
	if p != nil {
		p.write(w)
		return
	}
	doc, err := limited(a, r.Context(), report.Query{}, func(c context.Context, _ report.Query) (store.SQLAnswer, error) { return a.cfg.SQL.SQL(c, q) })
	var mistake *store.SQLError
	switch {
	case errors.As(err, &mistake):
		problem(http.StatusUnprocessableEntity, mistake.Message).write(w)
		return
	case err != nil:
		var p *Problem
		if !errors.As(a.failed(r.Context(), err, ""), &p) {
			p = problem(http.StatusInternalServerError, "the question failed")
		}
		p.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc) // the client is gone: nobody to tell
}

// onThisMachine reports whether a request comes from this process or machine, and was not passed on for somebody else.
func onThisMachine(r *http.Request) bool {
	for _, passed := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(passed) != "" {
			return false
		}
	}
	if r.RemoteAddr == "" { // no socket: a store directory is read
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// sqlQuestion reads the parameters.
func (a *API) sqlQuestion(r *http.Request) (q store.SQLQuery, p *Problem) {
	v, now := r.URL.Query(), a.cfg.Now()
	q = store.SQLQuery{Text: v.Get("q"), ToNS: now.Add(time.Hour).UnixNano(), Timeout: a.cfg.QueryTimeout}
	switch {
	case a.cfg.SQL == nil:
		return q, problem(http.StatusNotFound, "this server does not answer questions in SQL")
	case q.Text == "" || len(q.Text) > maxSQL:
		return q, wrongSQL("q", "one SELECT of at most 32 KiB is expected")
	}
	for name, into := range map[string]*int64{"from": &q.FromNS, "to": &q.ToNS} {
		if text := v.Get(name); text != "" {
			t, err := ask.ParseTime(text, now)
			if err != nil {
				return q, wrongSQL(name, err.Error())
			}
			*into = t.UnixNano()
		}
	}
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100_000 {
			return q, wrongSQL("limit", "1 to 100000 rows")
		}
		q.Rows = n
	}
	return q, nil
}

func wrongSQL(name, message string) *Problem {
	p := problem(http.StatusUnprocessableEntity, mistaken)
	p.Errors = []*Fault{{Message: message, Location: "query." + name}}
	return p
}
