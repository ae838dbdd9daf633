//go:build linux && !agent

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Prefixes of the demo's own directories in the temporary directory.
const (
	demoPrefix = "crosstap-demo-"
	keptPrefix = "crosstap-kept-"
)

// sweepAge is how old a directory without a lock must be: a younger one may be about to be locked.
const sweepAge = time.Minute

// dataDir is the demo's directory. A lock on it tells other demos that it is in use.
type dataDir struct {
	path   string
	remove bool // the directory, or only what is in it when the user made it
	made   bool
	lock   *os.File
}

// newDataDir makes the directory, or takes an empty one. Directories of demos that were killed together with their
// lab are removed.
func newDataDir(path string, keep bool) (d *dataDir, err error) {
	d = &dataDir{path: path, remove: !keep, made: true}
	if path == "" {
		sweep(os.TempDir())
		prefix := demoPrefix
		if keep {
			prefix = keptPrefix
		}
		if d.path, err = os.MkdirTemp("", prefix); err != nil {
			return nil, err
		}
	} else if d.made, err = makeEmpty(path); err != nil {
		return nil, err
	}
	if d.path, err = filepath.Abs(d.path); err != nil {
		return nil, err
	}
	if d.lock, err = lockDir(d.path); err != nil {
		return nil, err
	}
	return d, nil
}

// makeEmpty makes a directory; one that is there already must be empty.
func makeEmpty(path string) (made bool, err error) {
	err = os.Mkdir(path, 0o755)
	if !errors.Is(err, os.ErrExist) {
		return true, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return false, err
	}
	if len(entries) > 0 {
		return false, fmt.Errorf("--data %s: not empty: choose a new directory; \"crosstap serve --data\" opens a store that is there", path)
	}
	return false, nil
}

// lockDir takes the lock that says that a directory is in use.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: in use by another demo: %w", path, err)
	}
	return f, nil
}

// sweep removes directories that nobody has locked: both the demo and its lab were killed at once.
func sweep(temp string) {
	found, err := filepath.Glob(filepath.Join(temp, demoPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range found {
		if info, err := os.Lstat(path); err != nil || !info.IsDir() || !ours(info) || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path) // another try comes with the next demo
			lock.Close()
		}
	}
}

// ours reports whether this user made the file.
func ours(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// close removes the directory, or what is in it, unless it is to be kept.
func (d *dataDir) close() error {
	defer d.lock.Close()
	if !d.remove {
		return nil
	}
	if d.made {
		return os.RemoveAll(d.path)
	}
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.path, e.Name())))
	}
	return err
}
