package collect

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"sync"
	"time"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/store"
	"crosstap/internal/identity"
)

// Counts go to the store this often, or when so many cells wait. A table that takes long to save is saved less often: a hundredth of the time goes into
// it at most.
const (
	countersEvery = 10 * time.Second
	countersMost  = 50_000
	countsAtOnce  = 10_000 // cells in one batch
	countsUnsent  = 256    // batches that may wait for the store; what is counted meanwhile waits in the table
)

// counting passes on what sFlow agents count.
type counting struct {
	metered func(context.Context) map[string]string

	mu       sync.Mutex // one at a time passes counts on
	feed     string
	seq      uint64
	unsent   []store.Counts
	adapters *counter.Adapters
	book     *identity.Book // that adapters are of
	failed   bool
}

// SetMetered tells for which reason flow records of machines, by name, do not tell of all that they send and receive. It is called before Run.
func (c *Collector) SetMetered(f func(context.Context) map[string]string) { c.counting.metered = f }

// RestoreCounters takes up what agents counted for a run before, from its data directory.
func (c *Collector) RestoreCounters(dir string) error {
	unsent, err := c.counters.Restore(filepath.Join(dir, counter.FileName))
	if err != nil {
		return err
	}
	c.counting.mu.Lock()
	defer c.counting.mu.Unlock()
	for _, text := range unsent {
		counts, err := store.ParseCounts(text)
		if err != nil {
			return err
		}
		c.counting.unsent = append(c.counting.unsent, counts)
	}
	return nil
}

// SaveCounters writes what the counters stand at into a data directory.
func (c *Collector) SaveCounters(dir string) error {
	if c.counters.Sources() == 0 {
		return nil
	}
	var unsent [][]byte
	for i := range c.counting.unsent {
		unsent = append(unsent, c.counting.unsent[i].Append(nil))
	}
	return c.counters.Save(filepath.Join(dir, counter.FileName), unsent)
}

// runCounters passes counts on until drained is closed.
func (c *Collector) runCounters(ctx context.Context, drained <-chan struct{}) error {
	next := time.Now().Add(countersEvery)
	eachTick(ctx, drained, func() {
		if n := c.counters.Waiting(); n < countersMost && time.Now().Before(next) {
			return
		}
		start := time.Now()
		c.passCounters(ctx)
		next = start.Add(max(countersEvery, 100*time.Since(start)))
	})
	return nil
}

// passCounters gives the store what was counted since the last time. Batches are saved before the store gets them, so that a collector that is killed
// tells them again, and the store knows which it has.
func (c *Collector) passCounters(ctx context.Context) {
	k := &c.counting
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh := c.takeCounters(ctx)
	if fresh && c.cfg.Dir != "" && !c.cfg.Import {
		c.warn(c.SaveCounters(c.cfg.Dir))
	}
	for len(k.unsent) > 0 {
		if err := c.cfg.Store.AppendCounts(ctx, k.unsent[0]); err != nil {
			if !k.failed && ctx.Err() == nil {
				c.cfg.Log.Warn("counters of agents are not stored yet; they wait", "batches", len(k.unsent), "err", err)
				k.failed = true
			}
			return
		}
		k.unsent = k.unsent[1:]
	}
	k.unsent, k.failed = nil, false
}

// takeCounters makes batches of what waits in the table, and reports whether there was something.
func (c *Collector) takeCounters(ctx context.Context) (fresh bool) {
	k := &c.counting
	reasons := map[string]string{}
	for len(k.unsent) < countsUnsent {
		rows := c.counters.Take(countsAtOnce)
		if len(rows) == 0 {
			return fresh
		}
		if !fresh {
			fresh = true
			c.knowAdapters()
			if k.metered != nil {
				reasons = k.metered(ctx)
			}
		}
		if k.feed == "" {
			k.feed = rand.Text()
		}
		k.seq++
		batch := store.Counts{Feed: k.feed, Seq: k.seq}
		for i := range rows {
			batch.List = k.owned(batch.List, &rows[i], reasons)
		}
		k.unsent = append(k.unsent, batch)
	}
	return fresh
}

// knowAdapters takes the inventory of now.
func (c *Collector) knowAdapters() {
	if now := c.who.Load(); c.counting.book != now {
		c.counting.book, c.counting.adapters = now, counter.NewAdapters(*now)
	}
}

// owned appends the counts of a source, one for each owner that it had.
func (k *counting) owned(list []store.Count, r *counter.Row, reasons map[string]string) []store.Count {
	first := len(list)
	for _, cell := range r.Cells {
		o := k.owner(r, cell.ToNS)
		o.Reason = reasons[o.VM]
		if len(list) == first || list[len(list)-1].Owner != o {
			list = append(list, store.Count{CountKey: store.CountKey(r.Key), Name: r.Name, UUID: r.UUID, Owner: o})
		}
		last := &list[len(list)-1]
		last.Cells = append(last.Cells, store.CountCell{FromNS: cell.FromNS, ToNS: cell.ToNS,
			InOctets: cell.InOctets, OutOctets: cell.OutOctets, InPackets: cell.InPackets, OutPackets: cell.OutPackets})
	}
	return list
}

// owner is who the inventory says has a source's adapter. Of a machine that the agent names itself it says where that is.
func (k *counting) owner(r *counter.Row, atNS int64) store.Owner {
	host := k.adapters.Host(r.Key, atNS)
	if r.Class == counter.Machine {
		return store.Owner{Host: host, VM: r.Name}
	}
	if v := k.adapters.Adapter(host, r.Name, atNS); v != nil {
		return store.Owner{Fabric: v.Fabric, Host: v.Host, VM: v.VM, VMID: v.VMID, FromNS: v.FromNS, ToNS: v.ToNS}
	}
	return store.Owner{Host: host}
}
