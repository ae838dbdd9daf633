package report_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
)

// byRows is a store whose roll-ups are worked out from the rows for each question.
type byRows struct{ store.Reader }

func (b byRows) View(ctx context.Context, fromNS, toNS int64) (store.View, error) {
	v, err := b.Reader.View(ctx, fromNS, toNS)
	return rowsView{v}, err
}

type rowsView struct{ store.View }

func (v rowsView) Rollup(step time.Duration, fromNS, toNS int64) string {
	return store.RollupRows(v.Table(), fmt.Sprintf("t_end >= make_timestamp_ms(%d) AND t_end < make_timestamp_ms(%d)", fromNS/1e6, toNS/1e6), step)
}

// TestMergedRollups: questions that merged roll-ups and links answer give the documents that the rows give, for whole days and for ranges that
// cut days and hours.
func TestMergedRollups(t *testing.T) {
	const parts = 10 // of two days
	s := opened(t, t0.Add(100*time.Hour))
	for n := range parts {
		recs := listedRecordsOf(uint64(20+n), 40)
		for i := range recs {
			r, at := &recs[i], int64(time.Duration(2*n-16)*time.Hour)
			r.StartNS, r.EndNS, r.RecvNS = r.StartNS+at, r.EndNS+at, r.RecvNS+at
		}
		put(t, s, recs) // a batch of many hours would be one file
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().UnmergedRollups; n != 0 {
		t.Fatalf("%d roll-ups are not merged", n)
	}
	merged, rows := report.New(s), report.New(byRows{s})
	midnight := t0.Truncate(24 * time.Hour)
	f := func(name string, ask func(report.Reporter, report.Query) (any, error), q report.Query) {
		t.Helper()
		for _, r := range [][2]time.Time{{midnight.Add(-24 * time.Hour), midnight.Add(24 * time.Hour)}, {midnight.Add(-7*time.Hour - 23*time.Minute), midnight.Add(3*time.Hour + 17*time.Minute)}} {
			q.Since, q.Until, q.Resolution = r[0], r[1], "1h"
			got, err := ask(merged, q)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want, err := ask(rows, q)
			if err != nil {
				t.Fatalf("%s by rows: %v", name, err)
			}
			one, _ := json.MarshalIndent(got, "", " ")
			other, _ := json.MarshalIndent(want, "", " ")
			compare(t, fmt.Sprintf("%s of %v", name, r), string(one), string(other))
		}
	}
	ctx := t.Context()
	pairs := func(r report.Reporter, q report.Query) (any, error) {
		a, err := r.Pairs(ctx, q)
		if len(a.Rows) == 0 {
			err = fmt.Errorf("no pairs: %w", err)
		}
		for i := range a.Rows {
			a.Rows[i].Spark = nil // a part of an hour's octets
		}
		return a, err
	}
	graph := func(r report.Reporter, q report.Query) (any, error) { return r.Map(ctx, q) }
	top := func(r report.Reporter, q report.Query) (any, error) { return r.Top(ctx, q) }
	page := func(r report.Reporter, q report.Query) (any, error) {
		a, err := r.VM(ctx, q)
		if err == nil && len(a.Peers) == 0 {
			err = fmt.Errorf("no peers of %s", q.Name)
		}
		return a, err
	}
	f("pairs", pairs, report.Query{Limit: 7})
	f("pairs of a segment", pairs, report.Query{Filter: "vni = 5001"})
	f("map", graph, report.Query{})
	f("map with a baseline", graph, report.Query{By: []string{"tenant", "vm"}, BaseSince: midnight.Add(-48 * time.Hour), BaseUntil: midnight.Add(-24 * time.Hour), Filter: `dst.vm like "%b%" or vni = 5002`})
	f("map of addresses", graph, report.Query{Filter: "ip = 10.0.0.1 or ip6"})
	f("map, expanded", graph, report.Query{Expand: []string{"blue/~", "blue/web"}})
	f("top machines", top, report.Query{By: []string{"vm"}, Filter: "not src.vm = web-0"})
	f("top services", top, report.Query{By: []string{"tenant", "dst.port"}})
	f("top addresses", top, report.Query{By: []string{"src.ip"}})
	f("a machine", page, report.Query{Name: "db-0"})
	f("a machine by its id", page, report.Query{Name: "id-1"})
	f("an address", page, report.Query{Name: "fd00::3"})
	f("first page", func(r report.Reporter, q report.Query) (any, error) {
		a, err := r.Overview(ctx, q)
		for i := range a.TopPairs {
			a.TopPairs[i].Spark = nil
		}
		return a, err
	}, report.Query{})
}
