package segment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

func put(t testing.TB, s *Store, recs []flow.Record) {
	t.Helper()
	if err := s.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// at moves records in time.
func shifted(recs []flow.Record, by time.Duration) []flow.Record {
	for i := range recs {
		recs[i].StartNS, recs[i].EndNS = recs[i].StartNS+int64(by), recs[i].EndNS+int64(by)
	}
	return recs
}

func TestCloseEndsEverything(t *testing.T) {
	testkit.NoLeaks(t)
	s := open(t, Config{})
	put(t, s, some(10))
	if n := count(t, s, "true"); n != 10 {
		t.Error(n)
	}
	if err := s.Append(t.Context(), some(5)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st := s.book.Read(); st.Balance() != nil || st.Out != 15 {
		t.Errorf("books after closing: %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Error("a second close:", err)
	}
	if _, err := s.View(t.Context(), 0, 1); !errors.Is(err, ErrClosed) {
		t.Error("view of a closed store:", err)
	}
}

// TestFlushInterval: records become visible without a Flush.
func TestFlushInterval(t *testing.T) {
	s := open(t, Config{FlushInterval: 10 * time.Millisecond})
	if err := s.Append(t.Context(), some(7)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); count(t, s, "true") != 7; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the records were not stored")
		}
	}
}

// TestManyWriters: concurrent Append, Flush, View and Tidy lose and double nothing.
func TestManyWriters(t *testing.T) {
	s := open(t, Config{FlushRows: 500, MergeFiles: 3, SealRows: 2000, FlushInterval: 5 * time.Millisecond, AppendWait: time.Minute})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				if err := s.Append(bg, numbered(w*100_000+i*100, 100)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			v, err := s.View(bg, 0, 1<<62)
			if err != nil {
				t.Error(err)
				return
			}
			rows, err := v.Query(bg, "SELECT sum(octets) FROM "+v.Table())
			if err != nil {
				t.Error(err)
			} else {
				rows.Close()
			}
			v.Close()
		}
	})
	wg.Go(func() {
		for range 5 {
			if err := s.Tidy(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if err := s.Flush(bg); err != nil {
		t.Fatal(err)
	}
	if n := sum(t, s, "count(DISTINCT point)"); n != 8000 || s.Stats().Rows != 8000 {
		t.Errorf("%d different of %d rows, want 8000", n, s.Stats().Rows)
	}
	if err := s.Stats().Book.Balance(); err != nil {
		t.Error(err)
	}
}

// TestExpire: whole hours go, by age and by size, and give their space back.
func TestExpire(t *testing.T) {
	var hours atomic.Int64
	now := func() time.Time { return time.Unix(0, base).Add(time.Duration(hours.Load()) * time.Hour) }
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, KeepFor: 3 * time.Hour, Now: now})
	for h := range 4 {
		put(t, s, shifted(some(100), time.Duration(h)*time.Hour))
	}
	hours.Store(5)
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "true"); n != 200 { // hours 2 and 3 are left: hour 1 ended exactly 3 hours ago
		t.Errorf("%d rows, want 200", n)
	}
	s.unlinkDoomed(true)
	onDisk, _ := filepath.Glob(filepath.Join(escapeGlob(s.table), "*/*/*.parquet"))
	if len(onDisk) != s.Stats().Files {
		t.Errorf("%d files on disk, %d live", len(onDisk), s.Stats().Files)
	}
	s.Close()
	s = open(t, Config{Dir: dir, KeepBytes: 1, Now: now})
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "true"); n != 100 {
		t.Errorf("%d rows, want the 100 of the newest hour", n)
	}
}

