// Package segment is the embedded store: sorted Parquet files written in Go, read by DuckDB.
//
// Records wait in memory for at most the flush interval and then become a level 0 file (write to a
// temporary name, fsync, rename, fsync of the folder, one line in the manifest). Small files of one
// hour are merged; some minutes after its end the hour is sealed: the canonical rows are settled
// across all observers and its files become level 1. Reports see a pinned list of files, so nothing
// they read changes under them. An appended record is durable when Flush returns; kill -9 loses at
// most the flush interval.
//
//	DIR/LOCK                      the writer's lock; readers take none
//	DIR/MANIFEST                  list of live files, a log
//	DIR/GAPS                      notes about missing records, JSON lines
//	DIR/COUNTS                    what hypervisors count at adapters, a log
//	DIR/flows/v1/YYYYMMDD/HH/     segment files, by the hour of their newest t_end (UTC)
//	DIR/r1h/v1/YYYYMMDD/HH/       roll-ups of sealed hours, merged for six hours and for days
//	DIR/links/v1/YYYYMMDD/HH/     what merged roll-ups add up to without hours
//	DIR/links6h/v1/YYYYMMDD/HH/   the same for the quarters of days
//	DIR/aside/                    files found damaged
//	DIR/spill/                    what questions work out, while the writer lives
package segment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// Errors of Open and Append.
var (
	ErrLocked = errors.New("another process writes this store")
	ErrClosed = errors.New("segment: the store is closed")
)

// Reasons under which records are not stored.
const (
	dropDiskFull = iota
	dropWriteError
	dropSlowDisk
	dropClosed
)

var dropReasons = []string{"disk full", "write error", "slow disk", "closed"}

// Store is an open store directory.
type Store struct {
	cfg       Config
	table     string // folder of the flow segments
	book      *ledger.Book
	lock      *os.File
	engines   sync.Mutex
	db        *sql.DB   // the query engine; nil in a build without it; engines guards it
	spill     string    // folder for what does not fit in its memory
	spills    *spillDir // ReadOnly: the same, to remove
	diskSpace func(dir string) (free, total uint64, err error)
	questions chan struct{} // holds a token for each process of a question
	enc0      *encoder      // used by the flusher only
	sorter    sorter        // too
	agreement agreement     // too
	sweeping  bool          // this round of tidying corrects sealed hours; keep guards it
	swept     time.Time     // when one last did

	wake  chan struct{} // a batch is full, or Flush was called
	tidy  chan struct{} // a file was added
	stop  chan struct{}
	ended sync.WaitGroup
	hasty atomic.Bool // hours are sealed as soon as they are over
	keep  sync.Mutex  // held while files are merged, sealed or expired

	mu        sync.Mutex
	closed    bool
	building  *batch              // nil for none
	full      []*batch            // waiting for the disk, oldest first
	places    []map[string]uint64 // of full: the last places of streams in each
	due       []time.Time         // of full: since when
	open      map[string]uint64   // the same of building
	spare     []*batch            // empty
	pending   int                 // rows in building and full
	taken     uint64              // rows ever taken by Append
	settled   uint64              // of taken: durable or shed, in order
	room      store.Room          // made when pending shrinks
	waiters   []waiter
	shed      store.Shed // not noted yet
	lastErr   error      // of the last flush
	man       *manifest
	gaps      *gapLog
	pins      map[string]int
	doomed    []doomedFile // replaced or expired, oldest first
	setAside  uint64
	earlySaid time.Time
	ignored   map[string]bool // ReadOnly: damaged files
	manStamp  stamp           // ReadOnly: the manifest last read
	gapsStamp stamp

	kept keptLinks

	countsMu    sync.Mutex // guards what is counted at adapters
	counts      *countLog
	countsStamp stamp // ReadOnly
}

type waiter struct {
	upto uint64
	done chan error
}

var _ store.Store = (*Store)(nil)
var _ store.Reader = (*Store)(nil)

