package segment

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// unlinkGrace is how long a replaced file stays for readers in other processes.
	unlinkGrace = 10 * time.Second
	// tidyPause is the pause after a failure, such as a full disk.
	tidyPause = 30 * time.Second
)

// tidyLoop merges, seals and expires in the background.
func (s *Store) tidyLoop() {
	defer s.ended.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var pause time.Time
	for {
		select {
		case <-s.stop:
			return
		case <-s.tidy:
		case <-tick.C:
		}
		s.unlinkDoomed(false)
		if time.Now().Before(pause) {
			continue
		}
		if err := s.Tidy(); err != nil && !errors.Is(err, errStopped) {
			s.cfg.Log.Error("segment files cannot be tidied", "dir", s.cfg.Dir, "error", err, "again_in", tidyPause)
			pause = time.Now().Add(tidyPause)
		}
	}
}

// Tidy does once what the store does by itself every second: it expires old hours, merges small files and
// seals hours that are over.
func (s *Store) Tidy() error {
	s.keep.Lock()
	defer s.keep.Unlock()
	if err := s.expire(); err != nil {
		return err
	}
	s.startSweep()
	hours := s.hours()
	for _, hour := range slices.Sorted(maps.Keys(hours)) {
		err := s.tidyHour(hour, hours)
		var bad *damagedError
		if errors.As(err, &bad) {
			s.checkFiles([]file{bad.file})
			err = nil // what is left is tidied next time
		}
		if err != nil {
			return err
		}
	}
	err := s.mergeRollups()
	var bad *damagedError
	if errors.As(err, &bad) {
		s.checkFiles([]file{bad.file})
		err = nil
	}
	return err
}

// Settle flushes and seals every hour that is over, without waiting for late rows.
func (s *Store) Settle(ctx context.Context) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	s.hasty.Store(true)
	defer s.hasty.Store(false)
	return s.Tidy()
}

// hours returns the live files by hour, in time order.
func (s *Store) hours() map[int64][]file {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[int64][]file{}
	for _, f := range sortedFiles(s.man.live) {
		m[f.hour()] = append(m[f.hour()], f)
	}
	return m
}

// tidyHour decides what an hour needs.
func (s *Store) tidyHour(hour int64, hours map[int64][]file) error {
	files := hours[hour]
	var small, level0 []file
	var rows0 int64
	unsealed := false
	for _, f := range files {
		unsealed = unsealed || !f.Sealed || !s.summed(f.Name)
		if f.Level > 0 {
			continue
		}
		level0 = append(level0, f)
		rows0 += f.Rows
		if f.Rows < int64(s.cfg.FlushRows)/2 {
			small = append(small, f)
		}
	}
	now := s.cfg.Now().UnixMilli()
	over := now >= hour+hourMS+s.cfg.SealGrace.Milliseconds() && s.rested(level0, now)
	if s.hasty.Load() {
		over = now >= hour+hourMS
	}
	switch {
	case unsealed && over || !unsealed && s.mayAmend(hour, files, false):
		return s.settleHour(hour, hours, unsealed)
	case rows0 >= int64(s.cfg.SealRows):
		return s.replace(level0, 1, false, nil)
	case len(small) >= s.cfg.MergeFiles:
		return s.replace(small, 0, false, nil)
	}
	return nil
}

// settleHour corrects an hour that is over by the inventory, and seals it when it is not or no longer.
func (s *Store) settleHour(hour int64, hours map[int64][]file, unsealed bool) (err error) {
	files := hours[hour]
	if s.mayAmend(hour, files, unsealed) {
		var changed bool
		if files, changed, err = s.amend(files); err != nil {
			return err
		}
		unsealed, hours[hour] = unsealed || changed, files
	}
	if !unsealed {
		return nil
	}
	sealed, err := s.seal(hour, files, slices.Concat(hours[hour-hourMS], hours[hour+hourMS]))
	if err != nil {
		return err
	}
	delete(hours, hour) // the next hour's election knows what became canonical in this one
	for _, f := range sealed {
		hours[f.hour()] = append(hours[f.hour()], f)
	}
	return nil
}

// summed reports whether a roll-up adds up the rows of a file.
func (s *Store) summed(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.man.sums[name] > 0
}

