package clickhouse

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// overDays spreads records over three days.
func overDays(recs []flow.Record) []flow.Record {
	for i := range recs {
		day := int64(i%3) * 24 * int64(time.Hour)
		recs[i].StartNS, recs[i].EndNS = recs[i].StartNS+day, recs[i].EndNS+day
	}
	return recs
}

// cut takes parts of tables from the disk of a server that was killed, as if it had noted their tokens and no more. where tells the rows of the parts.
func cut(t *testing.T, srv *chtest.Server, s *Store, tables map[string]string) {
	t.Helper()
	var gone []string
	for table, where := range tables {
		var path string
		err := s.eachRow(t.Context(), "SELECT path FROM system.parts WHERE database = {p1:String} AND table = {p2:String} AND active AND name IN (SELECT DISTINCT _part FROM "+s.ddl.table(table)+" WHERE "+where+")",
			[]any{s.cfg.Database, table}, []any{&path}, func() error {
				gone = append(gone, path)
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(gone) < len(tables) {
		t.Fatalf("only %d parts of %v", len(gone), tables)
	}
	srv.Kill()
	for _, path := range gone {
		if !filepath.IsAbs(path) {
			path = filepath.Join(srv.Dir, path)
		}
		if !strings.HasPrefix(path, srv.Dir) {
			t.Fatalf("%s is not in the folder of the server", path)
		}
		if _, err := os.Stat(filepath.Join(path, "count.txt")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	srv.Start(t)
}

// A server that has noted the token of an insert and not the rows gets them when the insert comes again, as often as that happens; what it has it does not get twice. Hours are rolled up with the rows that came.
func TestTokenWithoutRows(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, func(c *Config) { c.SettleWait = 100 * time.Millisecond })
	srv.Exec(t, "SYSTEM STOP MERGES")
	give := func(seq uint64, again bool) {
		t.Helper()
		if err := s.AppendPlaced(t.Context(), overDays(records(int(seq)*60, 60)), store.Place{Stream: "FLOWS@7", Seq: seq, Again: again}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, want int) {
		t.Helper()
		n := 0
		for id, rows := range flowCounts(t, s) {
			if n++; rows != 1 {
				t.Errorf("%s: %d rows of flow %d", what, rows, id)
			}
		}
		if n != want {
			t.Errorf("%s: %d rows, want %d", what, n, want)
		}
	}
	const second = "flow_id BETWEEN 121 AND 180 AND toDayOfMonth(t_end) = 3"
	for seq := range uint64(3) {
		give(seq+1, false)
	}
	check("as it came", 180)
	cut(t, srv, s, map[string]string{flowsTable: second, hoursTable: "1"})
	check("without a part", 160)
	give(2, false)
	check("after it came again", 180)
	cut(t, srv, s, map[string]string{flowsTable: second})
	give(2, true)
	check("cut off a second time", 180)
	for seq := range uint64(3) { // their hours were lost too
		give(seq+1, true)
		give(seq+1, false)
	}
	check("three times", 180)
	settled(t, s)

	give(4, false)
	cut(t, srv, s, map[string]string{flowsTable: "flow_id > 240"})
	settled(t, s) // hours are rolled up that were counted, and have no rows
	check("without a message", 180)
	give(4, false)
	check("with it", 240)
	settled(t, s)

	give(5, false)
	cut(t, srv, s, map[string]string{hoursTable: "1"})
	give(5, false)
	settled(t, s)
	check("at last", 300)
}

// settled settles all hours, and checks that the roll-ups in force add up all rows.
func settled(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	hours, err := s.readHours(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	rolled := map[int64]uint64{}
	for _, h := range hours {
		if !h.valid() {
			t.Errorf("hour %d is not rolled up: %+v", h.atMS, h)
		}
		var octets uint64
		err := s.eachRow(t.Context(), "SELECT toUInt64(sum(octets)) FROM "+s.ddl.table(rollupTable)+" WHERE toUnixTimestamp64Milli(bucket) = {p1:Int64} AND gen = {p2:UInt64}", []any{h.atMS, h.gen}, []any{&octets}, func() error {
			rolled[h.atMS] = octets
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var at int64
	var octets uint64
	err = s.eachRow(t.Context(), "SELECT toUnixTimestamp64Milli("+hourOf+") AS at, toUInt64(sum(octets)) FROM "+s.ddl.table(flowsTable)+" GROUP BY at ORDER BY at", nil, []any{&at, &octets}, func() error {
		if rolled[at] != octets {
			t.Errorf("hour %d has %d octets, its roll-up %d", at, octets, rolled[at])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rows come back on the shard that lost them, where the server that is asked is not told which blocks were known; rows that expire soon are left to that.
func TestTokenWithoutRowsOfAShard(t *testing.T) {
	shards := chtest.StartShards(t, 2)
	now := t0.Add(40 * 24 * time.Hour)
	s := open(t, shards[0], func(c *Config) {
		c.Addrs, c.Cluster, c.EachServer = []string{shards[0].Addr, shards[1].Addr}, "main", true
		c.Now, c.KeepFor = func() time.Time { return now }, 0
	})
	recs := overDays(records(0, 90))
	give := func() {
		t.Helper()
		if err := s.AppendPlaced(t.Context(), recs, store.Place{Stream: "FLOWS@7", Seq: 1, Again: true}); err != nil {
			t.Fatal(err)
		}
	}
	give()
	for _, srv := range shards {
		srv.Exec(t, "DELETE FROM crosstap.flows_local WHERE toDayOfMonth(t_end) = 4")
		if n := len(flowCounts(t, s)); n >= 90 {
			t.Fatalf("%d rows", n)
		}
		give()
		there := flowCounts(t, s)
		for i := range 90 {
			if there[uint64(i)+1] != 1 {
				t.Errorf("%d rows of flow %d", there[uint64(i)+1], i+1)
			}
		}
	}
	s.cfg.KeepFor = 39*24*time.Hour + 3*time.Hour // the rows of the first day have expired, as far as a writer knows
	for _, srv := range shards {
		srv.Exec(t, "TRUNCATE TABLE crosstap.flows_local")
	}
	give()
	if n := len(flowCounts(t, s)); n != 90 { // truncating forgets the tokens: the insert stores all
		t.Errorf("%d rows after a table was emptied", n)
	}
	for _, srv := range shards {
		srv.Exec(t, "DELETE FROM crosstap.flows_local WHERE true")
	}
	give()
	if n := len(flowCounts(t, s)); n != 60 {
		t.Errorf("%d rows came back, want those of two days", n)
	}
}

// Writers that store the same message at the same time, since one of them was taken for dead, store it once.
func TestSameMessageAtOnce(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, nil)
	const messages, writers = 12, 4
	for seq := range uint64(messages) {
		var g errgroup.Group
		for i := range writers {
			g.Go(func() error {
				return s.AppendPlaced(t.Context(), overDays(records(int(seq)*30, 30)), store.Place{Stream: "FLOWS@7", Seq: seq, Again: i > 0})
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	there := flowCounts(t, s)
	for id := range uint64(messages * 30) {
		if there[id+1] != 1 {
			t.Errorf("%d rows of flow %d", there[id+1], id+1)
		}
	}
}
