package meter

import (
	"crosstap/internal/flow"
)

// entry is one flow in the cache: three cache lines. The key and the counters, which every packet
// touches, are the first two.
type entry struct {
	key        key
	packets    uint64
	octets     uint64
	l2Octets   uint64
	firstNS    int64 // packet times
	lastNS     int64
	startClock int64 // meter's clock
	lastClock  int64
	closeClock int64  // when a closed TCP flow ends, noClose for others
	next, prev uint32 // neighbours in the wheel's slot: index + 1, 0 for none
	slot       uint32 // of the wheel
	tcpFlags   uint16
	marks      flow.Mark
	outerPorts uint32 // source << 16 | destination of the tunnel
	tos        uint8
	firstFlags uint8 // TCP control bits of the first packet
	minTTL     uint8
	maxTTL     uint8
	live       bool
}

const noClose = 1<<63 - 1

// cache is an open-addressing hash table of flows. The table holds 8 bytes for each flow: the
// upper half of the hash, which settles nearly every comparison, and the entry's number.
// Entries never move.
type cache struct {
	index   []uint64 // hash & tagMask | number + 1; 0 is free
	mask    uint64
	entries []entry
	release func()   // gives the memory of entries back
	free    []uint32 // numbers given back
	used    uint32   // numbers ever given out
	n       int
}

const (
	tagMask     = 0xffffffff_00000000
	firstSlots  = 1 << 13
	maxLoadOf16 = 9 // sixteenths of the table in use before it doubles
)

// newCache returns an empty cache for at most n flows.
func newCache(n int) cache {
	c := cache{index: make([]uint64, firstSlots), mask: firstSlots - 1}
	c.entries, c.release = newEntries(n)
	return c
}

func (c *cache) at(number uint32) *entry { return &c.entries[number] }

// home returns the slot where a search begins. The tag alone decides it, so that the table grows
// without a look at the keys.
func (c *cache) home(hash uint64) uint64 { return hash >> 32 & c.mask }

// likely returns the number of the flow that find will most likely return for a hash, and brings
// its memory nearer. The second result has no meaning; without a use for it nothing would be loaded.
func (c *cache) likely(hash uint64) (uint32, uint64) {
	for i := c.home(hash); ; i = (i + 1) & c.mask {
		v := c.index[i]
		if uint32(v) == 0 {
			return none, 0
		}
		if (v^hash)&tagMask == 0 {
			e := c.at(uint32(v) - 1)
			return uint32(v) - 1, e.key[0] + e.packets + uint64(e.lastNS)
		}
	}
}

// none is the number of no flow.
const none = 1<<32 - 1

// is reports whether a number that likely gave is that of the flow with this key.
func (c *cache) is(number uint32, k *key) bool {
	if number == none {
		return false
	}
	e := c.at(number)
	return e.live && e.key == *k
}

// find returns the number of the flow with this key.
func (c *cache) find(hash uint64, k *key) (uint32, bool) {
	for i := c.home(hash); ; i = (i + 1) & c.mask {
		v := c.index[i]
		if uint32(v) == 0 {
			return 0, false
		}
		if (v^hash)&tagMask == 0 {
			if number := uint32(v) - 1; c.at(number).key == *k {
				return number, true
			}
		}
	}
}

// add makes an entry for a key that is not there. All its fields but the key are the caller's to set.
func (c *cache) add(hash uint64, k *key) uint32 {
	if uint64(c.n+1)*16 > uint64(len(c.index))*maxLoadOf16 {
		c.grow()
	}
	var number uint32
	if l := len(c.free); l > 0 {
		number, c.free = c.free[l-1], c.free[:l-1]
	} else {
		number = c.used
		c.used++
	}
	c.at(number).key = *k
	c.insert(hash&tagMask | uint64(number+1))
	c.n++
	return number
}

func (c *cache) insert(v uint64) {
	i := c.home(v)
	for uint32(c.index[i]) != 0 {
		i = (i + 1) & c.mask
	}
	c.index[i] = v
}

func (c *cache) grow() {
	old := c.index
	c.index = make([]uint64, 2*len(old))
	c.mask = uint64(len(c.index) - 1)
	for _, v := range old {
		if uint32(v) != 0 {
			c.insert(v)
		}
	}
}

// remove takes the flow out of the table and moves the ones behind it up, so that no search meets a gap.
func (c *cache) remove(hash uint64, number uint32) {
	i := c.home(hash)
	for uint32(c.index[i]) != number+1 {
		i = (i + 1) & c.mask
	}
	for j := i; ; {
		j = (j + 1) & c.mask
		v := c.index[j]
		if uint32(v) == 0 {
			break
		}
		// v may move to the gap when its home is not between the gap and j.
		if (j-c.home(v))&c.mask >= (j-i)&c.mask {
			c.index[i] = v
			i = j
		}
	}
	c.index[i] = 0
	c.free = append(c.free, number)
	c.n--
}
