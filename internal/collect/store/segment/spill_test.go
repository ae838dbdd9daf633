package segment

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReaderLeavesNothing: a reader's folder for what does not fit in memory is gone after Close, also when a question was
// broken off, and so is that of a reader that was killed; one in use stays.
func TestReaderLeavesNothing(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	put(t, open(t, Config{Dir: dir}), some(20_000))
	killed := filepath.Join(tmp, spillPrefix+"1")
	if err := os.MkdirAll(filepath.Join(killed, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := open(t, Config{Dir: dir, ReadOnly: true})
	r := open(t, Config{Dir: dir, ReadOnly: true, QueryMemory: 128 << 20})
	folders := func(want int) {
		t.Helper()
		if e, err := os.ReadDir(tmp); err != nil || len(e) != want {
			t.Errorf("%v %v, want %d folders", e, err, want)
		}
	}
	folders(2)
	v, err := r.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := v.Query(t.Context(), "SELECT hash(a.t_end, i) AS h, repeat('x', 200) || i FROM "+v.Table()+" a, range(50) x(i) ORDER BY h")
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if err := r.Close(); err != nil { // with the question under way
		t.Error(err)
	}
	folders(1)
	rows.Close()
	v.Close()
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	folders(0)
	if s, err := Open(Config{Dir: tmp, ReadOnly: true}); err == nil {
		t.Error("a store without a manifest was opened")
		s.Close()
	}
	folders(0)
}
