package tap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/deliver/tunnel"
)

// remote is a destination that is opened before the capture begins: its way is looked at, and our own copies on it are kept out of the capture.
type remote interface {
	Open(ctx context.Context) error
	Close()
	Exclusion() string // "" for none
}

// newRemote returns the branch of a destination on the network, or of an interface.
func (t *Tap) newRemote(d frameTo) (*branch, error) {
	b, err := t.newBranch(d.to, d.own, nil, true)
	if err != nil {
		return nil, err
	}
	if d.stream != nil {
		c := deliver.StreamConfig{Target: *d.stream, Tapped: t.spec.Interfaces, TappedNetNS: t.spec.NetNS, Patient: t.spec.File != "", Log: t.spec.Log}
		t.describe(&c.File)
		d.own.tell(&c.File)
		b.label(&c.File)
		s, err := deliver.NewStream(c)
		if err != nil {
			return nil, fmt.Errorf("tap: %w", err)
		}
		b.frameSink, t.remotes = s, append(t.remotes, s)
		return b, nil
	}
	s, err := tunnel.New(tunnel.Config{
		Target: *d.tunnel, Tapped: t.spec.Interfaces, TappedNetNS: t.spec.NetNS, IngressOnly: t.spec.IngressOnly, Patient: t.spec.File != "", Log: t.spec.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	b.frameSink, t.remotes = s, append(t.remotes, s)
	return b, nil
}

// newFile returns the sink of a capture file, or of files that are rotated.
func (t *Tap) newFile(d frameTo) (frameSink, error) {
	c := *d.file
	t.describe(&c)
	plain := c.Rotate == deliver.Rotation{}
	c.Again = t.goesOn(&c)
	if plain && d.own == (own{}) && t.governed == nil && !(t.to.several() && t.spec.File == "") {
		return deliver.NewFile(c)
	}
	b, err := t.newBranch(d.to, d.own, nil, false)
	if err != nil {
		return nil, err
	}
	d.own.tell(&c)
	b.label(&c)
	if plain {
		b.frameSink, err = deliver.NewFile(c)
	} else {
		b.frameSink, err = deliver.NewRotating(c)
	}
	return b, err
}

// goesOn reports whether the tap goes on when a file cannot be written: others have their frames, or the user wants it to last, which bounds of the disk's use tell.
// What comes meanwhile is lost and counted. Otherwise the tap ends with an error, as nothing else would come of it.
func (t *Tap) goesOn(c *deliver.FileConfig) bool {
	bound := c.Rotate.Files > 0 || c.Rotate.Budget > 0 || c.Rotate.Free > 0
	return t.to.several() || t.spec.Persist || bound && t.spec.File == ""
}

// tell has a file tell what was done with frames for it alone.
func (o own) tell(c *deliver.FileConfig) {
	c.Masked = c.Masked || o.groom != nil && o.groom.Mask != nil
	switch {
	case o.filter == "":
	case c.Filter == "":
		c.Filter = o.filter
	default:
		c.Filter = "(" + c.Filter + ") and (" + o.filter + ")"
	}
}

// label has a file tell the labels that the branch's own tag step gives.
func (b *branch) label(c *deliver.FileConfig) {
	if b.groom == nil {
		return
	}
	if label := b.groom.Labels(); label != nil {
		c.Label = label
	}
}

// DestinationError says why a destination refused to begin.
type DestinationError struct{ Err error }

func (e *DestinationError) Error() string { return "tap: " + e.Err.Error() }

// Unwrap returns what the destination said.
func (e *DestinationError) Unwrap() error { return e.Err }

// openRemotes looks at the ways of all destinations, and has the kernel keep our own copies out of the capture. When one refuses, all are
// closed again.
func (t *Tap) openRemotes(ctx context.Context) error {
	if len(t.remotes) > 0 {
		t.checkClock()
	}
	var exclusions []string
	for i, r := range t.remotes {
		if err := r.Open(ctx); err != nil {
			for _, r := range t.remotes[:i] {
				r.Close()
			}
			return &DestinationError{err}
		}
		if e := r.Exclusion(); e != "" {
			exclusions = append(exclusions, "("+e+")")
		}
	}
	if t.live != nil && len(exclusions) > 0 {
		t.kernel.guard = "not (" + strings.Join(exclusions, " or ") + ")"
		if t.spec.Log != nil {
			t.spec.Log.Info("our own copies are kept out of the capture", "filter", t.kernel.guard)
		}
	}
	return nil
}

// oldest is a time that no clock can have gone back behind.
var oldest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// checkClock warns of a clock that time stamps cannot be trusted by.
func (t *Tap) checkClock() {
	if t.spec.Log == nil {
		return
	}
	if now := time.Now(); now.Before(oldest) {
		t.spec.Log.Warn("the clock is wrong: time stamps of copies will be, too", "now", now.UTC().Format(time.RFC3339))
	}
	var x unix.Timex
	if state, err := unix.Adjtimex(&x); err == nil && (state == unix.TIME_ERROR || x.Status&unix.STA_UNSYNC != 0) {
		t.spec.Log.Info("the kernel does not know its clock to be synchronized: time stamps of copies are this host's own")
	} else if err != nil && !errors.Is(err, unix.EPERM) {
		t.spec.Log.Debug("clock", "error", err)
	}
}
