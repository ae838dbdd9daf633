package meter

import (
	"math"

	"crosstap/internal/flow"
)

// entry is one flow in the cache: entryBytes. What nearly every packet needs comes first: the key in brief, the counters and the state are 96
// bytes, which are in two lines of the processor's cache wherever an entry begins.
//
// A flow whose record left because of the active timeout stays with no packets until it is idle: what its next record must
// know of it (the sequence numbers, the application) stays with it.
type entry struct {
	brief     briefKey // the key, or the first words of one that has more in it
	packets   uint64   // 0: between two records
	octets    uint64
	l2Octets  uint64
	lastNS    int64 // packet times
	lastClock int64 // meter's clock; of a biflow, in the half that leads
	deadline  int64 // when the record ends however busy the flow is; noDeadline between two records

	tcpFlags uint16
	minLen   uint16
	maxLen   uint16
	minTTL   uint8
	maxTTL   uint8
	state    state
	app      uint8  // apphint.App; while sLook is set, how many packets were looked at
	slot     uint16 // of the wheel
	nextSeq  uint32 // the sequence number behind the highest that was seen

	gapStart   uint32 // the first number missing when the last gap opened
	rttUS      uint32
	peer       uint32 // the other half of a biflow: number + 1, 0 for none
	gapAt      uint16 // when the last gap opened, in units of gapUnit; 0 for never
	tos        uint8
	firstFlags uint8 // TCP control bits of the first packet

	rest [restWords]uint64 // of a key that has more in it

	firstNS     int64 // looked at for packets that come late
	next        uint32
	prev        uint32 // neighbours in the wheel's slot: number + 1, 0 for none
	fragments   uint32
	retransmits uint32
	zeroWindows uint32

	outerPorts uint32 // source << 16 | destination of the tunnel, of the first packet
	vifs       uint32 // source << 16 | destination of the VN-Tag, of the first packet
	about      about
}

// entryBytes is the size of an entry.
const entryBytes = 224

const noDeadline = math.MaxInt64

// state is what is true of a flow.
type state uint8

const (
	sLive      state = 1 << iota // the entry is in use
	sClosing                     // the deadline is that of a closed TCP flow
	sTruncated                   // made from frames that the snap length cut
	sFollows                     // the other half of the biflow keeps the times and stands in the wheel
	sSeq                         // nextSeq is known
	sSyn                         // opened by a SYN that is not acknowledged yet
	sFin                         // this direction was closed
	sLook                        // the application is still looked for
)

// about is what is known of a conversation beside its figures: how its application is known (4 bits), who opened it
// (4 bits), and the number of its name (24 bits, 0 for none).
type about uint32

const (
	howShift          = 28
	openedHere  about = 1 << 24 // by the sender
	openedThere about = 1 << 25
	nameMask    about = 1<<24 - 1
)

func (a about) how() flow.AppHow { return flow.AppHow(a >> howShift) }
func (a about) name() uint32     { return uint32(a & nameMask) }
func (a *about) tell(how flow.AppHow, name uint32) {
	*a = *a&(openedHere|openedThere) | about(how)<<howShift | about(name)
}

// cache is an open-addressing hash table of flows. The table holds 8 bytes for each flow: the
// upper half of the hash, which settles nearly every comparison, and the entry's number.
// Entries never move.
type cache struct {
	index   []uint64 // hash & tagMask | number + 1; 0 is free
	mask    uint64
	entries []entry
	free    []uint32 // numbers given back
	used    uint32   // numbers ever given out
	n       int

	freeIndex, freeEntries func() // give the memory back
}

const (
	tagMask     = 0xffffffff_00000000
	firstSlots  = 1 << 13
	maxLoadOf16 = 10 // sixteenths of the table in use before it doubles
)

// newCache returns an empty cache for at most n flows.
func newCache(n int) cache {
	c := cache{index: make([]uint64, firstSlots), mask: firstSlots - 1, freeIndex: func() {}}
	c.entries, c.freeEntries = reserve[entry](n)
	return c
}

// release gives the cache's memory back.
func (c *cache) release() {
	c.freeIndex()
	c.freeEntries()
}

func (c *cache) at(number uint32) *entry { return &c.entries[number] }

// home returns the slot where a search begins. The tag alone decides it, so that the table grows
// without a look at the keys.
func (c *cache) home(hash uint64) uint64 { return hash >> 32 & c.mask }

// likely returns the number of the flow that find will most likely return for a hash, none without one, and brings
// the lines of its memory nearer that most packets need: one word of each. The second result has no meaning; without a use for it nothing would be loaded.
func (c *cache) likely(hash uint64) (uint32, uint64) {
	for i := c.home(hash); ; i = (i + 1) & c.mask {
		v := c.index[i]
		if uint32(v) == 0 {
			return none, 0
		}
		if (v^hash)&tagMask == 0 {
			e := c.at(uint32(v) - 1)
			return uint32(v) - 1, e.brief[0] + uint64(e.deadline) + uint64(e.gapStart)
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
	return e.state&sLive != 0 && e.same(k)
}

// find returns the number of the flow with this key.
func (c *cache) find(hash uint64, k *key) (uint32, bool) {
	for i := c.home(hash); ; i = (i + 1) & c.mask {
		v := c.index[i]
		if uint32(v) == 0 {
			return 0, false
		}
		if (v^hash)&tagMask == 0 {
			if number := uint32(v) - 1; c.at(number).same(k) {
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
	c.at(number).setKey(k)
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
	old, free := c.index, c.freeIndex
	defer free()
	c.index, c.freeIndex = reserve[uint64](2 * len(old))
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
