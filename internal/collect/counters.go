package collect

import (
	"path/filepath"
	"time"

	"crosstap/internal/collect/counter"
	"crosstap/internal/identity"
)

// countersEvery is how often the counters of sFlow agents are saved. A table that takes long to write is written less often: a hundredth of the time
// goes into it at most.
const countersEvery = time.Minute

// RestoreCounters takes up what agents counted for a run before, from its data directory.
func (c *Collector) RestoreCounters(dir string) error {
	_, err := c.counters.Restore(filepath.Join(dir, counter.FileName))
	return err
}

// SaveCounters writes what agents have counted into a data directory, with what the inventory says of it.
func (c *Collector) SaveCounters(dir string) error {
	if c.counters.Sources() == 0 {
		return nil
	}
	return c.counters.Save(filepath.Join(dir, counter.FileName), identity.Contents(*c.who.Load()))
}

// saveCounters saves them for the next start, and says when that is due again.
func (c *Collector) saveCounters() (next time.Time) {
	start := time.Now()
	c.warn(c.SaveCounters(c.cfg.Dir))
	return start.Add(max(countersEvery, 100*time.Since(start)))
}
