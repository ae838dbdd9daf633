package clickhouse

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ClickHouse/ch-go"
)

// flushLoop stores full batches at once and whatever there is every FlushInterval.
func (s *Store) flushLoop(ctx context.Context) {
	defer s.ended.Done()
	tick := time.NewTicker(s.cfg.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			_ = s.flush(ctx, false)
		case <-tick.C:
			_ = s.flush(ctx, true)
			s.readStats(ctx)
		}
	}
}

// insertWait bounds one attempt to store a batch.
const insertWait = time.Minute

// flush stores the full batches, and with all what is being built. What the server does not take stays for the next time.
func (s *Store) flush(ctx context.Context, all bool) error {
	s.send.Lock()
	defer s.send.Unlock()
	s.mu.Lock()
	if all && s.building != nil && s.building.rows > 0 {
		s.full, s.building = append(s.full, s.building), nil
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if len(s.full) == 0 {
			s.mu.Unlock()
			err := s.saveNotes(ctx)
			s.afterFlush(err)
			return err
		}
		b := s.full[0]
		s.mu.Unlock()
		err := s.store(ctx, b.block, b.token, b.tried)
		b.tried = true
		if err == nil {
			s.settle(b)
		}
		s.afterFlush(err)
		if err != nil {
			return err
		}
	}
}

func insertSettings(token string) []ch.Setting {
	return []ch.Setting{
		{Key: "insert_deduplication_token", Value: token}, {Key: "insert_deduplicate", Value: "1"}, {Key: "deduplicate_blocks_in_dependent_materialized_views", Value: "1"},
		{Key: "distributed_foreground_insert", Value: "1"}, {Key: "async_insert", Value: "0"}, {Key: "max_partitions_per_insert_block", Value: "0"},
	}
}

// settle takes the oldest batch out of memory.
func (s *Store) settle(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := b.rows
	s.full = slices.Delete(s.full, 0, 1)
	s.pending -= n
	s.settled += uint64(n)
	s.book.Hold(-n)
	s.book.Out(n)
	s.spareLocked(b.block)
	s.room.FreeLocked()
}

// afterFlush tells those who wait.
func (s *Store) afterFlush(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.lastErr == nil {
		s.cfg.Log.Error("records are not stored", "store", s.cfg.String(), "error", err)
	}
	if err == nil && s.lastErr != nil {
		s.cfg.Log.Info("records are stored again", "store", s.cfg.String())
	}
	s.lastErr = err
}

// Flush implements store.Store.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.closed || s.cfg.ReadOnly {
		s.mu.Unlock()
		return nil
	}
	upto := s.taken
	s.mu.Unlock()
	for {
		err := s.flush(ctx, true)
		s.mu.Lock()
		settled := s.settled >= upto
		s.mu.Unlock()
		if settled || err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}
