package deliver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// openNew opens a file that begins: with Keep beside one that is there, else in its place.
func (f *File) openNew() error {
	if f.cfg.Keep {
		if err := f.setAside(); err != nil {
			return err
		}
	}
	return f.open(os.O_TRUNC)
}

// lookForReader is between attempts to open a named pipe.
const lookForReader = 50 * time.Millisecond

// awaitReader opens a named pipe when a program reads from it, or gives up with errNoReader.
func (f *File) awaitReader() error {
	tick := time.NewTicker(lookForReader)
	defer tick.Stop()
	for {
		select {
		case <-f.cfg.Stopped:
			return errNoReader
		case <-tick.C:
			if err := f.open(os.O_TRUNC); !errors.Is(err, errNoReader) {
				return err
			}
		}
	}
}

// setAside gives a file that is there a name with the time of its last change in UTC: web.pcapng becomes web-20260301T120000Z.pcapng. Files that rotate have a number
// behind that, so that none of them is taken for it. An empty file, a pipe or a device stays where it is.
func (f *File) setAside() error {
	path, err := filepath.EvalSymlinks(f.cfg.Path)
	if err != nil {
		return nil // opening tells why, or makes it
	}
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return nil
	}
	dir, base, ending := parts(path)
	base += "-" + st.ModTime().UTC().Format(nameTime)
	for n := 1; ; n++ {
		kept := filepath.Join(dir, base+ending)
		if n > 1 {
			kept = filepath.Join(dir, fmt.Sprintf("%s.%d%s", base, n, ending))
		}
		if _, err := os.Lstat(kept); err == nil {
			continue
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Rename(path, kept); err != nil {
			return fmt.Errorf("a capture of that name is there, and cannot be renamed: %w", cause(err))
		}
		f.cfg.Log.Info("a capture of that name was there: it is kept under another one", "to", f.Where(), "kept", kept)
		return nil
	}
}