// TestGapNotes come back after reopening, also behind a torn line, and are given by time.
func TestGapNotes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	a := store.Gap{FromNS: 100e9, ToNS: 200e9, Scope: "exporter", Who: "h1", Reason: "sequence", LostRecords: 7}
	b := store.Gap{FromNS: 50e9, ToNS: 60e9, Scope: "collector", Reason: "restart"}
	for _, g := range []store.Gap{a, b} {
		if err := s.NoteGap(g); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	f, err := os.OpenFile(filepath.Join(dir, gapsName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"from_ns":1,"to_`)
	f.Close()
	s = open(t, Config{Dir: dir})
	if err := s.NoteGap(a); err != nil {
		t.Fatal(err)
	}
	reader := open(t, Config{Dir: dir, ReadOnly: true})
	f2 := func(s *Store, from, to int64, want ...store.Gap) {
		t.Helper()
		v, err := s.View(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if got := v.Gaps(); !slices.Equal(got, want) {
			t.Errorf("%d to %d: %v, want %v", from, to, got, want)
		}
	}
	f2(s, 0, 1000e9, b, a, a)
	f2(reader, 0, 1000e9, b, a, a)
	f2(s, 70e9, 100e9)
	f2(s, 70e9, 101e9, a, a)
}

// TestReaderBesideWriter: a reader of another process follows the writer, also when files are merged and unlinked
// under it, and changes nothing.
func TestReaderBesideWriter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, MergeFiles: 2})
	put(t, s, some(10))
	r := open(t, Config{Dir: dir, ReadOnly: true})
	if n := count(t, r, "true"); n != 10 {
		t.Errorf("%d rows", n)
	}
	put(t, s, some(10))
	if n := count(t, r, "true"); n != 20 {
		t.Errorf("%d rows after another flush", n)
	}
	v, err := r.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	s.unlinkDoomed(true)
	if _, err := v.Query(t.Context(), "SELECT count(*) FROM "+v.Table()); !errors.Is(err, store.ErrStale) {
		t.Errorf("a view whose files are gone: %v, want ErrStale", err)
	}
	v.Close()
	if n := count(t, r, "true"); n != 20 {
		t.Errorf("%d rows in a new view", n)
	}
	if err := r.Append(t.Context(), some(1)); err == nil {
		t.Error("a reader appends")
	}
	if _, err := Open(Config{Dir: t.TempDir(), ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "no store here") {
		t.Errorf("reading an empty folder: %v", err)
	}
}

// TestFolderNames: quotes, blanks and what DuckDB would take for a pattern.
func TestFolderNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's [a] *strange* {name}?")
	s := open(t, Config{Dir: dir})
	put(t, s, some(10))
	if n := count(t, s, "true"); n != 10 {
		t.Errorf("%d rows, want 10", n)
	}
}

// TestSandbox: SQL can read the store and nothing else.
func TestSandbox(t *testing.T) {
	s := open(t, Config{})
	put(t, s, some(10))
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, query := range []string{"SELECT * FROM read_text('/etc/passwd')", "COPY (SELECT 1) TO '/tmp/x.csv'", "SET threads = 4", "INSTALL inet", "ATTACH '/tmp/x.db'",
		"SET enable_external_access = true"} {
		rows, err := v.Query(t.Context(), query)
		if err == nil {
			rows.Close()
			t.Errorf("%s is allowed", query)
		}
	}
}

// TestQueryIsCancelled with its context.
func TestQueryIsCancelled(t *testing.T) {
	s := open(t, Config{})
	put(t, s, some(1000))
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	rows, err := v.Query(ctx, "SELECT sum(a.octets * b.octets * c.octets) FROM "+v.Table()+" a, "+v.Table()+" b, "+v.Table()+" c, "+v.Table()+" d")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		rows.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) && (err == nil || !strings.Contains(err.Error(), "nterrupt")) {
		t.Errorf("%v, want the context's error", err)
	}
}

// TestStrangeTimes: records from every age share few files and come back.
func TestStrangeTimes(t *testing.T) {
	s := open(t, Config{})
	recs := some(200)
	for i := range recs {
		recs[i].EndNS = []int64{0, -1, 1 << 62, -1 << 62, base, 1<<63 - 1, -1 << 63}[i%7] + int64(i)*3600e9*int64(i%7%4/3)
		recs[i].StartNS = recs[i].EndNS
	}
	put(t, s, recs)
	if n := s.Stats().Files; n > maxHoursPerFlush {
		t.Errorf("%d files for one flush", n)
	}
	v, err := s.View(t.Context(), -1<<63, 1<<63-1)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if n := countIn(t, v, "octets >= 0"); n != 200 {
		t.Errorf("%d rows, want 200", n)
	}
}

// TestGapFileIsRewritten when it has grown: the notes are the same.
func TestGapFileIsRewritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	for i := range 20 {
		if err := s.NoteGap(store.Gap{FromNS: int64(i) * 1e9, ToNS: int64(i+1) * 1e9, Scope: "exporter", LostRecords: 1}); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Clone(s.gaps.gaps)
	if err := s.gaps.rewrite(); err != nil {
		t.Fatal(err)
	}
	again, err := readGaps(filepath.Join(dir, gapsName))
	if err != nil || !slices.Equal(again.gaps, want) {
		t.Errorf("%v: %d notes, want %d", err, len(again.gaps), len(want))
	}
}