// rested reports whether no file came during the grace, or so many that they should be dealt with: an hour
// is not sealed again for each late row.
func (s *Store) rested(level0 []file, nowMS int64) bool {
	if len(level0) >= s.cfg.MergeFiles {
		return true
	}
	for _, f := range level0 {
		st, err := os.Stat(s.path(f.Name))
		if err == nil && nowMS-st.ModTime().UnixMilli() < s.cfg.SealGrace.Milliseconds() && st.ModTime().UnixMilli() <= nowMS {
			return false
		}
	}
	return true
}

// seal settles an hour: canonical rows across all observers, one sorted set of files and the hour's roll-up, in one change of
// the manifest. It returns the hour's files as they are then.
func (s *Store) seal(hour int64, files, beside []file) ([]file, error) {
	if err := s.checkFree(); err != nil {
		return nil, err
	}
	e, err := s.electHour(files, beside)
	if err != nil {
		return nil, err
	}
	in, stay, inBits := s.toRewrite(files, e.bits, e.flips)
	old := slices.Sorted(maps.Keys(s.endedBy(files)))
	var out []file
	roll, err := s.createRollup(hour, e, old, func(b *rollupBuilder) (of []file, err error) {
		var each func(*row) error
		if len(stay) == 0 {
			each = b.add
		}
		if len(in) > 0 {
			if out, err = s.merge(in, 1, true, inBits, each); err != nil {
				return nil, err
			}
		}
		if of = slices.Concat(stay, out); each != nil {
			return of, nil
		}
		return of, s.eachRow(of, b.add)
	})
	if err != nil {
		s.removeFiles(out)
		return nil, err
	}
	now := slices.Concat(stay, out)
	return now, s.swap(in, s.uncover(files, change{Add: slices.Concat(now, roll)}))
}

// toRewrite says which files of an hour are merged into new ones; the others stay, as sealed ones.
func (s *Store) toRewrite(files []file, bits []bitmap, flips []int) (in, stay []file, inBits []bitmap) {
	var total int64
	for _, f := range files {
		total += f.Rows
	}
	all := total <= int64(s.cfg.SealRows) && len(files) > 1
	for i, f := range files {
		if all || f.Level == 0 || flips[i] > 0 {
			in, inBits = append(in, f), append(inBits, bits[i])
			continue
		}
		f.Sealed = true
		stay = append(stay, f)
	}
	return in, stay, inBits
}

// replace merges files and swaps the result in with one change of the manifest.
func (s *Store) replace(in []file, level int, sealed bool, bits []bitmap) error {
	if err := s.checkFree(); err != nil {
		return err
	}
	out, err := s.merge(in, level, sealed, bits, nil)
	if err != nil {
		return err
	}
	return s.swap(in, s.uncover(in, change{Add: out}))
}

