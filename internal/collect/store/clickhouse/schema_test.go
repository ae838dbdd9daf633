package clickhouse

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/collect/store/segment"
)

// Both stores have the same columns, of the same types.
func TestColumns(t *testing.T) {
	byName := cmpopts.SortSlices(func(a, b store.Column) bool { return a.Name < b.Name })
	if d := cmp.Diff(segment.Columns(), flowColumns, byName); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(segment.RollupColumns(), store.RollupColumns); d != "" {
		t.Error(d)
	}
}

// The server understands the statements for a replicated cluster, which cannot be run without a Keeper.
func TestReplicatedDDL(t *testing.T) {
	srv := chtest.Start(t)
	d := ddl{Config{Database: "crosstap", Cluster: "main", Replicated: true, KeepFor: 30 * 24 * time.Hour, KeepRollups: 400 * 24 * time.Hour}}
	for _, s := range append(d.first(), d.made("migrations", "version UInt32", "MergeTree", "", "ORDER BY version", "version")...) {
		srv.Exec(t, "EXPLAIN AST "+s)
	}
}

// Tables keep what they have when a server is started again, and take up another time to keep; newer tables are refused.
func TestMigrate(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, func(c *Config) { c.KeepFor = 40 * 365 * 24 * time.Hour })
	if err := s.Append(t.Context(), records(0, 10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := open(t, srv, func(c *Config) { c.KeepFor = 0 })
	if rows, _ := count(t, again); rows != 10 {
		t.Errorf("%d rows", rows)
	}
	srv.Exec(t, "SELECT throwIf(position(create_table_query, ' TTL ') > 0) FROM system.tables WHERE database = 'crosstap' AND name = 'flows' FORMAT Null")
	old := open(t, srv, func(c *Config) { c.KeepFor = time.Hour }) // the rows are of years ago
	srv.Exec(t, "SELECT throwIf(position(create_table_query, 'TTL toDateTime(t_end) + toIntervalSecond(3600)') = 0) FROM system.tables WHERE database = 'crosstap' AND name = 'flows' FORMAT Null")
	srv.Exec(t, "OPTIMIZE TABLE crosstap.flows FINAL")
	if rows, _ := count(t, old); rows != 0 {
		t.Errorf("%d rows after their time", rows)
	}
	reader := open(t, srv, func(c *Config) { c.ReadOnly = true })
	if err := reader.Append(t.Context(), records(0, 1)); err == nil {
		t.Error("a reader stores")
	}
	if _, err := Open(t.Context(), Config{Addrs: []string{srv.Addr}, Database: "nothere", ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "there is no database") {
		t.Error(err)
	}
	srv.Exec(t, "INSERT INTO crosstap.migrations VALUES (99, now64(3))")
	if _, err := Open(t.Context(), Config{Addrs: []string{srv.Addr}}); err == nil {
		t.Error("tables of a newer version were opened")
	}
}

// A server that is away costs nothing while there is room: what waits is stored when it is back, once.
func TestServerAway(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, func(c *Config) { c.MaxPending, c.FlushRows, c.AppendWait = 300, 100, time.Millisecond })
	srv.Kill()
	for i := 0; i < 400; i += 50 {
		if err := s.Append(t.Context(), records(i, 50)); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if err := st.Book.Balance(); err != nil || st.PendingRows != 300 {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := s.Flush(t.Context()); err == nil {
		t.Fatal("flushed without a server")
	}
	srv.Start(t)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows, _ := count(t, s); rows != 300 {
		t.Errorf("%d rows", rows)
	}
	v, err := s.View(t.Context(), t0.UnixNano(), t0.Add(time.Hour).UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	var lost uint64
	for _, g := range v.Gaps() {
		lost += g.LostRecords
	}
	if lost != 100 {
		t.Errorf("gaps of %d records, 100 were shed", lost)
	}
}

func TestParseURL(t *testing.T) {
	c, err := ParseURL("clickhouse://u:p%40w@ch1,ch2:9001/flows?cluster=main&replicated=true")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Addrs: []string{"ch1:9000", "ch2:9001"}, Database: "flows", User: "u", Password: "p@w", Cluster: "main", Replicated: true}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if c, err := ParseURL("clickhouses://[::1]/"); err != nil || c.Addrs[0] != "[::1]:9440" || c.TLS == nil {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"http://x", "clickhouse://", "clickhouse://a,/x", "clickhouse://a/x-y", "clickhouse://a/x?frob=1", "clickhouse://a/x?ca=/x", "clickhouse://a/x?cluster=a%20b"} {
		if _, err := ParseURL(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if _, err := ParseURL("clickhouse://me:secret@a/x?frob=1"); err == nil || Redacted(err.Error()) != err.Error() {
		t.Errorf("the error tells the password: %v", err)
	}
}
