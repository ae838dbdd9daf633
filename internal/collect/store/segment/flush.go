package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
)

// maxHoursPerFlush bounds the files of one flush: records of more hours than that (broken clocks)
// share a file.
const maxHoursPerFlush = 8

func (s *Store) wakeFlusher() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flushLoop writes full batches at once and whatever there is every FlushInterval.
func (s *Store) flushLoop() {
	defer s.ended.Done()
	tick := time.NewTicker(s.cfg.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
			s.mu.Lock()
			asked := len(s.waiters) > 0
			s.mu.Unlock()
			_ = s.flush(asked)
		case <-tick.C:
			_ = s.flushAll()
			s.dropSpare()
		}
	}
}

// flushAll makes everything durable that was appended before the call.
func (s *Store) flushAll() error { return s.flush(true) }

// flush writes the full batches, and with all the one that is being built. An error stays in lastErr
// until a later flush goes well; the rows are kept for that.
func (s *Store) flush(all bool) error {
	s.mu.Lock()
	if all && s.building != nil {
		s.closeBatchLocked()
	}
	if all && len(s.full) == 0 && len(s.open) > 0 { // places without records
		if s.man.append(change{Places: s.open}) == nil {
			s.open = nil
		}
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if len(s.full) == 0 {
			s.mu.Unlock()
			s.afterFlush(nil)
			return nil
		}
		b := s.full[0]
		s.mu.Unlock()
		err := s.writeBatch(b)
		if err == nil {
			s.settle(b)
		}
		s.afterFlush(err) // after each batch: with a full queue this loop may go on for long
		if err != nil {
			return err
		}
	}
}

// settle takes the oldest batch out of memory: it is durable.
func (s *Store) settle(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Wrote != nil {
		s.cfg.Wrote(b.rows, time.Since(s.due[0]))
	}
	s.full, s.places, s.due = slices.Delete(s.full, 0, 1), slices.Delete(s.places, 0, 1), slices.Delete(s.due, 0, 1)
	s.pending -= b.rows
	s.settled += uint64(b.rows)
	s.book.Hold(-b.rows)
	s.book.Out(b.rows)
	if len(s.spare) < max(s.cfg.MaxPending/s.cfg.FlushRows, keepSpare) {
		b.reset()
		s.spare = append(s.spare, b)
	}
	s.room.FreeLocked()
}

// keepSpare is how many batches' memory is kept; more only for a while after they were in use.
const keepSpare = 2

func (s *Store) dropSpare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > keepSpare {
		s.spare[n-1] = nil
		s.spare = s.spare[:n-1]
	}
}

// afterFlush tells those who wait and saves the notes.
func (s *Store) afterFlush(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.lastErr == nil {
		s.cfg.Log.Error("records are not stored", "dir", s.cfg.Dir, "error", err)
	}
	if err == nil && s.lastErr != nil {
		s.cfg.Log.Info("records are stored again", "dir", s.cfg.Dir)
	}
	s.lastErr = err
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		if s.settled >= w.upto {
			w.done <- nil
			return true
		}
		if err != nil {
			w.done <- fmt.Errorf("segment: flush: %w", err)
			return true
		}
		return false
	})
	s.shed.Note(func(g store.Gap) bool { return s.gaps.note(g) == nil || s.gaps.unsaved > 0 })
	_ = s.gaps.save()
}

// dropRest counts what Close could not write.
func (s *Store) dropRest() {
	s.mu.Lock()
	for _, b := range s.full {
		s.book.Hold(-b.rows)
		s.pending -= b.rows
		reason := s.shedReasonLocked()
		s.book.Drop(reason, b.rows)
		s.shed.Add(reason, b.fromNS, b.toNS, b.rows)
	}
	s.full, s.places, s.due = nil, nil, nil
	err := s.lastErr
	s.mu.Unlock()
	s.afterFlush(err)
}

// isDiskFull reports whether err means that there is no space left.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, errMinFree)
}

var errMinFree = errors.New("the file system is almost full")