// swap makes a change that also takes out the files that were merged. When that fails the new files go.
func (s *Store) swap(in []file, c change) error {
	for _, f := range in {
		c.Del = append(c.Del, f.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, f := range in { // one of them may have been set aside meanwhile
		if _, live := s.man.live[f.Name]; !live {
			err = errors.New("a file was set aside during a merge")
		}
	}
	if err == nil {
		err = s.man.append(c)
	}
	if err != nil {
		s.removeFiles(slices.DeleteFunc(c.Add, func(f file) bool { return s.man.has(f.Name) }))
		return err
	}
	s.doomLocked(c.Del)
	return nil
}

// removeFiles deletes files that the manifest does not list, the last made first: what is left of them when that ends halfway does not
// tell of one that is gone.
func (s *Store) removeFiles(files []file) {
	for _, f := range slices.Backward(files) {
		remove(s.path(f.Name))
	}
}

// expire takes whole hours out: those older than KeepFor, then the oldest while there are more than
// KeepBytes or the disk is nearly full. Roll-ups go by an age of their own, once their rows are gone.
func (s *Store) expire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	c := change{Del: s.oldestLocked(now)}
	going := map[string]bool{}
	for _, n := range c.Del {
		going[n] = true
	}
	for name, f := range s.man.rolls {
		if !isLinks(name) && s.cfg.KeepRollups > 0 && f.hour()+hourMS <= now.Add(-s.cfg.KeepRollups).UnixMilli() &&
			!slices.ContainsFunc(f.Of, func(n string) bool { _, live := s.man.live[n]; return live && !going[n] }) {
			c.Del = append(append(c.Del, name), s.man.linksOf(name)...)
		}
	}
	if len(c.Del) == 0 {
		return nil
	}
	s.cfg.Log.Info("old hours are deleted", "files", len(c.Del))
	if err := s.man.append(c); err != nil {
		return err
	}
	s.doomLocked(c.Del)
	return nil
}

// oldestLocked names the segment files of the hours that must go, never those of the newest hour for want of space.
func (s *Store) oldestLocked(now time.Time) (names []string) {
	excess := s.excessLocked()
	if s.cfg.KeepFor <= 0 && excess <= 0 {
		return nil
	}
	byHour := map[int64][]file{}
	for _, f := range s.man.live {
		byHour[f.hour()] = append(byHour[f.hour()], f)
	}
	hours := slices.Sorted(maps.Keys(byHour))
	for i, hour := range hours {
		old := s.cfg.KeepFor > 0 && hour+hourMS <= now.Add(-s.cfg.KeepFor).UnixMilli()
		if !old && (excess <= 0 || i == len(hours)-1) {
			break
		}
		files := byHour[hour]
		slices.SortFunc(files, func(a, b file) int { return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.Name, b.Name)) })
		for _, f := range files {
			excess -= f.Bytes
			names = append(names, f.Name)
		}
	}
	return names
}

// excessLocked is how many bytes must go: those above KeepBytes, or above FullAt of the file system. What is about to be
// unlinked counts as gone.
func (s *Store) excessLocked() (excess int64) {
	var size, going int64
	for _, f := range s.man.live {
		size += f.Bytes
	}
	for _, f := range s.man.rolls {
		size += f.Bytes
	}
	for _, d := range s.doomed {
		going += d.bytes
	}
	if s.cfg.KeepBytes > 0 {
		excess = size - s.cfg.KeepBytes
	}
	if s.cfg.FullAt < 1 {
		if free, total, err := s.diskSpace(s.cfg.Dir); err == nil && total > 0 {
			over := int64(float64(total)*(1-s.cfg.FullAt)) - int64(free) - going
			if over > excess && over > 0 {
				excess = over
				s.early(over)
			}
		}
	}
	return excess
}

// early tells that rows are deleted before their time, once a minute at most.
func (s *Store) early(bytes int64) {
	if now := time.Now(); now.Sub(s.earlySaid) > time.Minute {
		s.earlySaid = now
		s.cfg.Log.Warn("the disk is nearly full; the oldest hours are deleted early", "dir", s.cfg.Dir, "bytes", bytes, "full_at", s.cfg.FullAt)
	}
}

// doomedFile is a file that is no longer live.
type doomedFile struct {
	name  string
	when  time.Time
	bytes int64
}

// doomLocked plans the deletion of files that are no longer live.
func (s *Store) doomLocked(names []string) {
	now := time.Now()
	for _, n := range names {
		d := doomedFile{name: n, when: now}
		if st, err := os.Stat(s.path(n)); err == nil {
			d.bytes = st.Size()
		}
		s.doomed = append(s.doomed, d)
	}
}

// unlinkDoomed deletes what no view pins, oldest first: a file is never deleted before the ones it
// replaced, so that footers always tell the whole story. With all the grace is not waited for.
func (s *Store) unlinkDoomed(all bool) {
	for {
		s.mu.Lock()
		if len(s.doomed) == 0 {
			s.mu.Unlock()
			return
		}
		d := s.doomed[0]
		if s.pins[d.name] > 0 || !all && time.Since(d.when) < unlinkGrace {
			s.mu.Unlock()
			return
		}
		s.doomed = s.doomed[1:]
		s.mu.Unlock()
		path := s.path(d.name)
		remove(path)
		s.mu.Lock()
		delete(s.man.dead, d.name)
		s.mu.Unlock()
		if _, newest := timesOfName(d.name); s.cfg.Now().UnixMilli()-newest > 24*hourMS {
			os.Remove(filepath.Dir(path))               // the hour, when empty
			os.Remove(filepath.Dir(filepath.Dir(path))) // the day
		}
	}
}
