package deliver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"crosstap/internal/urlopt"
)

// fail notes that no file can be written.
func (r *Rotating) fail(err error) {
	r.err, r.reason = err, dropReason(err)
	if !r.cfg.Again {
		if r.cfg.Failed != nil {
			r.cfg.Failed()
		}
		return
	}
	r.trial.after(time.Now())
	if r.faults.begin(err) {
		r.cfg.Log.Warn("files cannot be written: frames for them are lost, and the other destinations go on", "to", r.Where(), "error", err)
	}
}

// notice takes over the failure of a file that is not tried again.
func (r *Rotating) notice() {
	if r.err == nil && r.now.err != nil && !r.cfg.Again {
		r.fail(r.now.err)
	}
}

// retry begins a file, when it is time, after none could be written.
func (r *Rotating) retry(now time.Time) {
	if r.err == nil || !r.cfg.Again || now.Before(r.trial.next) {
		return
	}
	if r.reason == DropSpace {
		if r.bound(); freeSpace(filepath.Dir(r.cfg.Path)) < leastRoom {
			r.trial.next = now.Add(leastTrial)
			return
		}
	}
	r.trial.after(now)
	if err := r.begin(now); err != nil {
		r.err, r.reason = err, dropReason(err)
		r.faults.begin(err)
		return
	}
	r.cfg.Log.Info("files are written again", "to", r.Where(), "frames_lost", r.trial.lost)
	r.err = nil
	r.faults.end()
}

// floor notes whether less is free than the floor.
func (r *Rotating) floor(full bool) {
	if full == r.full {
		return
	}
	r.full = full
	switch err := fmt.Errorf("deliver: %s: less than free=%s is free", r.Where(), urlopt.SizeText(r.cfg.Rotate.Free)); {
	case full:
		r.faults.begin(err)
		r.cfg.Log.Warn("too little is free on the disk: frames for files are lost until there is room", "to", r.Where(), "free", urlopt.SizeText(r.cfg.Rotate.Free))
	case r.err == nil:
		r.faults.end()
		r.cfg.Log.Info("there is room on the disk again", "to", r.Where(), "frames_lost", r.trial.lost)
	}
}

// endOne ends one file of several. One without a frame that could be written is removed.
func (f *File) endOne() error {
	err := f.End(nil)
	if f.err != nil && f.frames == 0 && f.regular {
		_ = os.Remove(f.cfg.Path)
	}
	return err
}

// finish ends the last file and returns why writing failed, else why.
func (r *Rotating) finish(why error) error {
	err := <-r.closing
	if r.now != nil {
		err = errors.Join(err, r.now.endOne())
	}
	r.bound()
	switch {
	case r.cfg.Again:
		if err != nil && r.err == nil {
			r.faults.begin(err)
		}
		return why
	case r.err != nil:
		return r.err
	case err != nil:
		return err
	}
	return why
}
