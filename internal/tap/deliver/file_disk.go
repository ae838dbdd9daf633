package deliver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file as a File uses it.
type disk interface {
	io.WriteSeeker
	Truncate(size int64) error
	Sync() error
	Stat() (os.FileInfo, error)
	Close() error
}

// errNoReader is that of a named pipe that no program has opened to read from it.
var errNoReader = errors.New("no program reads from this pipe")

// openFile opens a file for writing, for its owner alone: a capture holds what others have said. It does not wait for the reader of a named pipe: that could not be ended.
func openFile(path string, flags int) (disk, error) {
	pipe := false
	if st, err := os.Stat(path); err == nil && st.Mode()&os.ModeNamedPipe != 0 {
		pipe, flags = true, unix.O_NONBLOCK // Go waits while it is full
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o600)
	if pipe && errors.Is(err, unix.ENXIO) {
		return nil, errNoReader
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// open opens the file; how is what its opening does with one that is there.
func (f *File) open(how int) error {
	f.out = f.cfg.Stdout
	if f.cfg.Path != "-" {
		file, err := f.cfg.openFile(f.cfg.Path, how)
		if err != nil {
			return wayOut(err)
		}
		st, err := file.Stat()
		f.file, f.out, f.regular = file, file, err == nil && st.Mode().IsRegular()
	}
	f.safe = 0
	var err error
	switch {
	case strings.HasSuffix(f.cfg.Path, ".gz"):
		f.pack = newGzip(f.out)
	case strings.HasSuffix(f.cfg.Path, ".zst"):
		f.pack, err = newZstd(f.out)
	}
	return err
}

// wayOut adds to the error of a file that cannot be opened for writing what to do about it.
func wayOut(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: make its folder first", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: name a file in a folder that this user may write to, or - for standard output", err)
	case errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w: name a file in it", err)
	}
	return err
}

// cause returns the error without the path, which is in the text already.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) && error(path) == err {
		return path.Err
	}
	return err
}

// BrokenFile says that a file could not be written to its end, and what it has.
type BrokenFile struct {
	Name   string // with its format
	Frames uint64 // that it has, each of them whole
	Err    error
}

func (e *BrokenFile) Error() string {
	return fmt.Sprintf("deliver: %s: %d frames written: %v", e.Name, e.Frames, e.Err)
}

// Unwrap returns what the system said.
func (e *BrokenFile) Unwrap() error { return e.Err }

func (f *File) broken(err error) error { return &BrokenFile{f.name(), f.frames, cause(err)} }

func (f *File) name() string {
	if f.cfg.Path == "-" {
		return f.cfg.Format.String() + ": standard output"
	}
	return f.cfg.Format.String() + ": " + f.cfg.Path
}

// dropReason is the reason under which frames are lost to an error.
func dropReason(err error) int {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return DropSpace
	}
	return DropWrite
}

// fail notes that nothing more can be written now.
func (f *File) fail(err error) {
	f.err, f.reason = f.broken(err), dropReason(err)
	f.cutBack()
	if f.cfg.Again {
		f.suspend()
	} else if f.cfg.Failed != nil {
		f.cfg.Failed()
	}
}

// cutBack leaves the file as a whole one, for who reads it meanwhile.
func (f *File) cutBack() {
	if f.toSafe() == nil && f.pack != nil && f.safe > 0 && f.file != nil && f.regular {
		_, _ = f.file.Write(f.pack.end)
	}
}

// toSafe cuts the file behind its last whole record, as a part of one would only be in a reader's way, and goes there.
func (f *File) toSafe() error {
	if f.file == nil || !f.regular {
		return nil
	}
	if err := f.file.Truncate(f.safe); err != nil {
		return err
	}
	_, err := f.file.Seek(f.safe, io.SeekStart)
	return err
}

// End ends the file and returns why writing failed, else why.
func (f *File) End(why error) error {
	f.retry(time.Now())
	f.ended = true
	f.foot()
	f.shut()
	f.lose(f.pending) // what a failure has left
	f.pending = 0
	if f.err != nil && !f.cfg.Again {
		return f.err
	}
	return why
}

// foot ends what is in the file.
func (f *File) foot() {
	if f.err == nil {
		f.buf = f.enc.foot(f.buf)
		f.flush(true)
	}
	if f.pack == nil || f.err != nil {
		return
	}
	if err := f.pack.close(); err != nil {
		f.fail(err)
	}
}

// shut closes the file.
func (f *File) shut() {
	if f.file == nil {
		return
	}
	var err error
	if f.regular {
		err = f.file.Sync()
	}
	err = errors.Join(err, f.file.Close())
	f.file = nil
	if f.err == nil && err != nil {
		f.fail(err)
	}
}

// here returns the folder of the file.
func (f *File) here() string { return filepath.Dir(f.cfg.Path) }
