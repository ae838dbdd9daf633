package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/session"
	"crosstap/internal/collect/store"
)

// Scopes and reasons of the gaps that the line notes.
const (
	scopeCollector = "collector"
	scopeExporter  = "exporter"

	ReasonKilled    = "collector was down (killed)"
	ReasonStopped   = "collector was stopped"
	ReasonSuspended = "collector was suspended, or the clock was set"
	ReasonKernel    = "datagrams dropped by the kernel: receive buffer full"
	ReasonQueue     = "datagrams dropped: decoders behind"
)

// Files in the data directory.
const (
	beatFile      = "collector.json"
	templatesFile = "templates.json"
)

func (c *Collector) templatesPath() string { return filepath.Join(c.cfg.Dir, templatesFile) }

// heartbeat tells a next start how this one ended. It is one small file, replaced every second.
type heartbeat struct{ dir string }

type beat struct {
	AliveNS int64 `json:"alive_ns"` // the collector ran at this time
	Clean   bool  `json:"clean"`    // and then ended in good order
	PID     int   `json:"pid"`
}

func (h heartbeat) path() string { return filepath.Join(h.dir, beatFile) }

// read returns the last beat; ok is false when there was none. A beat that a crash of the machine has damaged
// counts from the time the file was written.
func (h heartbeat) read() (b beat, ok bool) {
	text, err := os.ReadFile(h.path())
	if errors.Is(err, fs.ErrNotExist) {
		return b, false
	}
	if err == nil && json.Unmarshal(text, &b) == nil && b.AliveNS > 0 {
		return b, true
	}
	info, err := os.Stat(h.path())
	if err != nil {
		return b, false
	}
	return beat{AliveNS: info.ModTime().UnixNano()}, true
}

func (h heartbeat) write(nowNS int64, clean bool) error {
	text, err := json.Marshal(beat{nowNS, clean, os.Getpid()})
	if err != nil {
		return fmt.Errorf("collect: heartbeat: %w", err)
	}
	if err := os.WriteFile(h.path()+".new", text, 0o600); err != nil {
		return fmt.Errorf("collect: heartbeat: %w", err)
	}
	if err := os.Rename(h.path()+".new", h.path()); err != nil {
		return fmt.Errorf("collect: heartbeat: %w", err)
	}
	return nil
}

// start takes up what the last run left: when it ended, and the exporters' templates.
func (c *Collector) start(nowNS int64) {
	if c.cfg.Dir == "" || c.cfg.Import {
		return
	}
	if b, ok := c.beat.read(); ok && b.AliveNS < nowNS {
		reason := ReasonKilled
		if b.Clean {
			reason = ReasonStopped
		}
		c.note(store.Gap{FromNS: b.AliveNS, ToNS: nowNS, Scope: scopeCollector, Reason: reason})
	}
	n, err := c.sessions.Restore(c.templatesPath(), nowNS)
	if err != nil {
		c.cfg.Log.Warn("templates of the last run are lost; exporters will send them again", "err", err)
	} else if n > 0 {
		c.cfg.Log.Info("templates of the last run taken up", "sessions", n)
	}
	if err := c.RestoreCounters(c.cfg.Dir); err != nil {
		c.cfg.Log.Warn("counters of the last run are lost; coverage knows of no time before this start", "err", err)
	}
	c.warn(c.beat.write(nowNS, false))
}

// warnEvery is the least time between words about state that cannot be written: it is tried each second, and a disk may be full for a day.
const warnEvery = time.Minute

func (c *Collector) warn(err error) {
	if err == nil {
		return
	}
	now, last := time.Now().UnixNano(), c.warned.Load()
	if now-last >= int64(warnEvery) && c.warned.CompareAndSwap(last, now) {
		c.cfg.Log.Warn("collector state not written", "err", err)
	}
}

// note hands a gap to the store.
func (c *Collector) note(g store.Gap) {
	if err := c.cfg.Store.NoteGap(g); err != nil {
		c.cfg.Log.Warn("gap not noted", "reason", g.Reason, "err", err)
	}
}

func (c *Collector) noteAll(losses []session.Loss) {
	for _, l := range losses {
		if c.cfg.Import && l.Reason == session.ReasonSilent {
			continue
		}
		c.note(store.Gap{
			FromNS: l.FromNS, ToNS: l.ToNS, Scope: scopeExporter, Who: c.nameOf(l), Reason: l.Reason, LostRecords: l.Records,
		})
	}
}

// nameOf is what an exporter is called: as in the inventory, else its address and domain.
func (c *Collector) nameOf(l session.Loss) string {
	if o := (*c.who.Load()).ObserverOf(l.Exporter, l.Domain, 0, l.ToNS); o != nil {
		return o.Name
	}
	return fmt.Sprintf("%v/%d", l.Exporter, l.Domain)
}

// noteShed tells of datagrams that the line or the kernel dropped since the last time.
func (c *Collector) noteShed(nowNS int64) {
	if from, to, ok := c.shed.take(); ok {
		c.note(store.Gap{FromNS: from, ToNS: to + 1, Scope: scopeCollector, Reason: ReasonQueue})
	}
	c.shed.mu.Lock()
	defer c.shed.mu.Unlock()
	for i, l := range c.listeners {
		dropped := l.Book().Dropped[listen.DropKernel].N
		for len(c.shed.kernel) <= i {
			c.shed.kernel = append(c.shed.kernel, kernelDrops{atNS: nowNS})
		}
		k := &c.shed.kernel[i]
		if dropped > k.n {
			c.note(store.Gap{FromNS: k.atNS, ToNS: nowNS, Scope: scopeCollector, Who: l.Status().Addr, Reason: ReasonKernel})
		}
		*k = kernelDrops{n: dropped, atNS: nowNS}
	}
}

// kernelDrops is a listener's count of datagrams that the kernel dropped, as it was told last.
type kernelDrops struct {
	n    uint64
	atNS int64
}

// runTicks does what is due by time, until drained is closed.
func (c *Collector) runTicks(ctx context.Context, drained <-chan struct{}) error {
	last := time.Now().Round(0) // the wall clock: it goes on while the machine sleeps
	saved, mark := last, c.templatesMark()
	c.noteShed(last.UnixNano())
	eachTick(ctx, drained, func() {
		now := time.Now().Round(0)
		if now.Sub(last) > suspendedFrom && !c.cfg.Import {
			c.note(store.Gap{FromNS: last.UnixNano(), ToNS: now.UnixNano(), Scope: scopeCollector, Reason: ReasonSuspended})
		}
		last = now
		c.noteAll(c.sessions.Tick(now.UnixNano()))
		c.noteShed(now.UnixNano())
		if c.cfg.Dir == "" || c.cfg.Import {
			return
		}
		c.warn(c.beat.write(now.UnixNano(), false))
		if now.Sub(saved) < saveEvery {
			return
		}
		saved = now
		if m := c.templatesMark(); m != mark {
			mark = m
			c.warn(c.sessions.Save(c.templatesPath()))
		}
	})
	return nil
}

// eachTick calls f by the clock, until drained is closed.
func eachTick(ctx context.Context, drained <-chan struct{}, f func()) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-drained:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// templatesMark changes when the exporters' templates do.
func (c *Collector) templatesMark() (sum uint64) {
	for _, x := range c.sessions.Exporters(0) {
		sum += uint64(x.Templates) + x.Redefined + x.Withdrawals + uint64(len(x.Sessions))<<32
	}
	return sum
}
