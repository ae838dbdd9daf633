package segment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"crosstap/internal/collect/store"
)

var errNoEngine = errors.New("this build has no query engine (it was built without cgo)")

// view is a pinned list of files. It implements store.View.
type view struct {
	s              *Store
	files          []file
	rolls          []file
	rolled         rolled
	gaps           []store.Gap
	oldest, newest int64
	any            bool
	rollOldest     int64
	rollNewest     int64
	rollAny        bool
	uncertain      []uncertainHour
	pending        int
	scratch        []string // files to remove
	links          []*keptPart
	opening        sync.Mutex
	opened         map[string]openRoll // by the name of the file
	once           sync.Once
}

// View implements store.Reader.
func (s *Store) View(_ context.Context, fromNS, toNS int64) (store.View, error) {
	if s.engine() == nil {
		return nil, fmt.Errorf("segment: %w", errNoEngine)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.cfg.ReadOnly {
		if err := s.refresh(); err != nil {
			return nil, fmt.Errorf("segment: %s: %w", s.cfg.Dir, err)
		}
	}
	v := &view{s: s, pending: s.pending, gaps: s.gapsLocked(fromNS, toNS)}
	v.oldest, v.newest, v.any = s.extentLocked()
	v.rollOldest, v.rollNewest, v.rollAny = v.oldest, v.newest, v.any
	if oldest, newest, ok := extentOf(s.man.rolls); ok && v.rollAny {
		v.rollOldest, v.rollNewest = min(v.rollOldest, oldest), max(v.rollNewest, newest)
	} else if ok {
		v.rollOldest, v.rollNewest, v.rollAny = oldest, newest, true
	}
	fromMS, toMS := floorMS(fromNS), floorMS(toNS-1)+1
	for _, f := range sortedFiles(s.man.live) {
		if f.touches(fromMS, toMS) {
			v.files = append(v.files, f)
			s.pins[f.Name]++
		}
	}
	for _, f := range sortedFiles(s.man.rolls) {
		if f.touches(fromMS, toMS) {
			v.rolls = append(v.rolls, f)
			s.pins[f.Name]++
		}
	}
	for name, f := range s.man.rolls {
		if !isLinks(name) {
			v.uncertain = append(v.uncertain, f.uncertain()...)
		}
	}
	v.rolled = s.rolledLocked(v)
	return v, nil
}

// gapsLocked returns the noted gaps and those that the flusher has not noted yet.
func (s *Store) gapsLocked(fromNS, toNS int64) []store.Gap {
	all := gapLog{gaps: append(append([]store.Gap(nil), s.gaps.gaps...), s.shed.Gaps()...), found: s.gaps.found}
	return all.touching(fromNS, toNS)
}

// Table gives the files' rows, or none with the right columns.
func (v *view) Table() string { return v.s.flowTable(v.files) }

// flowTable is a table expression for the rows of segment files, those of older ones too.
func (s *Store) flowTable(files []file) string {
	var now, old []file
	for _, f := range files {
		if f.Schema >= 2 {
			now = append(now, f)
		} else {
			old = append(old, f)
		}
	}
	var parts []string
	if len(now) > 0 {
		parts = append(parts, "SELECT "+projection+" FROM "+s.tableOf(now, storedColumns))
	}
	if len(old) > 0 {
		parts = append(parts, "SELECT "+namesOf(flowColumns)+" FROM "+complete(s.readFiles(old)+", union_by_name = true)", flowColumns))
	}
	if len(parts) == 0 {
		return emptyTable(flowColumns)
	}
	return "(" + strings.Join(parts, " UNION ALL ") + ")"
}

// tableOf is a table expression for the rows of files with the given stored columns.
func (s *Store) tableOf(files []file, columns []store.Column) string {
	for _, f := range files {
		if f.Columns < len(columns) {
			return complete(s.readFiles(files)+", union_by_name = true)", columns)
		}
	}
	return s.readFiles(files) + ")"
}

// readFiles calls read_parquet, up to the list's end.
func (s *Store) readFiles(files []file) string {
	var b strings.Builder
	b.WriteString("read_parquet([")
	for i, f := range files {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("'" + strings.ReplaceAll(s.path(f.Name), "'", "''") + "'")
	}
	return b.String() + "], " + notPartitioned
}

// notPartitioned is an argument of read_parquet: folders' names are no columns.
const notPartitioned = "hive_partitioning = false"

// lateBound binds that argument. The engine plans each statement twice: when it is prepared and when it is executed. An argument of read_parquet that is not
// known yet ends the first time at once.
func lateBound(query string, args []any) (string, []any) {
	if !strings.Contains(query, notPartitioned) || !allNumbered(query, len(args)) {
		return query, args
	}
	at := "hive_partitioning = $" + strconv.Itoa(len(args)+1)
	return strings.ReplaceAll(query, notPartitioned, at), append(args[:len(args):len(args)], false)
}

// allNumbered reports whether a statement has $1 to $n.
func allNumbered(query string, n int) bool {
	seen := map[int]bool{}
	for part := range strings.SplitSeq(query, "$") {
		end := 0
		for end < len(part) && part[end] >= '0' && part[end] <= '9' {
			end++
		}
		if number, err := strconv.Atoi(part[:end]); err == nil && number >= 1 && number <= n {
			seen[number] = true
		}
	}
	return len(seen) == n
}

// Query runs SQL. When it fails and a pinned file turns out to be damaged, that file is set aside and
// the error is store.ErrStale: a new View answers without it.
func (v *view) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	query, args = lateBound(query, args)
	db := v.s.engine()
	rows, err := db.QueryContext(ctx, query, args...)
	if engineIsLost(err) && ctx.Err() == nil {
		if e := v.s.reopenEngine(db, err); e == nil {
			rows, err = v.s.engine().QueryContext(ctx, query, args...)
		}
	}
	if err == nil {
		return rows, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if v.s.checkFiles(append(v.files[:len(v.files):len(v.files)], v.rolls...)) {
		return nil, fmt.Errorf("segment: %w: %w", store.ErrStale, err)
	}
	return nil, fmt.Errorf("segment: query: %w", err)
}

// checkFiles looks whether all files are there and sound; true means that one was not. The writer sets
// it aside.
func (s *Store) checkFiles(files []file) (changed bool) {
	for _, f := range files {
		err := verify(s.path(f.Name), f)
		if err == nil {
			continue
		}
		changed = true
		if s.cfg.ReadOnly {
			if !errors.Is(err, fs.ErrNotExist) {
				s.ignore(f)
			}
			continue
		}
		s.mu.Lock()
		if s.man.has(f.Name) {
			s.putAside(f, err)
			if err := s.man.append(change{Del: []string{f.Name}}); err != nil {
				s.cfg.Log.Error("the manifest cannot be written", "error", err)
				s.man.forget(f.Name)
			}
		}
		s.mu.Unlock()
	}
	return changed
}

// RowsIn estimates how many rows end in a time range, from what the files say of themselves.
func (v *view) RowsIn(fromNS, toNS int64) (n uint64) {
	from, to := floorMS(fromNS), floorMS(toNS)
	for _, f := range v.files {
		if part := min(to, f.MaxMS+1) - max(from, f.MinMS); part > 0 {
			n += uint64(float64(f.Rows) * float64(part) / float64(f.MaxMS+1-f.MinMS))
		}
	}
	return n
}

// SumsIn tells how many rows the roll-ups have that a range may read.
func (v *view) SumsIn(fromNS, toNS int64) (n uint64) {
	from, to := floorMS(fromNS), floorMS(toNS)
	for _, f := range v.rolls {
		if !isLinks(f.Name) && f.MaxMS >= from && f.MinMS < to {
			n += uint64(f.Rows)
		}
	}
	return n
}

// Uncertain implements store.UncertainView.
func (v *view) Uncertain(_ context.Context, fromNS, toNS int64) (sum store.Uncertain, _ error) {
	for _, u := range v.uncertain {
		if u.HourMS < ceilMS(toNS) && u.HourMS+hourMS > ceilMS(fromNS) {
			sum.Add(u.Uncertain)
		}
	}
	return sum, nil
}

func (v *view) Gaps() []store.Gap { return v.gaps }

func (v *view) Extent() (oldestNS, newestNS int64, ok bool) { return v.oldest, v.newest, v.any }

func (v *view) Pending() int { return v.pending }

// Close lets go of the files.
func (v *view) Close() error {
	v.once.Do(func() {
		for _, path := range v.scratch {
			_ = os.Remove(path) // else the folder goes with the engine
		}
		v.closeRolls()
		v.s.kept.release(v)
		v.s.mu.Lock()
		defer v.s.mu.Unlock()
		for _, f := range append(v.files[:len(v.files):len(v.files)], v.rolls...) {
			if v.s.pins[f.Name]--; v.s.pins[f.Name] == 0 {
				delete(v.s.pins, f.Name)
			}
		}
	})
	return nil
}

// stamp tells whether a file has changed.
type stamp struct {
	size, mtime int64
}

func stampOf(path string) stamp {
	st, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{st.Size(), st.ModTime().UnixNano()}
}

// refresh reads manifest and gap notes again when the writer has changed them. Readers only.
func (s *Store) refresh() error {
	manPath, gapsPath := filepath.Join(s.cfg.Dir, manifestName), filepath.Join(s.cfg.Dir, gapsName)
	if now := stampOf(manPath); s.man == nil || now != s.manStamp {
		man, complete, err := readManifest(manPath)
		if err != nil {
			return err
		}
		if man.damaged || !complete && man.lines == 0 {
			return fmt.Errorf("%s is damaged; a server on this directory, or an import into it, rebuilds it from the files that are there", manPath)
		}
		for name := range s.ignored {
			if !man.has(name) { // the writer has found it, too, and tells what is missing
				delete(s.ignored, name)
				delete(s.gaps.found, name)
			}
			man.forget(name)
		}
		s.man, s.manStamp = man, now
	}
	if now := stampOf(gapsPath); s.gaps == nil || now != s.gapsStamp {
		gaps, err := readGaps(gapsPath)
		if err != nil {
			return err
		}
		if s.gaps != nil {
			gaps.found = s.gaps.found
		}
		s.gaps, s.gapsStamp = gaps, now
	}
	return nil
}

// ignore leaves a damaged file out of what a reader sees, and has its answers tell what is missing; only the writer moves it.
func (s *Store) ignore(f file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ignored[f.Name] {
		return
	}
	if s.ignored == nil {
		s.ignored = map[string]bool{}
	}
	s.ignored[f.Name] = true
	s.man.forget(f.Name)
	s.setAside++
	if gap, is := s.gapOf(f, fileDamaged); is {
		if s.gaps.found == nil {
			s.gaps.found = map[string]store.Gap{}
		}
		s.gaps.found[f.Name] = gap
	}
}