// Open opens the store in cfg.Dir, creating it when needed, and repairs what a crash left behind.
// With ReadOnly it only reads what a writer has stored, also while that runs.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	abs, err := filepath.Abs(cfg.Dir)
	if err != nil || cfg.Dir == "" {
		return nil, fmt.Errorf("segment: directory %q: %w", cfg.Dir, errors.Join(err, errors.New("a path is needed")))
	}
	cfg.Dir = abs
	s := &Store{
		cfg: cfg, table: filepath.Join(abs, "flows", "v1"),
		book: ledger.New("store", ledger.Records, dropReasons...),
		wake: make(chan struct{}, 1), tidy: make(chan struct{}, 1), stop: make(chan struct{}),
		diskSpace: diskSpace, shed: store.Shed{Reasons: dropReasons}, pins: map[string]int{}, questions: make(chan struct{}, sqlAtOnce),
	}
	open := s.openForWriting
	if cfg.ReadOnly {
		open = s.openForReading
	}
	if err = open(); err == nil && !cfg.ReadOnly {
		err = s.openCounts()
	}
	if err != nil {
		s.release()
		return nil, fmt.Errorf("segment: %s: %w", abs, err)
	}
	s.spill = filepath.Join(abs, "spill")
	if cfg.ReadOnly { // the store is not to be changed
		if s.spills, err = newSpillDir(); err != nil {
			s.release()
			return nil, fmt.Errorf("segment: %s: folder for large questions: %w; set TMPDIR to one that can be written", abs, err)
		}
		s.spill = s.spills.path
	} else if err = os.RemoveAll(s.spill); err != nil { // of a writer that was killed
		s.release()
		return nil, fmt.Errorf("segment: %s: %w", abs, err)
	}
	if s.db, err = openEngine(cfg, s.spill); err != nil {
		_ = s.spills.remove() // swept by the next reader
		s.release()
		return nil, fmt.Errorf("segment: %s: query engine: %w", abs, err)
	}
	if !cfg.ReadOnly {
		s.enc0 = newEncoder(0)
		s.ended.Add(2)
		go s.flushLoop()
		go s.tidyLoop()
	}
	return s, nil
}

// release closes what Open has opened.
func (s *Store) release() {
	if s.man != nil {
		s.man.close()
	}
	if s.gaps != nil && s.gaps.f != nil {
		s.gaps.f.Close()
	}
	s.countsMu.Lock()
	defer s.countsMu.Unlock()
	s.counts.close()
	if s.lock != nil {
		s.lock.Close()
	}
}

