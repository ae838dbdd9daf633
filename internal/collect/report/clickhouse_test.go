package report_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// inClickHouse stores records in a database of its own. With settled its hours are settled.
func inClickHouse(t *testing.T, srv *chtest.Server, database string, recs []flow.Record, settled bool) *report.Reports {
	t.Helper()
	return storedIn(t, clickhouse.Config{Addrs: []string{srv.Addr}, Database: database}, recs, settled)
}

func storedIn(t *testing.T, cfg clickhouse.Config, recs []flow.Record, settled bool) *report.Reports {
	t.Helper()
	cfg.RollAfter, cfg.FlushInterval, cfg.SettleWait, cfg.QueryThreads = -1, time.Hour, 100*time.Millisecond, 1
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
	if settled {
		if err := s.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return report.New(s)
}

// TestShards compares the answers of a cluster of two shards with those of the embedded store.
func TestShards(t *testing.T) {
	shards := chtest.StartShards(t, 2)
	recs := listedRecords()
	got := storedIn(t, clickhouse.Config{Addrs: []string{shards[0].Addr, shards[1].Addr}, Cluster: "main", EachServer: true}, recs, true)
	for _, s := range shards {
		s.Exec(t, "SELECT throwIf(count() < 50) FROM crosstap.flows_local FORMAT Null")
	}
	want, n := sealed(t, recs), 0
	for i, q := range questions(t) {
		if q.sealed && (allQueries() || q.ci && i%6 == 0) {
			same(t, q, want, got)
			n++
		}
	}
	if n < 4 {
		t.Errorf("only %d questions", n)
	}
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
