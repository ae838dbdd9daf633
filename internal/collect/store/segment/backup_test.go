package segment

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestBackupRestore: a backup beside a writer that merges and seals holds what was stored at one moment, each row once; a restored store
// goes on, and damage in a backup is found.
func TestBackupRestore(t *testing.T) {
	f := func(link bool) {
		t.Helper()
		var later atomic.Int64
		dir, at := t.TempDir(), t.TempDir()
		s := open(t, Config{Dir: dir, MergeFiles: 2, Now: func() time.Time { return time.Unix(0, base+later.Load()) }})
		recs, packets := observed(rand.New(rand.NewPCG(3, 4)), 300)
		put(t, s, recs)
		stop, stopped := make(chan struct{}), make(chan error, 1)
		go func() { // files come and go
			for n := 0; ; n++ {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				if err := s.Append(bg, numbered(n*100, 100)); err != nil {
					stopped <- err
					return
				}
				if err := s.Flush(bg); err != nil {
					stopped <- err
					return
				}
				s.unlinkDoomed(true)
			}
		}()
		if err := os.WriteFile(filepath.Join(dir, "IMPORTED"), []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		backup := filepath.Join(at, "b")
		made, err := Backup(dir, backup, link, nil)
		close(stop)
		if e := <-stopped; err != nil || e != nil {
			t.Fatal(err, e)
		}
		if made.Rows < 900 || link != (made.Linked > 0) {
			t.Errorf("backup %+v", made)
		}
		if _, err := Backup(dir, backup, link, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("a second backup to the same place: %v", err)
		}
		got, err := Restore(backup, filepath.Join(at, "r"), nil)
		if err != nil || got.Rows != made.Rows || got.Files != made.Files {
			t.Fatalf("restored %+v of %+v: %v", got, made, err)
		}
		if text, err := os.ReadFile(filepath.Join(at, "r", "IMPORTED")); err != nil || string(text) != "{}\n" {
			t.Errorf("what was imported: %q, %v", text, err)
		}
		later.Store(int64(5 * time.Hour))
		r := open(t, Config{Dir: filepath.Join(at, "r"), Now: func() time.Time { return time.Unix(0, base+later.Load()) }})
		if err := r.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, p := count(t, r, "true"), sum(t, r, "sum(packets) FILTER ((marks & 1) <> 0 AND dst_port = 53)"); int64(n) != made.Rows || p != packets {
			t.Errorf("%d rows and %d packets, want %d and %d", n, p, made.Rows, packets)
		}
		if r.Stats().SetAside != 0 {
			t.Error("files set aside")
		}
		r.Close()
		if link {
			return
		}
		files, _ := filepath.Glob(filepath.Join(escapeGlob(backup), "flows/v1/*/*/*.parquet"))
		st, _ := os.Stat(files[0])
		scribble(files[0], 100, int(st.Size())-4000)
		if _, err := Restore(backup, filepath.Join(at, "r2"), nil); err == nil {
			t.Error("a damaged backup was restored")
		}
	}
	f(false)
	f(true)
	if _, err := Backup(t.TempDir(), t.TempDir(), false, nil); err == nil {
		t.Error("a backup of no store")
	}
	if _, err := Restore(t.TempDir(), t.TempDir(), nil); err == nil {
		t.Error("a restore of no backup")
	}
}
