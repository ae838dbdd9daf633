package kernel

import (
	"context"
	"errors"
	"time"
)

const lookInterval = time.Second // for interfaces that go and come, and for the lease

// look renews the lease, and attaches to interfaces that have come back.
func (l *line) look() {
	l.change.Lock()
	defer l.change.Unlock()
	if l.lease != nil {
		if err := l.lease.renew(); err != nil {
			l.log.Error("lease not renewed", "error", err)
		}
		l.sweepLate()
	}
	if l.waits || l.off || l.ended {
		return
	}
	now := l.present()
	for point, name := range l.cfg.Interfaces {
		l.mu.Lock()
		was := l.index[point]
		l.mu.Unlock()
		switch is := now[name]; {
		case is == was:
		case was != 0:
			l.log.Warn("interface is gone; waiting for one of its name", "interface", name)
			l.leave(uint32(point))
		default:
			if err := l.join(uint32(point)); err != nil {
				l.log.Warn("interface is back, but the program cannot be attached", "interface", name, "error", err)
			}
		}
	}
}

// sweepLate removes the filters of a process that was killed so shortly before this one began that their lease had not ended.
func (l *line) sweepLate() {
	if l.late.IsZero() || time.Now().Before(l.late) {
		return
	}
	gone, err := Sweep(l.cfg.NetNS)
	for _, g := range gone {
		if !g.Ended {
			l.log.Info("removed what a process that was killed had left", "interface", g.Interface)
		}
	}
	switch l.late = (time.Time{}); {
	case errors.Is(err, errBusy):
		l.late = time.Now().Add(Lease)
	case err != nil:
		l.log.Warn("filters of processes that were killed stay", "error", err)
	}
}

// tend calls f, and beside it look, until ctx ends. However long f takes, the lease is renewed.
func (l *line) tend(ctx context.Context, interval time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		every(ctx, lookInterval, l.look)
	}()
	every(ctx, interval, f)
	<-done
}

func every(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}
