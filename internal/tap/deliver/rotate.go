package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/urlopt"
)

// Rotation says when a new file begins and how much the files may take. The zero value is one file without bounds.
type Rotation struct {
	Size   int64         // bytes of a file, before compression; 0 for any
	Every  time.Duration // time of a file, aligned to the clock in UTC; 0 for any
	Frames uint64        // in a file; 0 for any
	Files  int           // that are kept, the one under way with them; 0 for all
	Budget int64         // bytes of all files together; 0 for any
	Free   int64         // bytes that stay free on the disk
}

// on reports whether there is any rotation or bound.
func (r Rotation) on() bool { return r != Rotation{} }

// Least values of a rotation, so that files are worth their headers.
const (
	minFileSize  = 64 << 10
	minFileEvery = time.Second
	maxDisk      = 1 << 50
)

// ParseFile reads pcapng:PATH[?OPTIONS] or pcap:PATH[?OPTIONS]. PATH is not escaped, and ends at the first question mark.
func ParseFile(s string) (FileConfig, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	path, query, _ := strings.Cut(rest, "?")
	c := FileConfig{Format: Pcapng, Path: path}
	if scheme == "pcap" {
		c.Format = Pcap
	}
	r := &c.Rotate
	err := urlopt.Once(query, []string{"budget", "every", "files", "frames", "free", "size"}, func(name, value string) (err error) {
		switch name {
		case "size":
			r.Size, err = urlopt.ParseSize(value, minFileSize, maxDisk)
		case "every":
			if r.Every, err = time.ParseDuration(value); err != nil || r.Every < minFileEvery {
				err = fmt.Errorf("want at least %v, such as 1h", minFileEvery)
			}
		case "frames":
			if r.Frames, err = strconv.ParseUint(value, 10, 63); err != nil || r.Frames == 0 {
				err = errors.New("want a number of frames")
			}
		case "files":
			if r.Files, err = strconv.Atoi(value); err != nil || r.Files < 1 {
				err = errors.New("want a number of files")
			}
		case "budget":
			r.Budget, err = urlopt.ParseSize(value, 2*minFileSize, maxDisk)
		case "free":
			r.Free, err = urlopt.ParseSize(value, 1, maxDisk)
		}
		return err
	})
	if err == nil {
		err = c.checkRotation()
	}
	if err != nil {
		return c, fmt.Errorf("deliver: %s: %w", s, err)
	}
	return c, nil
}

// checkRotation completes a rotation and finds its mistakes.
func (c *FileConfig) checkRotation() error {
	r := &c.Rotate
	if !r.on() {
		return nil
	}
	if c.Path == "-" {
		return errors.New("standard output is not rotated")
	}
	const parts = 8 // of the budget, when no size of a file is given
	if r.Budget > 0 && r.Size == 0 {
		r.Size = max(r.Budget/parts, minFileSize)
	}
	if r.Budget > 0 && r.Size > r.Budget/2 {
		return fmt.Errorf("size %s: at most half of the budget of %s, so that an old file can go before a new one is full", urlopt.SizeText(r.Size), urlopt.SizeText(r.Budget))
	}
	if r.Files > 0 && r.Size == 0 && r.Every == 0 && r.Frames == 0 {
		return errors.New("files: say when a new one begins: size, every or frames")
	}
	return nil
}

// Rotating writes frames to files one after the other. Their names have the time of their beginning in UTC and a number in front of
// the ending: web.pcapng.zst becomes web-20260301T120000Z-000001.pcapng.zst. What is removed for a bound is the oldest file with such a
// name, also one of an earlier run, and never the one under way.
type Rotating struct {
	cfg   FileConfig
	book  *ledger.Book
	now   *File // nil between files
	name  string
	began time.Time
	n     uint64 // frames in the file
	bytes int64  // of them, as far as known before they are written
	seq   int
	full  bool // less than the floor is free
	looks int

	removed atomic.Uint64
	closing chan error // of the file before this one

	err    error // why no file can be written
	reason int   // under which frames are dropped therefore
	trial  trial
	faults *faults
}

