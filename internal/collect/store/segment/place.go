package segment

import (
	"context"
	"errors"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

var _ store.Placer = (*Store)(nil)

// closeBatchLocked puts the batch that is being built behind those that wait for the disk.
func (s *Store) closeBatchLocked() {
	s.full, s.places, s.due = append(s.full, s.building), append(s.places, s.open), append(s.due, time.Now())
	s.building, s.open = nil, nil
}

// Ordered implements store.Placer.
func (s *Store) Ordered() bool { return true }

// Position implements store.Placer. It is in the manifest, in one line with the files of the records; a manifest that had to be rebuilt from
// files does not know it.
func (s *Store) Position(stream string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.man.places[stream]
}

// AppendPlaced implements store.Placer. The records go into one batch, so that the place is durable exactly when they are. There is no
// shedding: who reads a stream can wait, so it returns when there is room or ctx ends.
func (s *Store) AppendPlaced(ctx context.Context, recs []flow.Record, p store.Place) error {
	if s.cfg.ReadOnly {
		return errors.New("segment: the store is open for reading only")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if p.Seq <= max(s.man.places[p.Stream], s.lastPlaceLocked(p.Stream)) {
		return nil
	}
	for s.pending > 0 && s.pending+len(recs) > s.cfg.MaxPending {
		if err := s.waitForRoomLocked(ctx); err != nil && !errors.Is(err, store.ErrNoRoom) {
			return err
		}
		if s.closed {
			return ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.lastErr != nil {
			return s.lastErr
		}
	}
	if n := s.buildingLocked(); n > 0 && n+len(recs) > s.cfg.FlushRows {
		s.closeBatchLocked()
	}
	s.book.In(len(recs))
	s.addLocked(recs)
	if s.open == nil {
		s.open = map[string]uint64{}
	}
	s.open[p.Stream] = p.Seq
	if s.building.rows >= s.cfg.FlushRows {
		s.closeBatchLocked()
	}
	s.wakeFlusher()
	return nil
}

// lastPlaceLocked is the last place of a stream that waits for the disk.
func (s *Store) lastPlaceLocked(stream string) uint64 {
	last := s.open[stream]
	for _, m := range s.places {
		last = max(last, m[stream])
	}
	return last
}
