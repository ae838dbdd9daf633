package segment

import (
	"log/slog"
	"runtime"
	"time"
)

// Config says where the store is and how it behaves. A zero field means its default.
type Config struct {
	Dir      string
	ReadOnly bool // read beside a running writer; Append fails

	FlushInterval time.Duration // records are durable after that long; 2 s
	FlushRows     int           // or when that many wait; 20,480
	MaxPending    int           // rows in memory at most; 5 × FlushRows
	AppendWait    time.Duration // how long Append waits for room before it sheds; 1 s
	MinFree       int64         // bytes to leave on the file system; 64 MiB, negative for none

	MergeFiles int           // level 0 files of an hour that are merged into one; 32
	SealGrace  time.Duration // an hour is sealed that long after its end; 2 min
	SealRows   int           // rows in a level 1 file at most, and level 0 rows of an hour that are sorted early; 500,000
	KeepFor    time.Duration // hours older than that are deleted; 0 keeps them
	KeepBytes  int64         // the oldest hours are deleted above that size; 0 for no limit
	FullAt     float64       // and when the file system is fuller than that; 0.85, 1 or without MinFree never

	// KeepRollups is how long roll-ups are kept; 0 keeps them. They are small, and go only after the rows
	// they were made from.
	KeepRollups time.Duration

	Inventory Inventory // corrects rows when their hour is sealed, and for a day; nil for none

	QueryMemory  int64 // of the query engine, bytes; 25 % of the machine's, 128 to 384 MiB: with the latter each question takes less than 512 MB in all
	QueryThreads int   // at most; cores - 1, 1 to 2

	// Wrote, when given, is told of each batch that became durable: its rows, and the time since it was full or due. It must not wait.
	Wrote func(rows int, took time.Duration)

	Log *slog.Logger // nil is silent
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	span := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	span(&c.FlushInterval, 2*time.Second)
	span(&c.AppendWait, time.Second)
	span(&c.SealGrace, 2*time.Minute)
	def(&c.FlushRows, 20_480)
	c.FlushRows = min(c.FlushRows, mostRows)
	def(&c.MaxPending, 5*c.FlushRows)
	c.MaxPending = max(c.MaxPending, c.FlushRows)
	def(&c.MergeFiles, 32)
	def(&c.SealRows, 500_000)
	if c.MinFree == 0 {
		c.MinFree = 64 << 20
	}
	switch {
	case c.MinFree < 0:
		c.FullAt = 1
	case c.FullAt <= 0:
		c.FullAt = 0.85
	}
	if c.QueryMemory <= 0 {
		c.QueryMemory = min(max(int64(totalMemory()/4), 128<<20), 384<<20)
	}
	if c.QueryThreads <= 0 {
		c.QueryThreads = min(max(runtime.NumCPU()-1, 1), 2)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}
