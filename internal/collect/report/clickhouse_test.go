package report_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// inClickHouse stores records in a database of its own. With rolled the hours are rolled up.
func inClickHouse(t *testing.T, srv *chtest.Server, database string, recs []flow.Record, rolled bool) *report.Reports {
	t.Helper()
	return storedIn(t, clickhouse.Config{Addrs: []string{srv.Addr}, Database: database}, recs, rolled)
}

func storedIn(t *testing.T, cfg clickhouse.Config, recs []flow.Record, rolled bool) *report.Reports {
	t.Helper()
	cfg.RollAfter, cfg.FlushInterval = -1, time.Hour
	s, err := clickhouse.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rolled {
		if err := s.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return report.New(s)
}

// TestListedClickHouse asks ClickHouse the listed queries: one of each 24, all of them with CROSSTAP_ALL_QUERIES set.
func TestListedClickHouse(t *testing.T) {
	srv := chtest.Start(t)
	recs := listedRecords()
	if allQueries() {
		testListed(t, recs, inClickHouse(t, srv, "rows", recs, false))
	}
	testListedOf(t, recs, inClickHouse(t, srv, "rolled", recs, true), 24)
}

// question is a report with its parameters.
type question struct {
	name string
	ask  func(context.Context, report.Reporter) (any, error)
}

// everyReport lists each report over several filters, ranges, orders and resolutions.
func everyReport() (out []question) {
	add := func(name string, q report.Query, ask func(context.Context, report.Reporter, report.Query) (any, error)) {
		out = append(out, question{fmt.Sprintf("%s %q %v %v %s", name, q.Filter, q.By, q.Sort, q.Resolution), func(ctx context.Context, r report.Reporter) (any, error) { return ask(ctx, r, q) }})
	}
	filters := []string{"", "vni = 5001", "dst.port = 5432 and src.vm like \"web%\"", "seen_by = tunnel or src.ip = 10.0.0.1", "ip in 10.0.0.0/30 and not app = https", "ip6", "new within 20m", "tcp_flags syn"}
	for n, f := range filters {
		if report.CheckFilter(f) != nil {
			continue
		}
		q := report.Query{Since: t0.Add(-time.Hour), Until: t0.Add(time.Hour), Filter: f}
		if n%2 == 1 {
			q.Since, q.Until = t0.Add(5*time.Minute), t0.Add(40*time.Minute)
		}
		add("pairs", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Pairs(ctx, q) })
		add("conversations", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) {
			return r.Conversations(ctx, q)
		})
		add("flows", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Flows(ctx, q) })
		add("overview", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Overview(ctx, q) })
		add("observers", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Observers(ctx, q) })
		add("carriers", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Carriers(ctx, q) })
		add("carried", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Carried(ctx, q) })
		add("irregular", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Irregular(ctx, q) })
		add("sankey", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Sankey(ctx, q) })
		for _, by := range [][]string{nil, {"tenant"}, {"src.vm", "app"}, {"vni", "proto", "src.ip"}} {
			s := q
			s.By, s.Limit, s.Step = by, 3, 5*time.Minute
			s.Previous = n == 1
			add("series", s, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Series(ctx, q) })
		}
		for _, res := range []string{"raw", "1h"} {
			q.Resolution = res
			for _, by := range [][]string{{"vm", "dst.port"}, {"src.ip", "dst.ip"}, {"tenant", "same_host"}, {"segment", "proto"}} {
				s := q
				s.By, s.Limit = by, 50
				if f == "" && res == "raw" && by[0] != "vm" {
					s.Metric = map[string]string{"src.ip": "flows", "tenant": "rtt", "segment": "packets"}[by[0]]
				}
				if res == "1h" && by[1] == "same_host" {
					s.Resolution = ""
				}
				add("top", s, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Top(ctx, q) })
			}
			for _, kind := range report.ThingKinds() {
				if kind == "vteps" && res == "1h" {
					continue
				}
				add(kind, q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) {
					return r.Things(ctx, kind, q)
				})
			}
			add("pairs", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Pairs(ctx, q) })
			add("networks", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Networks(ctx, q) })
			add("allow list", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.AllowList(ctx, q) })
			add("map", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Map(ctx, q) })
			s := q
			s.By, s.Expand = []string{"tenant", "host"}, []string{"blue/h1"}
			add("map", s, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Map(ctx, q) })
			s = q
			s.By = []string{"vm"}
			add("coverage", s, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Coverage(ctx, q) })
			if n < 3 {
				for _, name := range []string{"db-0", "id-1", "10.0.0.2"} {
					s := q
					s.Name = name
					add("vm "+name, s, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) {
						a, err := r.VM(ctx, q)
						if qe, ok := err.(*report.QueryError); ok {
							return qe.Error(), nil
						}
						return a, err
					})
				}
			}
		}
	}
	q := report.Query{Since: t0.Add(-time.Hour), Until: t0.Add(time.Hour), By: []string{"observer", "direction"}}
	add("top", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Top(ctx, q) })
	q.By, q.Per, q.Period, q.Having = []string{"src.vm"}, []string{"tenant"}, time.Minute*10, "octets > 1000"
	add("top", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Top(ctx, q) })
	for _, sort := range []string{"src_addr", "-duplicates", "seen_by", "first_seen", "-octets_error", "dst_vtep"} {
		q := report.Query{Since: t0.Add(-time.Hour), Until: t0.Add(time.Hour), Sort: sort, Limit: 20}
		add("pairs", q, func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return r.Pairs(ctx, q) })
	}
	return out
}