// NewRotating returns a sink that writes files by c.Rotate. The first one is opened by Run.
func NewRotating(c FileConfig) (*Rotating, error) {
	if err := c.checkRotation(); err != nil {
		return nil, fmt.Errorf("deliver: %s:%s: %w", c.Format, c.Path, err)
	}
	if _, err := NewFile(c); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Rotating{cfg: c, faults: &faults{}, book: ledger.New("deliver", ledger.Frames, fileReasons...), closing: make(chan error, 1)}, nil
}

// Book returns the sink's account.
func (r *Rotating) Book() *ledger.Book { return r.book }

// Where returns the destination as it was given, without its options.
func (r *Rotating) Where() string { return r.cfg.Format.String() + ":" + r.cfg.Path }

// Trouble returns the last failure of files that are tried again, also that the floor of free space has kept frames from the disk.
func (r *Rotating) Trouble() Trouble { return r.faults.Trouble() }

// Removed returns the number of files that were removed to keep the bounds.
func (r *Rotating) Removed() uint64 { return r.removed.Load() }

const lookAtDisk = 5 // flush intervals between looks at the disk

// Run writes the frames of every batch from in, which it releases, until in is closed or ctx ends.
func (r *Rotating) Run(ctx context.Context, in <-chan frame.Batch) error {
	r.closing <- nil
	if err := r.begin(time.Now()); err != nil {
		if !r.cfg.Again || !r.cfg.Unopened {
			return err
		}
		r.fail(err)
	}
	tick := time.NewTicker(flushFile)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return r.finish(nil)
			}
			r.batch(b)
			b.Release()
		case now := <-tick.C:
			r.tick(now)
		case <-ctx.Done():
			return r.finish(ctx.Err())
		}
	}
}

// tick flushes, and begins a new file when it is time.
func (r *Rotating) tick(now time.Time) {
	r.retry(now)
	if r.now != nil {
		r.now.tick(now)
		r.notice()
	}
	if r.looks++; r.looks%lookAtDisk == 0 {
		r.bound()
	}
	if r.due(now) {
		r.turn(now)
	}
}

// due reports whether the time of a file is over.
func (r *Rotating) due(now time.Time) bool {
	return r.now != nil && r.now.err == nil && r.cfg.Rotate.Every > 0 && r.n > 0 && now.Truncate(r.cfg.Rotate.Every).After(r.began.Truncate(r.cfg.Rotate.Every))
}

// batch writes frames, a part to each file.
func (r *Rotating) batch(b frame.Batch) {
	frames := b.Frames
	now := time.Now()
	if r.retry(now); r.due(now) {
		r.turn(now)
	}
	for len(frames) > 0 {
		if r.now == nil || r.full {
			r.lose(len(frames))
			return
		}
		if r.now.err != nil && r.cfg.Again { // it is not one more file with each attempt
			r.now.batch(frame.Batch{Frames: frames, Records: b.Records, Notes: b.Notes})
			return
		}
		if r.trial.lost > 0 {
			r.now.enc.skip(r.trial.lost)
			r.trial.lost = 0
		}
		n, bytes := r.fits(frames)
		if n == 0 {
			r.turn(time.Now())
			continue
		}
		r.now.batch(frame.Batch{Frames: frames[:n], Records: b.Records, Notes: b.Notes})
		r.n += uint64(n)
		r.bytes += bytes
		frames = frames[n:]
		r.notice()
	}
}

// lose counts frames that cannot be written.
func (r *Rotating) lose(n int) {
	reason := r.reason
	if r.full {
		reason = DropSpace
	}
	r.book.In(n)
	r.book.Drop(reason, n)
	r.trial.lost += uint64(n)
}

// perFrame is about what a frame needs besides its bytes.
const perFrame = 44

// fits returns how many of the frames, and their bytes, still belong into the file; a new file takes at least one.
func (r *Rotating) fits(frames []frame.Frame) (n int, bytes int64) {
	most := len(frames)
	if f := r.cfg.Rotate.Frames; f > 0 {
		most = int(min(uint64(most), f-min(r.n, f)))
	}
	for n < most {
		b := int64(len(frames[n].Data)) + perFrame
		if s := r.cfg.Rotate.Size; s > 0 && r.bytes+bytes+b > s && r.n+uint64(n) > 0 {
			break
		}
		n, bytes = n+1, bytes+b
	}
	return n, bytes
}

