package tap

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tap/deliver/tunnel"
)

// remote is a destination that is opened before the capture begins: its way is looked at, and our own copies on it are kept out of the capture.
type remote interface {
	Open(ctx context.Context) error
	Close()
	Exclusion() string // "" for none
}

func unescape(s string) (string, error) { return url.PathUnescape(s) }

// newTunnel returns the branch of a destination that copies are sent to in packets.
func (t *Tap) newTunnel(to, rest string, o own) (*branch, error) {
	target, err := tunnel.Parse(rest)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	sink, err := tunnel.New(tunnel.Config{
		Target: target, Tapped: t.spec.Interfaces, TappedNetNS: t.spec.NetNS, Patient: t.spec.File != "", Log: t.spec.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	b, err := t.newBranch(to, o, sink, true)
	if err != nil {
		return nil, err
	}
	t.remotes = append(t.remotes, sink)
	return b, nil
}

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
			return fmt.Errorf("tap: %w", err)
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
