package clickhouse

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, recs []flow.Record) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book.In(len(recs))
	for len(recs) > 0 {
		if s.closed {
			s.shedLocked(recs, dropClosed)
			return ErrClosed
		}
		if s.building == nil {
			s.building = s.newBatchLocked()
		}
		n := min(len(recs), s.cfg.MaxPending-s.pending, s.cfg.FlushRows-s.building.rows)
		if n > 0 {
			s.takeLocked(recs[:n])
			recs = recs[n:]
			continue
		}
		if err := s.room.WaitLocked(ctx, &s.mu, s.cfg.AppendWait); err != nil {
			reason := dropSlow
			if s.lastErr != nil {
				reason = dropServer
			}
			s.shedLocked(recs, reason)
			if errors.Is(err, store.ErrNoRoom) {
				return nil
			}
			return err
		}
	}
	return nil
}

var errReadOnly = errors.New("clickhouse: the store is open for reading only")

func (s *Store) newBatchLocked() *batch {
	return &batch{block: s.blockLocked(), token: uuid.NewString(), fromNS: 1<<63 - 1, toNS: -1 << 63}
}

// blockLocked returns an empty block.
func (s *Store) blockLocked() *block {
	n := len(s.spare)
	if n == 0 {
		return newBlock()
	}
	b := s.spare[n-1]
	s.spare = s.spare[:n-1]
	return b
}

// spareLocked keeps a block for the next one who needs one.
func (s *Store) spareLocked(b *block) {
	b.reset()
	if len(s.spare) < 2 {
		s.spare = append(s.spare, b)
	}
}

func (s *Store) takeLocked(recs []flow.Record) {
	b := s.building
	b.add(recs)
	for i := range recs {
		b.fromNS, b.toNS = min(b.fromNS, recs[i].StartNS), max(b.toNS, recs[i].EndNS)
	}
	s.pending += len(recs)
	s.taken += uint64(len(recs))
	s.book.Hold(len(recs))
	if b.rows >= s.cfg.FlushRows {
		s.full, s.building = append(s.full, b), nil
		s.wakeFlusher()
	}
}

func (s *Store) wakeFlusher() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// shedLocked counts records that are not stored, and notes the gap.
func (s *Store) shedLocked(recs []flow.Record, reason int) {
	s.book.Drop(reason, len(recs))
	s.shed.AddRecords(reason, recs)
}

// NoteGap implements store.Store. Notes are stored with the next flush.
func (s *Store) NoteGap(g store.Gap) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.notes) < maxNotes {
		s.notes = append(s.notes, g)
	}
	return nil
}

const maxNotes = 10_000

// AppendPlaced implements store.Placer: it returns when the records are stored. A place that was stored before is not stored again.
func (s *Store) AppendPlaced(ctx context.Context, recs []flow.Record, p store.Place) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	if len(recs) == 0 {
		return nil
	}
	s.book.In(len(recs))
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.book.Drop(dropClosed, len(recs))
		return ErrClosed
	}
	b := s.blockLocked()
	s.mu.Unlock()
	b.add(recs)
	token := p.ID
	if token == "" {
		token = fmt.Sprintf("%s/%d", p.Stream, p.Seq)
	}
	err := s.store(ctx, b, token, p.Again)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spareLocked(b)
	s.lastErr = err
	if err != nil {
		s.book.Drop(dropServer, len(recs)) // who sends it again counts again
		return fmt.Errorf("clickhouse: %w", err)
	}
	s.book.Out(len(recs))
	return nil
}

// Ordered implements store.Placer: places may come in any order.
func (s *Store) Ordered() bool { return false }

// Position implements store.Placer: the server knows what it has.
func (s *Store) Position(string) uint64 { return 0 }
