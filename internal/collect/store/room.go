package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrNoRoom says that no room was made while a caller waited for it.
var ErrNoRoom = errors.New("no room")

// Room is what callers wait for while a store's memory is full. The store's mutex guards it.
type Room struct{ made chan struct{} }

// WaitLocked gives the mutex away until FreeLocked is called, patience is over (ErrNoRoom) or ctx ends.
func (r *Room) WaitLocked(ctx context.Context, mu *sync.Mutex, patience time.Duration) error {
	if r.made == nil {
		r.made = make(chan struct{})
	}
	made := r.made
	mu.Unlock()
	defer mu.Lock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-made:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ErrNoRoom
	}
}

// FreeLocked wakes everybody who waits.
func (r *Room) FreeLocked() {
	if r.made != nil {
		close(r.made)
		r.made = nil
	}
}
