package store

import (
	"context"
	"math/bits"
	"time"

	"crosstap/internal/flow"
)

// CountKey is what a hypervisor's agent counts at.
type CountKey struct {
	Agent  flow.Addr
	Domain uint32 // sub-agent
	Class  uint32 // 0 an interface, Index is its ifIndex; 3 a machine
	Index  uint32
}

// Owner is whose adapter was counted, as far as the inventory knew, and from when to when that holds.
type Owner struct {
	Fabric, Host, VM, VMID string
	Reason                 string // for which flow records do not tell of all that passed, where that was known; one of the reports' reasons
	FromNS, ToNS           int64  // ToNS is 0 for "still"
}

// CountCell is what went through in one stretch of time: octets of layer 2. In is what the interface, or the machine, received.
type CountCell struct {
	FromNS, ToNS          int64
	InOctets, OutOctets   uint64
	InPackets, OutPackets uint64
}

// Add adds what another cell says, which may lie before, after or within.
func (c *CountCell) Add(o CountCell) {
	c.FromNS, c.ToNS = min(c.FromNS, o.FromNS), max(c.ToNS, o.ToNS)
	c.InOctets, c.OutOctets = c.InOctets+o.InOctets, c.OutOctets+o.OutOctets
	c.InPackets, c.OutPackets = c.InPackets+o.InPackets, c.OutPackets+o.OutPackets
}

// Cut is the part of a cell in [fromNS, toNS), as if what it counts were spread evenly; ok is false for none. The parts of adjoining ranges add up to
// the cell.
func (c CountCell) Cut(fromNS, toNS int64) (part CountCell, ok bool) {
	from, to := max(c.FromNS, fromNS), min(c.ToNS, toNS)
	if from >= to {
		return part, false
	}
	before := func(n uint64, at int64) uint64 {
		hi, lo := bits.Mul64(n, uint64(at-c.FromNS))
		n, _ = bits.Div64(hi, lo, uint64(c.ToNS-c.FromNS)) // at is in the cell, so that this is at most n
		return n
	}
	between := func(n uint64) uint64 { return before(n, to) - before(n, from) }
	return CountCell{from, to, between(c.InOctets), between(c.OutOctets), between(c.InPackets), between(c.OutPackets)}, true
}

// Count is what one source has counted, while it had one owner.
type Count struct {
	CountKey
	Name  string // of the port or the machine, "" when the agent does not tell
	UUID  string // of the machine, "" when the agent does not tell
	Owner Owner
	Cells []CountCell // the oldest first
}

// Counts are counts that a collector tells together. Feed and Seq, which rises, tell a store which it has.
type Counts struct {
	Feed string // different for each run of a collector
	Seq  uint64
	List []Count
}

// Counters are kept in slots of minutes and hours: each source's by the minute in the latest hour that it has told of and the one before, and by the hour
// for eight days.
const (
	CountMinute = int64(time.Minute)
	CountHour   = int64(time.Hour)
	CountHours  = 8 * 24
)

// CountSlot is the start of the slot of a width in which a time lies.
func CountSlot(ns, width int64) int64 {
	at := ns - ns%width
	if at > ns {
		at -= width // before 1970
	}
	return at
}

// Slots calls f with the parts of a cell in the slots that may be kept of it: the hours, then the minutes.
func (c CountCell) Slots(f func(width, slot int64, part CountCell)) {
	last := CountSlot(c.ToNS-1, CountHour)
	c.each(CountHour, last-(CountHours-1)*CountHour, f)
	c.each(CountMinute, last-CountHour, f)
}

func (c CountCell) each(width, first int64, f func(width, slot int64, part CountCell)) {
	for at := max(CountSlot(c.FromNS, width), first); at < c.ToNS; at += width {
		if part, ok := c.Cut(at, at+width); ok {
			f(width, at, part)
		}
	}
}

// CountKeeper keeps what hypervisors count at virtual adapters, which coverage compares flows with.
type CountKeeper interface {
	// AppendCounts returns when the counts are as durable as flushed records. Those that the store has already are not taken again. After an error the
	// same counts may be given again.
	AppendCounts(ctx context.Context, c Counts) error
}

// CountReader tells what was kept.
type CountReader interface {
	// Counts returns each source with each of its owners, ordered by key and owner: all owners, and those cells that touch [fromNS, toNS).
	Counts(ctx context.Context, fromNS, toNS int64) ([]Count, error)
}
