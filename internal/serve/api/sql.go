package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ask"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
)

// maxSQL bounds the text of a question.
const maxSQL = 32 << 10

// sql answers GET /api/v1/sql?q=SELECT…&from=…&to=…&limit=…&format=…: a question of an administrator over the views flows, canonical and
// pairs_1h, in JSON or Parquet. It counts among the reports that are computed at the same time.
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
	if r.URL.Query().Get("format") == "parquet" {
		a.sqlParquet(w, r, q)
		return
	}
	doc, err := limited(a, r.Context(), report.Query{}, func(c context.Context, _ report.Query) (store.SQLAnswer, error) { return a.cfg.SQL.SQL(c, q) })
	if err != nil {
		a.sqlProblem(r.Context(), err).write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc) // the client is gone: nobody to tell
}

// sqlProblem says why there is no answer.
func (a *API) sqlProblem(ctx context.Context, err error) (p *Problem) {
	var mistake *store.SQLError
	if errors.As(err, &mistake) {
		return problem(http.StatusUnprocessableEntity, mistake.Message)
	}
	if !errors.As(a.failed(ctx, err, ""), &p) {
		p = problem(http.StatusInternalServerError, "the question failed")
	}
	return p
}

// sqlParquet answers with a Parquet file of all rows, as they come. An answer that breaks off ends the connection: a file without its end is none.
func (a *API) sqlParquet(w http.ResponseWriter, r *http.Request, q store.SQLQuery) {
	out := &sqlFile{w: w}
	out.SQLParquet = answer.NewSQLParquet(out)
	_, err := limited(a, r.Context(), report.Query{}, func(c context.Context, _ report.Query) (struct{}, error) {
		if err := a.cfg.SQL.EachSQL(c, q, out); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, out.Close()
	})
	switch {
	case err == nil:
	case !out.begun:
		a.sqlProblem(r.Context(), err).write(w)
	default:
		a.cfg.Log.Warn("an answer in Parquet broke off", "err", err)
		panic(http.ErrAbortHandler)
	}
}

// sqlFile is a Parquet file on its way to a client.
type sqlFile struct {
	*answer.SQLParquet
	w     http.ResponseWriter
	begun bool
}

// Write passes on a part of the file. Until there is one, the answer can still be a problem.
func (f *sqlFile) Write(b []byte) (int, error) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", mediaTypes["parquet"])
		f.w.Header().Set("Content-Disposition", `attachment; filename="answer.parquet"`)
	}
	return f.w.Write(b)
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
		if err != nil || n < 1 || n > 100_000 && v.Get("format") != "parquet" {
			return q, wrongSQL("limit", "1 to 100000 rows; more as Parquet")
		}
		q.Rows = n
	}
	if f := v.Get("format"); f != "" && f != "json" && f != "parquet" {
		return q, wrongSQL("format", "json or parquet is expected")
	}
	return q, nil
}

func wrongSQL(name, message string) *Problem {
	p := problem(http.StatusUnprocessableEntity, mistaken)
	p.Errors = []*Fault{{Message: message, Location: "query." + name}}
	return p
}
