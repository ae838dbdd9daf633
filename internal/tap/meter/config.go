// Package meter is the flow cache of the tap line: it turns frames into flow records, one for each
// metering key and stretch of activity. What is metered is the innermost packet of a frame, with the
// tunnel around it as part of the key, or the outermost one. The words are those of RFC 7011; what each figure counts is
// written in docs/guide/metering.md.
package meter

import (
	"fmt"
	"runtime"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
)

// Config says how frames become records.
type Config struct {
	// IdleTimeout ends a flow that saw no packet for so long.
	IdleTimeout time.Duration
	// ActiveTimeout ends the record of a flow that lasts, and starts its next one.
	ActiveTimeout time.Duration
	// CloseLinger is how long a TCP flow is kept after its FIN or RST, so that the last
	// acknowledgements join the same record.
	CloseLinger time.Duration
	// Key says which packet of a frame is metered, and what of a tunnel belongs to the flow.
	Key Key
	// Biflow gives the two directions of a conversation together (RFC 5103): the record of who opened it, and directly behind
	// it, with MarkReverse, that of the answers.
	Biflow bool
	// Workers is the number of goroutines that meter, each with a cache of its own; 0 for one for each processor.
	Workers int
	// MaxFlows bounds the cache. Beyond it, flows that were quiet for long end early (flowEndReason 5).
	MaxFlows int
	// Live measures idle and active time by the clock of the machine. Otherwise the time
	// stamps of the frames are the clock, as a capture file needs it.
	Live bool
	// Domain is the observation domain that the records carry.
	Domain uint32
	// Sampling is the N of one frame in N that reaches the meter; 0 and 1 for all.
	Sampling uint32
	// Point describes the observation point with an index of frame.Frame.Point; nil for
	// points that are known by their index alone. It is called once for each record, by all workers.
	Point func(index uint32) Point
	// Dissector finds the packets inside the frames.
	Dissector *dissect.Dissector
}

// Key says what a flow is.
type Key uint8

// The keys.
const (
	KeyInner Key = iota // the innermost packet; the tunnel's endpoints and its segment are part of the key, its ports are not
	KeyOuter            // the outermost packet; nothing inside it is looked at
	KeyBoth             // the innermost packet, and of the tunnel around it the ports as well
)

var keyNames = [...]string{"inner", "outer", "both"}

// String returns the key's name.
func (k Key) String() string {
	if int(k) < len(keyNames) {
		return keyNames[k]
	}
	return "unknown"
}

// ParseKey is the inverse of String.
func ParseKey(s string) (Key, error) {
	for i, n := range keyNames {
		if n == s {
			return Key(i), nil
		}
	}
	return 0, fmt.Errorf("meter: key %q: want inner, outer or both", s)
}

const maxWorkers = 64

// workers returns the number of workers.
func (c *Config) workers() int {
	if c.Workers == 0 {
		return min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	return c.Workers
}

// Point is what records say about the place where a flow was observed.
type Point struct {
	ID      uint64 // observationPointId (element 138)
	IfIndex uint32 // of the interface, 0 when there is none
	IfName  string // of the interface, "" when it is not known
	Name    string
	Host    string
	Role    flow.Role
}

// DefaultConfig returns the timeouts that a virtual distributed switch has, too: 15 s and 60 s.
func DefaultConfig() Config {
	return Config{
		IdleTimeout:   15 * time.Second,
		ActiveTimeout: 60 * time.Second,
		CloseLinger:   time.Second,
		Workers:       1,
		MaxFlows:      262144,
		Dissector:     dissect.New(dissect.Config{}),
	}
}

// Validate reports the first mistake.
func (c Config) Validate() error {
	const least, most = 10 * time.Millisecond, 24 * time.Hour
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"idle", c.IdleTimeout}, {"active", c.ActiveTimeout}} {
		if t.d < least || t.d > most {
			return fmt.Errorf("meter: %s timeout %s: must be %s to %s", t.name, t.d, least, most)
		}
	}
	if c.CloseLinger < 0 || c.CloseLinger > most {
		return fmt.Errorf("meter: close linger %s: must be 0s to %s", c.CloseLinger, most)
	}
	if c.MaxFlows < 1 || c.MaxFlows > 1<<28 {
		return fmt.Errorf("meter: %d flows at most: must be 1 to %d", c.MaxFlows, 1<<28)
	}
	if c.Key > KeyBoth {
		return fmt.Errorf("meter: key %d: must be inner, outer or both", c.Key)
	}
	if c.Workers < 0 || c.Workers > maxWorkers {
		return fmt.Errorf("meter: %d workers: must be 0 (one for each processor) to %d", c.Workers, maxWorkers)
	}
	if c.Dissector == nil {
		return fmt.Errorf("meter: no dissector")
	}
	return nil
}
