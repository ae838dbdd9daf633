package segment

import (
	"context"
	"fmt"
	"testing"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

var bg = context.Background()

// base is a round hour: 2025-11-21 10:00:00 UTC. The clocks of the tests stand long before the files' times: files that just came would not be sealed.
const base = int64(1_763_719_200) * 1e9

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = -1
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func count(t testing.TB, s *Store, where string, args ...any) (n int) {
	t.Helper()
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	return countIn(t, v, where, args...)
}

func countIn(t testing.TB, v store.View, where string, args ...any) (n int) {
	t.Helper()
	rows, err := v.Query(t.Context(), "SELECT count(*) FROM "+v.Table()+" WHERE "+where, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// some returns n different records of the hour.
func some(n int) []flow.Record {
	recs := make([]flow.Record, n)
	for i := range recs {
		recs[i] = flow.Record{
			StartNS: base + int64(i)*1e6, EndNS: base + int64(i)*1e6 + 5e9, Proto: 6, SrcPort: uint16(i), DstPort: 443,
			Src: flow.V4([]byte{10, 0, 0, 1}), Dst: flow.V4([]byte{10, 0, byte(i >> 8), byte(i)}), Packets: uint64(i), Octets: uint64(i) * 100,
			FlowID: uint64(i + 1), Marks: flow.MarkCanonical, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Observer: fmt.Sprint("o", i%3),
		}
	}
	return recs
}

func TestAppendFlushQueryReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	if n := count(t, s, "true"); n != 0 {
		t.Errorf("an empty store has %d rows", n)
	}
	if err := s.Append(t.Context(), some(1000)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "src_port < 500 AND observer = ?", "o1"); n != 167 {
		t.Errorf("%d rows, want 167", n)
	}
	st := s.Stats()
	if err := st.Book.Balance(); err != nil || st.Rows != 1000 || st.PendingRows != 0 || st.OldestNS != base+5e9 || st.NewestNS != base+5e9+999e6 {
		t.Errorf("stats %+v: %v", st, err)
	}
	if _, err := Open(Config{Dir: dir}); err == nil {
		t.Error("two writers in one directory")
	}
	if err := s.Append(t.Context(), some(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(context.Background(), some(1)); err == nil {
		t.Error("append to a closed store")
	}
	s = open(t, Config{Dir: dir})
	if n := count(t, s, "true"); n != 1010 {
		t.Errorf("%d rows after reopening, want 1010", n)
	}
	reader := open(t, Config{Dir: dir, ReadOnly: true})
	if n := count(t, reader, "true"); n != 1010 {
		t.Errorf("a reader beside the writer sees %d rows, want 1010", n)
	}
}
