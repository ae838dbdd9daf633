//go:build linux

package segment

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const spillPrefix = "crosstap-spill-"

// spillDir is a reader's folder for what does not fit in memory. It is outside of the store, which a reader does not change,
// readable by this user only, and locked while the reader lives: what one that was killed has left is told by that.
type spillDir struct {
	path string
	lock *os.File
}

// newSpillDir makes the folder and removes those that killed readers have left.
func newSpillDir() (*spillDir, error) {
	if err := sweepSpills(os.TempDir()); err != nil {
		return nil, err
	}
	for range 4 {
		path, err := os.MkdirTemp("", spillPrefix)
		if err != nil {
			return nil, err
		}
		if f, err := lockSpill(path); err == nil {
			if _, err := os.Stat(path); err == nil {
				return &spillDir{path, f}, nil
			}
			f.Close()
		}
		_ = os.RemoveAll(path) // another reader has swept it between the two calls, or there are no locks here
	}
	path, err := os.MkdirTemp("", spillPrefix) // without a lock it may be swept
	return &spillDir{path: path}, err
}

// remove ends the folder; the engine must be closed.
func (d *spillDir) remove() error {
	if d == nil {
		return nil
	}
	err := os.RemoveAll(d.path)
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

func lockSpill(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweepSpills removes the folders of this user that nobody holds.
func sweepSpills(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, spillPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range found {
		f, err := lockSpill(path)
		if err != nil {
			continue // in use, or not ours
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && int(st.Uid) == os.Getuid() {
			_ = os.RemoveAll(path) // the next reader tries again
		}
		f.Close()
	}
	return nil
}
