package deliver

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Trouble is the last failure of a destination.
type Trouble struct {
	Err       error // nil when there was none
	At        time.Time
	Recovered time.Time // zero while it lasts
}

// faults remembers the last failure. It is asked by any goroutine.
type faults struct {
	mu   sync.Mutex
	last Trouble
}

// begin notes a failure and reports whether it is new.
func (f *faults) begin(err error) (fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh = f.last.Err == nil || !f.last.Recovered.IsZero()
	if fresh {
		f.last.At = time.Now()
	}
	f.last.Err, f.last.Recovered = err, time.Time{}
	return fresh
}

// end notes that it is over.
func (f *faults) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.Err != nil && f.last.Recovered.IsZero() {
		f.last.Recovered = time.Now()
	}
}

// Trouble returns the last failure.
func (f *faults) Trouble() Trouble {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// Trouble returns the last failure of a file that is tried again.
func (f *File) Trouble() Trouble { return f.faults.Trouble() }

// trial is when and how a file is tried again.
type trial struct {
	next  time.Time
	pause time.Duration
	never bool      // a pipe whose reader is gone does not come back
	lost  uint64    // frames since the last one that was taken
	well  time.Time // since when it goes well
}

// Pauses between attempts to write to a file. One whose disk is full is tried as soon as there is room.
const (
	leastTrial = time.Second
	mostTrial  = 15 * time.Second
	leastRoom  = 1 << 20 // bytes, below which a disk is still full
)

// after notes that an attempt has failed.
func (t *trial) after(now time.Time) {
	if t.pause = min(max(2*t.pause, leastTrial), mostTrial); !t.well.IsZero() && now.Sub(t.well) > mostTrial {
		t.pause = leastTrial
	}
	t.next = now.Add(t.pause)
}

// suspend puts off writing. What was encoded and could not be written waits; what comes is lost.
func (f *File) suspend() {
	f.trial.after(time.Now())
	f.trial.never = f.cfg.Path == "-"
	if !f.faults.begin(f.err) || f.ended {
		return
	}
	again := "when it can be"
	if f.trial.never {
		again = "never"
	}
	f.cfg.Log.Warn("a file cannot be written: its frames are lost, and the other destinations go on", "to", f.Where(), "error", f.err, "again", again)
}

// retry makes the file ready to be written again, when it is time.
func (f *File) retry(now time.Time) {
	if f.err == nil || !f.cfg.Again || f.trial.never || now.Before(f.trial.next) {
		return
	}
	if f.reason == DropSpace && freeSpace(f.here()) < leastRoom {
		f.trial.next = now.Add(leastTrial)
		return
	}
	if err := f.reopen(); err != nil {
		f.err, f.reason = f.broken(err), dropReason(err)
		f.suspend()
		return
	}
	f.err = nil
	if f.flush(true); f.err != nil {
		return
	}
	f.cfg.Log.Info("the file is written again", "to", f.Where(), "frames_lost", f.trial.lost)
	f.enc.skip(f.trial.lost)
	f.trial.lost, f.trial.well = 0, now
	f.faults.end()
}

// reopen finds the file's end again, or makes it.
func (f *File) reopen() error {
	if f.file == nil || !f.regular { // who opens a pipe anew has read nothing
		f.lose(f.pending)
		f.pending, f.buf = 0, f.buf[:0]
		f.enc.again()
		if f.file != nil {
			return nil
		}
		if f.cfg.Keep {
			return f.openNew()
		}
		return f.open(os.O_EXCL)
	}
	err := f.toSafe()
	if err == nil && f.pack != nil {
		err = f.pack.resume()
	}
	return err
}

var errOther = errors.New("it was removed, and another file stands in its place")

// present looks whether the file is still where it was made. One that was moved or removed is ended, and a new one begins at its place: nobody would find what is
// written to the old one.
func (f *File) present() {
	if f.file == nil || !f.regular || f.err != nil {
		return
	}
	st, err := f.file.Stat()
	if err != nil {
		return
	}
	there, err := os.Stat(f.cfg.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.beginNew(f.open)
	case err == nil && !os.SameFile(st, there) && links(st) == 0:
		f.beginNew(func(int) error { return errOther })
	}
}

// beginNew ends the file, and begins the one that open opens.
func (f *File) beginNew(open func(how int) error) {
	f.foot()
	if f.shut(); f.err != nil {
		return
	}
	f.enc.again()
	if err := open(os.O_EXCL); err != nil {
		f.fail(fmt.Errorf("it was removed: %w", err))
		return
	}
	f.cfg.Log.Warn("a file was moved or removed while it was written: a new one begins", "to", f.Where(), "frames_before", f.frames)
}

// links returns the number of names of a file.
func links(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink)
	}
	return 1
}
