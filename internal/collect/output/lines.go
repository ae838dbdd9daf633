package output

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"crosstap/internal/collect/message"
	"crosstap/internal/flow"
)

// LinesConfig says where JSON lines go.
type LinesConfig struct {
	Path  string        // file, or "-" for standard output
	Size  int64         // begins another file above that many bytes; 0 for never by size
	Every time.Duration // begins another file at each whole multiple of it since midnight UTC; 0 for never by time
	Keep  int           // finished files that stay; 0 for all
	Gzip  bool          // finished files are compressed
}

// Validate reports the first mistake.
func (c LinesConfig) Validate() error {
	switch {
	case c.Path == "":
		return errors.New("no path")
	case c.Size != 0 && c.Size < 4096:
		return fmt.Errorf("rotate-size of %d bytes: want 0 or at least 4096", c.Size)
	case c.Every != 0 && (c.Every < time.Second || c.Every > 24*time.Hour):
		return fmt.Errorf("rotate-every %v: want 1s to 24h", c.Every)
	case c.Keep < 0:
		return fmt.Errorf("keep %d files: want 0 or more", c.Keep)
	case c.Path == "-" && (c.Size != 0 || c.Every != 0 || c.Keep != 0 || c.Gzip):
		return errors.New("standard output is not rotated")
	}
	return nil
}

// Lines writes records as JSON lines into a file that is rotated, or to standard output.
type Lines struct {
	*Account
	cfg   LinesConfig
	std   io.Writer
	f     *os.File
	size  int64
	began time.Time // of the stretch of cfg.Every the file is of
	buf   []byte
	tidy  sync.WaitGroup
}

// NewLines makes the sink. It opens nothing.
func NewLines(c LinesConfig) (*Lines, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("output: file %s: %w", c.Path, err)
	}
	return &Lines{Account: NewAccount(), cfg: c, std: os.Stdout}, nil
}

// Run implements Sink. Each slice is written at once, in whole lines. What the disk does not take is dropped and counted; the next
// slice is tried again.
func (l *Lines) Run(ctx context.Context, in <-chan []flow.Record) error {
	defer l.tidy.Wait()
	defer l.close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case batch, ok := <-in:
			if !ok {
				return nil
			}
			l.In(len(batch))
			if err := l.write(batch, time.Now()); err != nil {
				l.Drop(DropFailed, len(batch), err)
			}
		case now := <-tick.C:
			if l.f != nil && l.due(now, 0) {
				l.Fail(l.rotate(now))
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write puts a batch into the file, or standard output.
func (l *Lines) write(batch []flow.Record, now time.Time) error {
	l.buf = l.buf[:0]
	for i := range batch {
		l.buf = append(message.AppendJSON(l.buf, &batch[i]), '\n')
	}
	if l.cfg.Path == "-" {
		if _, err := l.std.Write(l.buf); err != nil {
			return err
		}
		l.Out(len(batch), len(l.buf))
		return nil
	}
	if err := l.ready(now); err != nil {
		return err
	}
	n, err := l.f.Write(l.buf)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, l.f.Truncate(l.size)) // no half lines
		}
		l.close()
		return err
	}
	l.size += int64(n)
	l.Out(len(batch), n)
	return nil
}

// ready opens the file, a new one when that is due.
func (l *Lines) ready(now time.Time) error {
	if l.f == nil {
		if err := l.open(now); err != nil {
			return err
		}
	}
	if l.due(now, len(l.buf)) {
		if err := l.rotate(now); err != nil {
			return err
		}
		return l.open(now)
	}
	return nil
}

func (l *Lines) open(now time.Time) error {
	f, err := os.OpenFile(l.cfg.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size, l.began = f, info.Size(), l.stretch(now)
	if l.size > 0 { // of an earlier run
		l.began = l.stretch(info.ModTime())
	}
	return nil
}

func (l *Lines) close() {
	if l.f != nil {
		l.Fail(l.f.Close())
		l.f = nil
	}
}

// stretch returns the begin of the stretch of Every that t is in.
func (l *Lines) stretch(t time.Time) time.Time {
	if l.cfg.Every == 0 {
		return time.Time{}
	}
	return t.UTC().Truncate(l.cfg.Every)
}

// due reports whether another file is to begin before more bytes are written.
func (l *Lines) due(now time.Time, more int) bool {
	if l.size == 0 {
		return false
	}
	return l.cfg.Size > 0 && l.size+int64(more) > l.cfg.Size || !l.stretch(now).Equal(l.began)
}

// rotate finishes the file under a name with the time; it is compressed, and the oldest are deleted, beside the line.
func (l *Lines) rotate(now time.Time) error {
	l.close()
	name := l.finished(now)
	if err := os.Rename(l.cfg.Path, name); err != nil {
		return err
	}
	l.tidy.Wait() // one at a time
	l.tidy.Go(func() {
		if l.cfg.Gzip {
			l.Fail(compress(name))
		}
		l.Fail(l.expire())
	})
	return nil
}

// finished returns a name that is not in use: flows.jsonl becomes flows-20260102T030405.000Z.jsonl.
func (l *Lines) finished(now time.Time) string {
	stem, ext := l.stem()
	for ; ; now = now.Add(time.Millisecond) {
		name := stem + now.UTC().Format(stamp) + ext
		if !exists(name) && !exists(name+gzipSuffix) {
			return name
		}
	}
}

const stamp = "20060102T150405.000Z"

const gzipSuffix = ".gz"

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// stem splits the path around the place of the time.
func (l *Lines) stem() (before, ext string) {
	ext = filepath.Ext(l.cfg.Path)
	return strings.TrimSuffix(l.cfg.Path, ext) + "-", ext
}

// expire deletes the oldest finished files beyond Keep.
func (l *Lines) expire() error {
	if l.cfg.Keep == 0 {
		return nil
	}
	stem, ext := l.stem()
	entries, err := os.ReadDir(filepath.Dir(stem))
	if err != nil {
		return err
	}
	prefix := filepath.Base(stem)
	var mine []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, gzipSuffix), ext)
		if _, err := time.Parse(stamp, rest); ok && err == nil {
			mine = append(mine, e.Name())
		}
	}
	slices.Sort(mine)
	var errs []error
	for _, name := range mine[:max(len(mine)-l.cfg.Keep, 0)] {
		errs = append(errs, os.Remove(filepath.Join(filepath.Dir(stem), name)))
	}
	return errors.Join(errs...)
}

// compress replaces a file by its compressed form.
func compress(name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := name + gzipSuffix + ".tmp"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	z, _ := gzip.NewWriterLevel(out, gzip.BestSpeed) // the level is valid
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return errors.Join(os.Rename(tmp, name+gzipSuffix), os.Remove(name))
}
