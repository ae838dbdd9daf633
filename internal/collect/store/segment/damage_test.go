package segment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/collect/store"
)

// A reader that finds a file damaged, with no writer beside it, answers without it and tells what is missing, each time; when the writer has found it,
// it is told once.
func TestReaderOfDamagedFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	put(t, s, some(10))
	victim := sortedFiles(s.man.live)[0]
	put(t, s, some(7))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "flows", "v1", victim.Name), 200); err != nil {
		t.Fatal(err)
	}
	f := func(s *Store, what string) {
		t.Helper()
		v, err := s.View(t.Context(), 0, 1<<62)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if n := countIn(t, v, "true"); n != 7 {
			t.Errorf("%s: %d rows, want 7", what, n)
		}
		gaps := v.Gaps()
		want := store.Gap{FromNS: victim.MinMS * 1e6, ToNS: (victim.MaxMS + 1) * 1e6, Scope: "store", Reason: "file damaged", LostRecords: 10}
		if len(gaps) != 1 || gaps[0] != want {
			t.Errorf("%s: gaps %+v, want %+v", what, gaps, want)
		}
	}
	r := open(t, Config{Dir: dir, ReadOnly: true})
	v, err := r.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Query(t.Context(), "SELECT count(*) FROM "+v.Table()); err == nil {
		t.Error("a damaged file is read")
	}
	v.Close()
	f(r, "reader")
	if err := os.WriteFile(filepath.Join(dir, gapsName), nil, 0o640); err != nil { // notes that are read again do not forget it
		t.Fatal(err)
	}
	f(r, "reader, again")
	s = open(t, Config{Dir: dir})
	f(s, "writer")
	f(r, "reader beside the writer")
}

// Without its manifest a store is not empty: a reader says so instead.
func TestReaderOfDamagedManifest(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	put(t, s, some(10))
	put(t, s, some(10))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, manifestName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	f := func(text string, want int) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		r, err := Open(Config{Dir: dir, ReadOnly: true})
		if want < 0 {
			if err == nil {
				r.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "is damaged") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n := count(t, r, "true"); n != want {
			t.Errorf("%q: %d rows, want %d", text, n, want)
		}
	}
	f("", -1)
	f("rubbish", -1)
	f(lines[0]+"x"+strings.Join(lines[1:], ""), -1)
	f(string(good), 20)
	f(string(good)+lines[1][:20], 20) // the writer is in the middle of a line
}
