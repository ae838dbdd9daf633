package segment

import (
	"cmp"
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
	return nil
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
		unsealed = unsealed || !f.Sealed
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
	over := now >= hour+hourMS+s.cfg.SealGrace.Milliseconds()
	switch {
	case unsealed && over && s.rested(level0, now):
		return s.seal(files, slices.Concat(hours[hour-hourMS], hours[hour+hourMS]))
	case rows0 >= int64(s.cfg.SealRows):
		return s.replace(level0, 1, false, nil)
	case len(small) >= s.cfg.MergeFiles:
		return s.replace(small, 0, false, nil)
	}
	return nil
}

// rested reports whether no file came during the grace, or so many that they should be dealt with: an hour
// is not sealed again for each late row.
func (s *Store) rested(level0 []file, nowMS int64) bool {
	if len(level0) >= s.cfg.MergeFiles {
		return true
	}
	for _, f := range level0 {
		st, err := os.Stat(filepath.Join(s.table, f.Name))
		if err == nil && nowMS-st.ModTime().UnixMilli() < s.cfg.SealGrace.Milliseconds() && st.ModTime().UnixMilli() <= nowMS {
			return false
		}
	}
	return true
}

// seal settles an hour: canonical rows across all observers, one sorted set of files. Roll-ups of the
// hour will be made here too, as further files of the same change of the manifest.
func (s *Store) seal(files, beside []file) error {
	bits, flips, err := s.electHour(files, beside)
	if err != nil {
		return err
	}
	var total int64
	for _, f := range files {
		total += f.Rows
	}
	all := total <= int64(s.cfg.SealRows) && len(files) > 1
	var in, marked []file
	var inBits []bitmap
	for i, f := range files {
		switch {
		case all || f.Level == 0 || flips[i] > 0:
			in, inBits = append(in, f), append(inBits, bits[i])
		case !f.Sealed:
			f.Sealed = true
			marked = append(marked, f)
		}
	}
	if len(marked) > 0 {
		s.mu.Lock()
		err := s.man.append(change{Add: marked})
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if len(in) == 0 {
		return nil
	}
	return s.replace(in, 1, true, inBits)
}

// replace merges files and swaps the result in with one change of the manifest.
func (s *Store) replace(in []file, level int, sealed bool, bits []bitmap) error {
	if err := s.checkFree(); err != nil {
		return err
	}
	out, err := s.merge(in, level, sealed, bits)
	if err != nil {
		return err
	}
	c := change{Add: out}
	for _, f := range in {
		c.Del = append(c.Del, f.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range in { // one of them may have been set aside meanwhile
		if _, live := s.man.live[f.Name]; !live {
			err = errors.New("a file was set aside during a merge")
		}
	}
	if err == nil {
		err = s.man.append(c)
	}
	if err != nil {
		for _, f := range out {
			os.Remove(filepath.Join(s.table, f.Name))
		}
		return err
	}
	s.doomLocked(c.Del)
	return nil
}

// expire takes whole hours out: those older than KeepFor, then the oldest while there are more than
// KeepBytes.
func (s *Store) expire() error {
	if s.cfg.KeepFor <= 0 && s.cfg.KeepBytes <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var size int64
	byHour := map[int64][]file{}
	for _, f := range s.man.live {
		size += f.Bytes
		byHour[f.hour()] = append(byHour[f.hour()], f)
	}
	var c change
	hours := slices.Sorted(maps.Keys(byHour))
	for i, hour := range hours {
		old := s.cfg.KeepFor > 0 && hour+hourMS <= s.cfg.Now().Add(-s.cfg.KeepFor).UnixMilli()
		full := s.cfg.KeepBytes > 0 && size > s.cfg.KeepBytes && i < len(hours)-1 // never the newest
		if !old && !full {
			break
		}
		files := byHour[hour]
		slices.SortFunc(files, func(a, b file) int { return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.Name, b.Name)) })
		for _, f := range files {
			size -= f.Bytes
			c.Del = append(c.Del, f.Name)
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

// doomedFile is a file that is no longer live.
type doomedFile struct {
	name string
	when time.Time
}

// doomLocked plans the deletion of files that are no longer live.
func (s *Store) doomLocked(names []string) {
	now := time.Now()
	for _, n := range names {
		s.doomed = append(s.doomed, doomedFile{n, now})
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
		delete(s.man.dead, d.name)
		s.mu.Unlock()
		path := filepath.Join(s.table, d.name)
		os.Remove(path)
		if _, newest := timesOfName(d.name); s.cfg.Now().UnixMilli()-newest > 24*hourMS {
			os.Remove(filepath.Dir(path))               // the hour, when empty
			os.Remove(filepath.Dir(filepath.Dir(path))) // the day
		}
	}
}