// TestBothStores compares the answers of both stores, field for field.
func TestBothStores(t *testing.T) {
	srv := chtest.Start(t)
	recs := listedRecords()
	sameAnswers(t, stored(t, recs), inClickHouse(t, srv, "both", recs, false), 9, 25)
}

// TestShards compares the answers of a cluster of two shards with those of the embedded store.
func TestShards(t *testing.T) {
	shards := chtest.StartShards(t, 2)
	recs := listedRecords()
	got := storedIn(t, clickhouse.Config{Addrs: []string{shards[0].Addr, shards[1].Addr}, Cluster: "main", EachServer: true}, recs, true)
	for _, s := range shards {
		s.Exec(t, "SELECT throwIf(count() < 50) FROM crosstap.flows_local FORMAT Null")
	}
	sameAnswers(t, stored(t, recs), got, 28, 6)
}

// sameAnswers asks both one of so many reports, all of them with CROSSTAP_ALL_QUERIES set.
func sameAnswers(t *testing.T, want, got report.Reporter, of, least int) {
	t.Helper()
	n, wrong := 0, 0
	for i, q := range everyReport() {
		always := of < 10 && strings.HasPrefix(q.name, `pairs "" [`) // the first question of many, in all its forms
		slow := strings.Contains(q.name, "new within")               // it reads the time before too
		if !allQueries() && !always && (i%of != i/of%of || slow && i%4 != 0) {
			continue
		}
		a, err := q.ask(t.Context(), want)
		b, err2 := q.ask(t.Context(), got)
		if qe, ok := err.(*report.QueryError); ok && err2 != nil && qe.Error() == err2.Error() {
			continue // what roll-ups or counters cannot tell
		}
		if err != nil || err2 != nil {
			t.Errorf("%s: %v; ClickHouse: %v", q.name, err, err2)
			wrong++
		} else if d := cmp.Diff(document(t, a), document(t, b)); d != "" {
			t.Errorf("%s: embedded store -, ClickHouse +\n%.2000s", q.name, d)
			wrong++
		}
		n++
		if wrong > 5 {
			t.FailNow()
		}
	}
	if n < least {
		t.Errorf("only %d reports", n)
	}
	t.Logf("%d reports", n)
}

// document is an answer as JSON, in lines.
func document(t *testing.T, a any) []string {
	t.Helper()
	b, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}