// turn ends the file and begins the next one. The end, which waits for the disk, is not waited for, unless the one before has not come yet.
func (r *Rotating) turn(now time.Time) {
	if old := r.now; old != nil {
		r.now = nil
		if err := <-r.closing; err != nil && r.err == nil {
			r.fail(err)
		}
		go func() { r.closing <- old.endOne() }()
	}
	if r.err == nil {
		if err := r.begin(now); err != nil {
			r.fail(err)
		}
	}
}

// begin opens the next file.
func (r *Rotating) begin(now time.Time) error {
	c := r.cfg
	c.Failed, c.Unopened, c.Keep = nil, false, false
	for {
		r.seq++
		dir, base, ending := parts(r.cfg.Path)
		c.Path = filepath.Join(dir, fmt.Sprintf("%s-%s-%06d%s", base, now.UTC().Format(nameTime), r.seq, ending))
		if _, err := os.Lstat(c.Path); err != nil {
			break
		}
	}
	f, err := NewFile(c)
	if err == nil {
		f.book, f.faults = r.book, r.faults
		err = f.Begin()
	}
	if err != nil {
		r.seq--
		return err
	}
	r.now, r.name, r.began, r.n, r.bytes = f, c.Path, now, 0, 0
	r.bound()
	return nil
}

const nameTime = "20060102T150405Z"

// parts splits a path into folder, name and ending: .pcapng.zst is one ending.
func parts(path string) (dir, base, ending string) {
	dir, base = filepath.Split(path)
	if i := strings.Index(base, ".pcap"); i > 0 {
		return dir, base[:i], base[i:]
	}
	ending = filepath.Ext(base)
	return dir, strings.TrimSuffix(base, ending), ending
}

// own lists the files of this destination, the oldest first, without the one under way.
func (r *Rotating) own() (names []string) {
	dir, base, ending := parts(r.cfg.Path)
	if dir == "" {
		dir = "."
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), base+"-")
		if middle, ok = cut(middle, ending, ok); !ok || !e.Type().IsRegular() {
			continue
		}
		at, number, _ := strings.Cut(middle, "-")
		_, err := time.Parse(nameTime, at)
		_, notNumber := strconv.ParseUint(number, 10, 63)
		if path := filepath.Join(dir, e.Name()); err == nil && notNumber == nil && filepath.Clean(r.name) != path {
			names = append(names, path)
		}
	}
	slices.Sort(names) // by time, then by number
	return names
}

func cut(s, suffix string, ok bool) (string, bool) {
	if !ok {
		return s, false
	}
	return strings.CutSuffix(s, suffix)
}

// bound removes the oldest files until all bounds hold, and finds out whether the disk is full.
func (r *Rotating) bound() {
	c := &r.cfg.Rotate
	if c.Files == 0 && c.Budget == 0 && c.Free == 0 {
		return
	}
	old := r.own()
	sizes := make([]int64, len(old))
	all := max(fileSize(r.name), c.Size) // what it will have
	for i, name := range old {
		sizes[i] = fileSize(name)
		all += sizes[i]
	}
	free := func() int64 {
		if c.Free == 0 {
			return maxDisk
		}
		return freeSpace(filepath.Dir(r.name))
	}
	for len(old) > 0 && (c.Files > 0 && len(old)+1 > c.Files || c.Budget > 0 && all > c.Budget || free() < c.Free) {
		if err := os.Remove(old[0]); err == nil {
			r.removed.Add(1)
		}
		all -= sizes[0]
		old, sizes = old[1:], sizes[1:]
	}
	r.floor(free() < c.Free)
}

func fileSize(name string) int64 {
	st, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return st.Size()
}

// freeSpace returns what an ordinary user may still write to the file system of a folder; much when it cannot be known.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return maxDisk
	}
	return int64(st.Bavail) * st.Bsize
}