func (s *Store) openForReading() (err error) {
	if _, err := os.Stat(filepath.Join(s.cfg.Dir, manifestName)); err != nil {
		return fmt.Errorf("no store here: %w", err)
	}
	return s.refresh()
}

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, recs []flow.Record) error {
	if s.cfg.ReadOnly {
		return fmt.Errorf("segment: %s is open for reading only", s.cfg.Dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book.In(len(recs))
	for len(recs) > 0 {
		if s.closed {
			s.shedLocked(recs, dropClosed)
			return ErrClosed
		}
		n := min(len(recs), s.cfg.MaxPending-s.pending, s.cfg.FlushRows-s.buildingLocked())
		if n > 0 {
			s.takeLocked(recs[:n])
			recs = recs[n:]
			continue
		}
		if err := s.waitForRoomLocked(ctx); err != nil {
			s.shedLocked(recs, s.shedReasonLocked())
			if errors.Is(err, store.ErrNoRoom) {
				return nil
			}
			return err
		}
	}
	return nil
}

// takeLocked takes records that have room.
func (s *Store) takeLocked(recs []flow.Record) {
	if s.addLocked(recs); s.building.rows >= s.cfg.FlushRows {
		s.closeBatchLocked()
		s.wakeFlusher()
	}
}

// addLocked adds records to the batch that is being built.
func (s *Store) addLocked(recs []flow.Record) {
	if s.building == nil {
		s.building = s.spareLocked()
	}
	s.building.add(recs)
	s.pending += len(recs)
	s.taken += uint64(len(recs))
	s.book.Hold(len(recs))
}

// buildingLocked is how many rows are in the batch that is being built.
func (s *Store) buildingLocked() int {
	if s.building == nil {
		return 0
	}
	return s.building.rows
}

func (s *Store) spareLocked() *batch {
	if n := len(s.spare); n > 0 {
		b := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return b
	}
	return newBatch()
}

// waitForRoomLocked gives the mutex away until rows have been written, AppendWait is over or ctx ends.
// While the disk refuses everything there is no point in waiting.
func (s *Store) waitForRoomLocked(ctx context.Context) error {
	if s.lastErr != nil {
		return store.ErrNoRoom
	}
	return s.room.WaitLocked(ctx, &s.mu, s.cfg.AppendWait)
}

func (s *Store) shedReasonLocked() int {
	switch {
	case s.lastErr == nil:
		return dropSlowDisk
	case isDiskFull(s.lastErr):
		return dropDiskFull
	}
	return dropWriteError
}

// shedLocked counts records that are not stored; the gap is noted by the flusher.
func (s *Store) shedLocked(recs []flow.Record, reason int) {
	s.book.Drop(reason, len(recs))
	s.shed.AddRecords(reason, recs)
}

// NoteGap implements store.Store. The note counts at once; an error says that it could not be made
// durable yet, which the next flush tries again.
func (s *Store) NoteGap(g store.Gap) error {
	if s.cfg.ReadOnly {
		return fmt.Errorf("segment: %s is open for reading only", s.cfg.Dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.gaps.note(g); err != nil {
		return fmt.Errorf("segment: gap note: %w", err)
	}
	return nil
}

// Flush implements store.Store.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.closed || s.cfg.ReadOnly || s.settled >= s.taken {
		s.mu.Unlock()
		return nil
	}
	w := waiter{upto: s.taken, done: make(chan error, 1)}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	s.wakeFlusher()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements store.Store. What the disk does not take now is counted as dropped.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.ended.Wait()
	var err error
	if !s.cfg.ReadOnly {
		err = s.flushAll()
		s.dropRest()
		s.unlinkDoomed(true)
	}
	if db := s.engine(); db != nil {
		err = errors.Join(err, closeEngine(db, s.spill))
	}
	err = errors.Join(err, s.spills.remove())
	s.release()
	if err != nil {
		return fmt.Errorf("segment: close: %w", err)
	}
	return nil
}

// Stats implements store.Store.
func (s *Store) Stats() store.Stats {
	free, _, _ := s.diskSpace(s.cfg.Dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := store.Stats{Book: s.book.Read(), PendingRows: s.pending, SetAside: s.setAside, Files: len(s.man.live), FreeBytes: free}
	for _, f := range s.man.rolls {
		if !isLinks(f.Name) {
			st.RollupRows += uint64(f.Rows)
		}
		st.RollupBytes += uint64(f.Bytes)
	}
	st.UnmergedRollups = s.unmergedLocked()
	for _, f := range s.man.live {
		st.Rows += uint64(f.Rows)
		st.Bytes += uint64(f.Bytes)
		if f.Sealed {
			st.SealedFiles++
		}
	}
	if oldest, newest, ok := s.extentLocked(); ok {
		st.OldestNS, st.NewestNS = oldest, newest
	}
	if s.lastErr != nil {
		st.LastError = s.lastErr.Error()
	}
	return st
}

// extentLocked returns the oldest and newest t_end of rows in nanoseconds.
func (s *Store) extentLocked() (oldest, newest int64, ok bool) { return extentOf(s.man.live) }

func extentOf(live map[string]file) (oldest, newest int64, ok bool) {
	for _, f := range live {
		if !ok || f.MinMS < oldest {
			oldest = f.MinMS
		}
		if !ok || f.MaxMS > newest {
			newest = f.MaxMS
		}
		ok = true
	}
	return oldest * 1e6, newest * 1e6, ok
}
