package clickhouse

import (
	"fmt"
	"os"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// t0 is the start of the tests' hour, in whole hours.
var t0 = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func record(n int) flow.Record {
	r := flow.Record{
		StartNS: t0.Add(time.Duration(n) * time.Second).UnixNano(), EndNS: t0.Add(time.Duration(n+1) * time.Second).UnixNano(), RecvNS: t0.Add(time.Hour).UnixNano(),
		Exporter: flow.V4([]byte{192, 0, 2, 1}), Src: flow.V4([]byte{10, 0, 0, byte(n)}), Dst: flow.V4([]byte{10, 0, 1, 1}), SrcPort: uint16(40000 + n), DstPort: 443, Proto: 6,
		Packets: 10, Octets: uint64(1000 + n), L2Octets: uint64(1140 + n), Segment: flow.NewSegment(flow.KindVXLAN, 5001), FlowID: uint64(n + 1), ObserverID: 7,
		Marks: flow.MarkCanonical, SrcVM: fmt.Sprintf("web-%d", n%7), DstVM: "db-0", Fabric: "default", Tenant: "blue", Observer: "vs1", Client: flow.ClientSrc,
	}
	return r
}

func records(from, n int) []flow.Record {
	out := make([]flow.Record, n)
	for i := range out {
		out[i] = record(from + i)
	}
	return out
}

// open opens a store in a database of its own on a server.
func open(t *testing.T, s *chtest.Server, change func(*Config)) *Store {
	t.Helper()
	cfg := Config{Addrs: []string{s.Addr}, RollAfter: -1, FlushInterval: time.Hour}
	if change != nil {
		change(&cfg)
	}
	st, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func count(t *testing.T, s *Store) (rows, octets uint64) {
	t.Helper()
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	rs, err := v.Query(t.Context(), "SELECT count(*), coalesce(sum(octets), 0)::UBIGINT FROM "+v.Table()+" WHERE octets >= $1", uint64(0))
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Close()
	for rs.Next() {
		if err := rs.Scan(&rows, &octets); err != nil {
			t.Fatal(err)
		}
	}
	return rows, octets
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }

// rowsOf keeps an answer as text.
type rowsOf struct {
	columns []store.SQLColumn
	rows    []string
}

func (r *rowsOf) Columns(columns []store.SQLColumn) error {
	r.columns = columns
	return nil
}

func (r *rowsOf) Row(values []any) error {
	row := make([]any, len(values))
	for i, v := range values {
		row[i] = store.Plain(v, r.columns[i].Type)
	}
	r.rows = append(r.rows, fmt.Sprint(row))
	return nil
}

// Rows are stored, once for each place, and counted.
func TestStore(t *testing.T) {
	srv := chtest.Start(t)
	s := open(t, srv, nil)
	if err := s.Append(t.Context(), records(0, 100)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 { // as a bus that gives a message again
		if err := s.AppendPlaced(t.Context(), records(100, 50), store.Place{Stream: "FLOWS@1", Seq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AppendPlaced(t.Context(), records(100, 50), store.Place{Stream: "FLOWS@1", Seq: 2}); err != nil {
		t.Fatal(err)
	}
	if rows, octets := count(t, s); rows != 200 || octets != 100*1000+99*100/2+2*(50*1100+49*50/2) {
		t.Errorf("%d rows, %d octets", rows, octets)
	}
	a, err := s.SQL(t.Context(), store.SQLQuery{Text: `SELECT src, src_vm LIKE 'web\%' AS l, count(*) AS n, sum(octets) AS o, t_end FROM flows WHERE dst = addr('10.0.1.1') GROUP BY ALL ORDER BY t_end LIMIT 2`,
		FromNS: t0.UnixNano(), ToNS: t0.Add(time.Hour).UnixNano()})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(a.Rows); got != "[[10.0.0.0 false 1 1000 2026-01-02T03:00:01Z] [10.0.0.1 false 1 1001 2026-01-02T03:00:02Z]]" {
		t.Error(got)
	}
	all := &rowsOf{}
	err = s.EachSQL(t.Context(), store.SQLQuery{Text: "SELECT src, octets, t_end, src_vm FROM flows ORDER BY octets, t_end;", ToNS: 1 << 62}, all)
	if err != nil || len(all.rows) != 200 || all.rows[1] != "[10.0.0.1 1001 2026-01-02T03:00:02Z web-1]" || fmt.Sprint(all.columns) != "[{src UUID} {octets UBIGINT} {t_end TIMESTAMP} {src_vm VARCHAR}]" {
		t.Errorf("%v: %d rows of %v", err, len(all.rows), all.columns)
	}
	if err := s.EachSQL(t.Context(), store.SQLQuery{Text: "SELECT src FROM flows", ToNS: 1 << 62, Rows: 7}, all); err != nil || len(all.rows) != 207 {
		t.Errorf("%v: %d rows", err, len(all.rows))
	}
	if err := s.NoteGap(store.Gap{FromNS: t0.UnixNano(), ToNS: t0.UnixNano() + 5, Scope: "exporter", Who: `o'b\`, Reason: "lost\n", LostRecords: 3}); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := s.View(t.Context(), t0.UnixNano(), t0.Add(time.Hour).UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	if g := v.Gaps(); len(g) != 1 || g[0].Who != `o'b\` || g[0].Reason != "lost\n" || g[0].LostRecords != 3 {
		t.Errorf("%+v", g)
	}
	st := s.Stats()
	if st.Rows != 200 || st.RollupRows == 0 || st.Book.In != 300 || st.Book.Out != 300 {
		t.Errorf("%+v", st)
	}
}