// writeBatch makes a batch durable: one file for each hour in it, and one change of the manifest.
func (s *Store) writeBatch(b *batch) error {
	if err := s.checkFree(); err != nil {
		return err
	}
	var added []file
	known := s.agreed()
	undo := func() {
		for _, f := range added {
			remove(s.path(f.Name))
		}
	}
	order := s.sorter.sort(b)
	parts := [][]int32{order}
	if hourOf(s.sorter.first) != hourOf(s.sorter.last) {
		parts = splitByHour(order, b.times(atTEnd))
	}
	for _, idx := range parts {
		f, err := s.writeFile(b, idx)
		if err != nil {
			undo()
			return err
		}
		f.Known = known
		added = append(added, f)
	}
	s.mu.Lock()
	err := s.man.append(change{Add: added, Places: s.places[0]})
	s.mu.Unlock()
	if err != nil {
		undo()
		return fmt.Errorf("manifest: %w", err)
	}
	select {
	case s.tidy <- struct{}{}:
	default:
	}
	return nil
}

func (s *Store) checkFree() error {
	if s.cfg.MinFree < 0 {
		return nil
	}
	free, _, err := s.diskSpace(s.cfg.Dir)
	if err == nil && free < uint64(s.cfg.MinFree) {
		return fmt.Errorf("%w: %d bytes free, %d must stay", errMinFree, free, s.cfg.MinFree)
	}
	return nil
}

// splitByHour splits an order by the hour of t_end. What is beyond the hours with most rows shares the last part.
func splitByHour(order []int32, endMS []int64) [][]int32 {
	count := map[int64]int{}
	for _, at := range endMS {
		count[hourOf(at)]++
	}
	hours := make([]int64, 0, len(count))
	for h := range count {
		hours = append(hours, h)
	}
	slices.SortFunc(hours, func(a, b int64) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	part := map[int64]int{}
	for i, h := range hours {
		part[h] = min(i, maxHoursPerFlush-1)
	}
	parts := make([][]int32, min(len(hours), maxHoursPerFlush))
	for _, i := range order {
		p := part[hourOf(endMS[i])]
		parts[p] = append(parts[p], i)
	}
	return parts
}

// writeFile writes the rows with the given indexes as a level 0 file.
func (s *Store) writeFile(b *batch, order []int32) (file, error) {
	return s.createFile(s.enc0, 0, false, nil, func(e *encoder) error { return e.batch(b, order) })
}

// createFile encodes what fill adds and makes it durable; the manifest does not know it yet.
func (s *Store) createFile(e *encoder, level int, sealed bool, replaces []string, fill func(*encoder) error) (file, error) {
	name, size, err := s.create(func(out io.Writer) error {
		e.reset(out, level, sealed)
		if err := fill(e); err != nil {
			return err
		}
		return e.finish(replaces)
	}, func(id string) string { return fileName(level, e.foot.MinMS, e.foot.MaxMS, id) })
	if err != nil {
		return file{}, err
	}
	return e.describe(name, size), nil
}

// create makes what encode writes durable under the name that is asked for when it is known.
func (s *Store) create(encode func(io.Writer) error, name func(id string) string) (string, int64, error) {
	step()
	tmp, err := os.CreateTemp(s.cfg.Dir, "segment-*.tmp")
	if err != nil {
		return "", 0, err
	}
	size := &countingWriter{to: tmp}
	err = encode(size)
	var id uuid.UUID
	if err == nil {
		id, err = uuid.NewV7()
	}
	var to string
	if err == nil {
		to = name(id.String())
		err = makeDirs(s.root(to), filepath.ToSlash(filepath.Dir(belowKind(to))))
	}
	if err != nil {
		tmp.Close()
		os.Remove(tmp.Name())
		return "", 0, err
	}
	return to, size.n, publish(tmp, s.path(to))
}

// countingWriter counts the bytes written.
type countingWriter struct {
	to io.Writer
	n  int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.n += int64(n)
	return n, err
}
