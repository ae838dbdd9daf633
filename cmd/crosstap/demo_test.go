//go:build linux && !agent

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSweep removes what a demo left that was killed together with its lab, and nothing else.
func TestSweep(t *testing.T) {
	temp := t.TempDir()
	f := func(name string, age time.Duration, locked, stays bool) {
		t.Helper()
		path := filepath.Join(temp, name)
		if err := os.MkdirAll(filepath.Join(path, "store"), 0o700); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		if locked {
			lock, err := lockDir(path)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if _, err := lockDir(path); err == nil {
				t.Error("a locked directory must not be locked again")
			}
		}
		sweep(temp)
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s: %v, want it to stay: %t", name, err, stays)
		}
	}
	f(demoPrefix+"dead", time.Hour, false, false)
	f(demoPrefix+"alive", time.Hour, true, true)
	f(demoPrefix+"young", time.Second, false, true)
	f(keptPrefix+"dead", time.Hour, false, true)
	f("other", time.Hour, false, true)
}

// TestDataDir gives back what it took: a directory of its own as a whole, one of the user's empty.
func TestDataDir(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	mine := filepath.Join(t.TempDir(), "mine")
	f := func(path string, keep, there bool) {
		t.Helper()
		d, err := newDataDir(path, keep)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(d.path, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); (err == nil) != keep {
			t.Errorf("file: %v, keep is %t", err, keep)
		}
		if _, err := os.Stat(d.path); (err == nil) != there {
			t.Errorf("directory: %v, want it there: %t", err, there)
		}
	}
	f("", false, false)
	f("", true, true)
	f(mine, false, false)
	if err := os.Mkdir(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	f(mine, false, true)
	f(mine, true, true)
	if _, err := newDataDir(mine, false); err == nil {
		t.Error("a directory with files must be refused")
	}
}
