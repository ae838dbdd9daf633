// Package meter is the flow cache of the tap line: it turns frames into flow records, one for each
// metering key and stretch of activity. What is metered is the innermost packet of a frame; the
// tunnel around it is part of the key. The words are those of RFC 7011.
package meter

import (
	"fmt"
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
	// points that are known by their index alone. It is called once for each record, from the goroutine of Run.
	Point func(index uint32) Point
	// Dissector finds the packets inside the frames.
	Dissector *dissect.Dissector
}

// Point is what records say about the place where a flow was observed.
type Point struct {
	ID      uint64 // observationPointId (element 138)
	IfIndex uint32 // of the interface, 0 when there is none
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
	if c.Dissector == nil {
		return fmt.Errorf("meter: no dissector")
	}
	return nil
}
