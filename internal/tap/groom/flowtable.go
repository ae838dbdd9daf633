package groom

import "time"

// flowTable counts what conversations have sent, in memory of a fixed size: sets of ways entries. A conversation that
// finds its set full takes the place of the one that is silent for longest.
type flowTable struct {
	sets []([ways]flowEntry)
	mask uint64
	idle int64
}

const ways = 8

// flowEntry is 32 bytes.
type flowEntry struct {
	hash    uint64
	last    int64 // time of the last packet, nanoseconds; 0 in a free entry
	packets uint64
	bytes   uint64
}

// newFlowTable returns a table for at least n conversations, 32 bytes each.
func newFlowTable(n int, idle time.Duration) *flowTable {
	sets := powerOfTwo((n + ways - 1) / ways)
	return &flowTable{sets: make([][ways]flowEntry, sets), mask: uint64(sets - 1), idle: int64(idle)}
}

// find returns the entry of a conversation, a fresh one when it is new or was silent for too long. forgot reports that another
// had to go that was not silent for long.
func (t *flowTable) find(hash uint64, now int64) (e *flowEntry, forgot bool) {
	set := &t.sets[hash&t.mask]
	oldest := &set[0]
	for i := range set {
		e := &set[i]
		if e.hash == hash && e.last != 0 {
			if now-e.last > t.idle {
				*e = flowEntry{hash: hash}
			}
			e.last = max(now, 1)
			return e, false
		}
		if e.last < oldest.last {
			oldest = e
		}
	}
	forgot = oldest.last != 0 && now-oldest.last <= t.idle
	*oldest = flowEntry{hash: hash, last: max(now, 1)}
	return oldest, forgot
}

// powerOfTwo returns the least power of two that is n or more.
func powerOfTwo(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}
