package agent

import (
	"context"
	"errors"
	"time"
)

// leaseLeft returns how long taps go on without the server.
func (a *Agent) leaseLeft(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lease() - now.Sub(a.contact)
}

// lease returns how long taps go on that do not say themselves. The caller holds mu.
func (a *Agent) lease() time.Duration {
	switch {
	case a.cfg.Lease > 0:
		return a.cfg.Lease
	case a.welcome.Lease > 0:
		return time.Duration(a.welcome.Lease)
	case a.state.Lease > 0:
		return a.state.Lease
	}
	return defaultLease
}

const defaultLease = 5 * time.Minute

// watchLease ends taps whose lease has ended.
func (a *Agent) watchLease(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			a.mu.Lock()
			silent, lease := now.Sub(a.contact), a.lease()
			a.mu.Unlock()
			if ended := a.manager.expire(silent, lease); len(ended) > 0 {
				a.cfg.Log.Warn("the server was silent for too long: taps have ended", "taps", ended, "silent", silent.Round(time.Second))
				a.mu.Lock()
				a.revision = "" // whatever the server says next is news
				a.mu.Unlock()
			}
		}
	}
}

// heard notes that the server has answered.
func (a *Agent) heard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.trouble != "" {
		a.cfg.Log.Info("the server answers again")
	}
	a.contact, a.trouble = time.Now(), ""
}

// missed notes that it has not, and returns how long to wait before the next attempt.
func (a *Agent) missed(err error, wait time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if text := err.Error(); a.trouble != text {
		a.cfg.Log.Warn("the server cannot be asked; taps go on within their lease", "error", err)
		a.trouble = text
	}
	if errors.Is(err, errRefused) {
		return longestWait
	}
	return min(2*wait, longestWait)
}

// touch keeps the time of the last contact on the disk, now and then.
func (a *Agent) touch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.contact.Sub(a.state.Contact) < a.lease()/10 || len(a.state.Taps) == 0 {
		return
	}
	a.state.Contact = a.contact
	_ = a.state.save(a.cfg.State) // said when the taps were kept
}
