package segment

import (
	"os"
	"path/filepath"
	"time"
)

// tidyLoop merges, seals and expires in the background.
func (s *Store) tidyLoop() {
	defer s.ended.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.tidy:
		case <-tick.C:
		}
		s.unlinkDoomed(false)
	}
}

// unlinkGrace is how long a replaced file stays for readers in other processes.
const unlinkGrace = 10 * time.Second

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
