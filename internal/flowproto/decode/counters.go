package decode

import (
	"crosstap/internal/flow"
)

// Counters is one counter sample of sFlow: what a source's counters stood at. It is valid until the function that got it
// returns.
type Counters struct {
	Agent      flow.Addr // the agent's own address
	Domain     uint32    // its sub-agent
	SourceType uint32    // 0: SourceID is an ifIndex; 1: a VLAN; 2: a physical entity; 3: a logical port
	SourceID   uint32
	Sequence   uint32 // of the source's counter samples
	UptimeMS   uint32 // of the agent
	RecvNS     int64
	Values     []Counter
}

// Counter is one number or text of a counter sample. Its Element tells name and type.
type Counter struct {
	Block string // the structure it stands in, as in the sFlow specifications: "if_counters", "host_cpu" …
	Value
}

// Uint returns the first value of that block and name.
func (c *Counters) Uint(block, name string) (uint64, bool) {
	for _, v := range c.Values {
		if v.Block == block && v.Element.Name == name && len(v.Bytes) <= 8 {
			return be(v.Bytes), true
		}
	}
	return 0, false
}
